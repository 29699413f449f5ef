"""Find out what lies in a file, a folder or a Hub repository, and load the SAE from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sae_traits.errors import CheckpointError
from sae_traits.sae.formats import dictionary_learning, sae_lens, saev, sparsify
from sae_traits.sae.formats.files import read_settings
from sae_traits.sae.model import CONFIG_FILE, SAE, SAEConfig

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Layout:
    """The files by which an SAE of a library is recognised in a folder."""

    library: str
    settings: str | None
    weights: tuple[str, ...]
    """One of these is there."""
    load: Callable[[Path], SAE]
    """From the folder."""
    besides: tuple[str, ...] = ()
    """Patterns of further files that may be read."""

    def lies_in(self, folder: Path) -> bool:
        """Whether the files are there."""
        has_settings = self.settings is None or (folder / self.settings).is_file()
        return has_settings and any((folder / name).is_file() for name in self.weights)

    def patterns(self) -> list[str]:
        """Everything that `load` may read."""
        return [*([self.settings] if self.settings else []), *self.weights, *self.besides]

    def __str__(self) -> str:
        return f"{' and '.join([*([self.settings] if self.settings else []), self.weights[0]])} ({self.library})"


def check_local(path: Path, *, subfolder: str, revision: str | None) -> None:
    """Raise a CheckpointError for what a file or folder on this machine does not have: revisions, or subfolders."""
    if revision is not None:
        raise CheckpointError(
            f"{path} lies on this machine, where nothing is known of the revision {revision!r}; leave out the "
            "revision, or, for the repository of this name on the Hub, call from another folder"
        )
    if subfolder and path.is_file():
        raise CheckpointError(
            f"{path} is a file and has no subfolder {subfolder!r}; leave out the subfolder, or give the folder that "
            "it lies in"
        )


def load_file(path: Path) -> SAE:
    """Load an SAE from its weights: the file of a known layout, settings beside it, or a saev file of any name.

    Raises:
        CheckpointError: it is no such file, or is damaged.
    """
    for layout in LAYOUTS:
        if path.name in layout.weights and layout.lies_in(path.parent):
            return layout.load(path.parent)
    return _load_saev_file(path)


def load_folder(folder: Path) -> SAE:
    """Load an SAE from its folder.

    Raises:
        CheckpointError: no known layout lies in it, or the files are damaged.
    """
    for layout in LAYOUTS:
        if layout.lies_in(folder):
            return layout.load(folder)
    raise CheckpointError(
        f"{folder} is not an SAE: it needs {', or '.join(map(str, LAYOUTS))}. "
        "Where there are several SAEs, give the folder of one"
    )


def download(repo_id: str, *, subfolder: str, **arguments: Any) -> Path:
    """The local snapshot of an SAE on the Hub, only the files that some layout has.

    Args:
        repo_id: `org/name`.
        subfolder: folder of the SAE in the repository.
        arguments: for `huggingface_hub.snapshot_download`.

    Raises:
        CheckpointError: it is no id, or the Hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = [str(PurePosixPath(subfolder) / name) for layout in LAYOUTS for name in layout.patterns()]
    try:
        return Path(snapshot_download(repo_id, allow_patterns=patterns, **arguments))
    except HFValidationError as error:
        raise CheckpointError(
            f"{repo_id} is neither a folder nor a file here, nor a Hub id such as org/name"
        ) from error
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"cannot get the SAE {repo_id!r} from the Hub ({reason}); check the id, the network and, "
            "for a private repository, `hf auth login`; or give a local folder"
        ) from error


def _load_own(folder: Path) -> SAE:
    from huggingface_hub import load_torch_model
    from safetensors import SafetensorError

    sae = SAE.from_config(SAEConfig.from_dict(read_settings(folder / CONFIG_FILE).values))
    whole = folder / WEIGHTS_FILE
    try:
        load_torch_model(sae, whole if whole.is_file() else folder, strict=True, safe=True)
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: the weights do not fit config.json: {' '.join(str(error).split())}"
        ) from error
    return sae.eval()


def _load_saev_file(path: Path) -> SAE:
    header = saev.read_header(path)
    if header is None:
        raise CheckpointError(
            f"{path} is not an SAE: looked for a folder with {', or '.join(map(str, LAYOUTS))}; "
            "a saev file is a line of JSON with d_vit and exp_factor, then a torch pickle"
        )
    return saev.load_saev(path, header)


LAYOUTS = (
    Layout(
        "sae-traits",
        CONFIG_FILE,
        (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json"),
        _load_own,
        besides=("model-*-of-*.safetensors",),
    ),
    Layout(
        "SAELens",
        sae_lens.SETTINGS_FILE,
        (sae_lens.WEIGHTS_FILE,),
        sae_lens.load_sae_lens,
        besides=(sae_lens.SCALER_FILE,),
    ),
    Layout("sparsify", sparsify.SETTINGS_FILE, (sparsify.WEIGHTS_FILE,), sparsify.load_sparsify),
    Layout(
        "dictionary_learning",
        dictionary_learning.SETTINGS_FILE,
        (dictionary_learning.WEIGHTS_FILE,),
        dictionary_learning.load_dictionary_learning,
    ),
    Layout("saev 1", None, (saev.FILE,), lambda folder: _load_saev_file(folder / saev.FILE)),
)
"""In the order in which they are looked for."""
