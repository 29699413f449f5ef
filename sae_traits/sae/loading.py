"""Find out what lies in a file, a folder or a Hub repository, and load the SAE from it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.sae.formats import dictionary_learning, sae_lens, saev, sparsify
from sae_traits.sae.formats.files import Weights, read_safetensors, read_settings, shapes_of
from sae_traits.sae.model import CONFIG_FILE, SAE, WEIGHTS, WEIGHTS_FILE, SAEConfig

LISTED_FOLDERS = 12
"""Folders with an SAE that a message names."""


@dataclass(frozen=True)
class Layout:
    """The files by which an SAE of a library is recognised in a folder."""

    library: str
    settings: tuple[str, ...]
    """All of these are there."""
    weights: tuple[str, ...]
    """One of these is there."""
    load: Callable[[Path], SAE]
    """From the folder."""
    besides: tuple[str, ...] = ()
    """Patterns of further files that `load` may read."""

    def lies_among(self, names: Collection[str]) -> bool:
        """Whether the files of a folder make such an SAE."""
        return all(name in names for name in self.settings) and any(name in names for name in self.weights)

    def __str__(self) -> str:
        return f"{' and '.join([*self.settings, self.weights[0]])} ({self.library})"


def load_local(path: Path, *, subfolder: str, revision: str | None) -> SAE:
    """Load an SAE from its weights, with settings beside them or in a saev file of any name, or from its folder.

    Raises:
        CheckpointError: it is no such file or folder, or is damaged; there is no revision, or a file has no subfolder.
    """
    if revision is not None:
        raise CheckpointError(
            f"{path} lies on this machine, where nothing is known of the revision {revision!r}; leave out the "
            "revision, or, for the repository of this name on the Hub, call from another folder"
        )
    if path.is_dir():
        return load_folder(path / subfolder)
    if subfolder:
        raise CheckpointError(
            f"{path} is a file and has no subfolder {subfolder!r}; leave out the subfolder, or give the folder that "
            "it lies in"
        )
    names = _names_in(path.parent)
    layout = next((it for it in LAYOUTS if path.name in it.weights and it.lies_among(names)), None)
    return layout.load(path.parent) if layout else _load_saev_file(path)


def load_folder(folder: Path) -> SAE:
    """Load an SAE from its folder; a CheckpointError where no known layout lies in it, or the files are damaged."""
    names = _names_in(folder)
    for layout in LAYOUTS:
        if layout.lies_among(names):
            return layout.load(folder)
    inner = folders_with_an_sae(str(path.relative_to(folder)) for path in folder.glob("*/**/*"))
    raise CheckpointError(
        f"{folder} is not an SAE: it needs {', or '.join(map(str, LAYOUTS))}. "
        f"{_advice(inner) or 'Where there are several SAEs, give the folder of one'}"
    )


def folders_with_an_sae(files: Iterable[str]) -> list[str]:
    """Of the paths of files, the folders that hold an SAE of a known layout; the root is an empty string."""
    names: dict[str, set[str]] = defaultdict(set)
    for file in map(PurePosixPath, files):
        names["" if file.parent == PurePosixPath() else str(file.parent)].add(file.name)
    return sorted(folder for folder, inside in names.items() if any(layout.lies_among(inside) for layout in LAYOUTS))


def _names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()


def _advice(folders: Sequence[str]) -> str:
    """What to do where SAEs lie in subfolders; nothing where there is none."""
    if not folders:
        return ""
    some = ", ".join(folders[:LISTED_FOLDERS]) + (f" and {n} more" if (n := len(folders) - LISTED_FOLDERS) > 0 else "")
    return f"There are SAEs in its folders {some}: name one with --subfolder (in Python subfolder=)"


def download(repo_id: str, *, subfolder: str, revision: str | None, token: str | bool | None, **arguments: Any) -> Path:
    """The folder of an SAE in the local snapshot of its repository, of only the files that some layout has.

    The arguments are those of `SAE.from_pretrained` and further ones of `huggingface_hub.snapshot_download`.

    Raises:
        CheckpointError: it is no id, the Hub does not give it, or no SAE lies there.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError

    names = [name for layout in LAYOUTS for name in (*layout.settings, *layout.weights, *layout.besides)]
    patterns = [str(PurePosixPath(subfolder) / name) for name in names]
    try:
        snapshot = snapshot_download(repo_id, allow_patterns=patterns, revision=revision, token=token, **arguments)
        folder = Path(snapshot, subfolder)
        if folders_with_an_sae(_names_in(folder)):
            return folder
        if arguments.get("local_files_only"):
            raise CheckpointError(f"{repo_id} has no SAE in {subfolder or 'its root'} among the files on this machine")
        folders = folders_with_an_sae(HfApi(token=token).list_repo_files(repo_id, revision=revision))
        where = f"no folder {subfolder!r} with an SAE" if subfolder else "no SAE at its root"
        raise CheckpointError(
            f"{repo_id} has {where}: one is {', or '.join(map(str, LAYOUTS))}. "
            f"{_advice(folders) or 'None of its other folders has one either'}"
        )
    except HFValidationError as error:
        raise CheckpointError(
            f"{repo_id} is neither a folder nor a file here, nor a Hub id such as org/name; a folder inside a "
            "repository is given by --subfolder (in Python subfolder=)"
        ) from error
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"there is no folder or file {repo_id} here, and from the Hub the SAE cannot be had ({reason}); check the "
            "path or the id, the network and, for a private repository, `hf auth login`"
        ) from error


def _load_own(folder: Path) -> SAE:
    """Read our own layout; nothing is made of the sizes in config.json before the weights are seen to have them."""
    config = SAEConfig.from_dict(read_settings(folder / CONFIG_FILE).values)
    whole = folder / WEIGHTS_FILE
    tensors: dict[str, Tensor] = {}
    for name in [WEIGHTS_FILE] if whole.is_file() else _shards(folder / f"{WEIGHTS_FILE}.index.json"):
        tensors |= read_safetensors(folder / name).tensors
    shapes = shapes_of(config.d_model, config.n_latents)
    try:
        if "W_dec" in tensors and tuple(tensors["W_dec"].shape) == shapes["W_dec"]:
            sae = SAE.from_config(config)
            shapes = {name: tuple(tensor.shape) for name, tensor in sae.state_dict().items()}
            sae.load_state_dict(Weights(whole, tensors).take(shapes))
            return sae.eval()
        Weights(whole, tensors).take(shapes, unused=tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: the weights do not fit config.json: {error}") from error
    raise AssertionError("W_dec is missing or of another shape, which `take` refuses")


def _shards(index: Path) -> list[str]:
    """The files of large weights, which lie beside their index whatever that says."""
    names = sorted({str(name) for name in read_settings(index).section("weight_map").values.values()})
    if strange := [name for name in names if not WEIGHTS.fullmatch(name)]:
        raise CheckpointError(f"{index} names a file {strange[0]!r}, which is not one of weights")
    return names


def _load_saev_file(path: Path) -> SAE:
    header = saev.read_header(path)
    if header is None:
        raise CheckpointError(
            f"{path} is not an SAE: looked for a folder with {', or '.join(map(str, LAYOUTS))}; "
            "a saev file is a line of JSON with d_vit and exp_factor, or schema and cfg, then a torch pickle"
        )
    return saev.load_saev(path, header)


LAYOUTS = (
    Layout(
        "sae-traits",
        (CONFIG_FILE,),
        (WEIGHTS_FILE, f"{WEIGHTS_FILE}.index.json"),
        _load_own,
        besides=("model-*-of-*.safetensors",),
    ),
    Layout(
        "SAELens", (sae_lens.SETTINGS_FILE,), (sae_lens.WEIGHTS_FILE,), sae_lens.load_sae_lens, (sae_lens.SCALER_FILE,)
    ),
    Layout("sparsify", (sparsify.SETTINGS_FILE,), (sparsify.WEIGHTS_FILE,), sparsify.load_sparsify),
    Layout(
        "dictionary_learning",
        (dictionary_learning.SETTINGS_FILE,),
        (dictionary_learning.WEIGHTS_FILE,),
        dictionary_learning.load_dictionary_learning,
    ),
    Layout("saev", (), (saev.FILE,), lambda folder: _load_saev_file(folder / saev.FILE)),
)
"""In the order in which they are looked for."""
