"""The sparse autoencoder: a plain torch module that saves, loads and publishes itself.

Layout of the weights (and of model.safetensors): `W_enc [d_model, n_latents]`, `b_enc [n_latents]`,
`W_dec [n_latents, d_model]`, `b_dec [d_model]`, and in some architectures `threshold [n_latents]`.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sae_traits import __version__
from sae_traits.errors import CheckpointError, ConfigError, ReleaseError, StoreError, one_line
from sae_traits.io import json_text
from sae_traits.schema import BackboneInfo

if TYPE_CHECKING:
    from sae_traits.sae.sparse_encoding import SparseCodes

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
"""Names of the files that hold an SAE's weights: one, or several and their index."""
MODEL_TYPE = "sae-traits"


@dataclass(frozen=True, kw_only=True)
class SAEConfig:
    """What config.json holds: everything that the numbers depend on."""

    architecture: str
    """A name of `architectures.ARCHITECTURES`."""
    d_model: int
    n_latents: int
    k: int | None = None
    """Active latents per patch: exactly (`topk`), or on average while training (`batch_topk`, `jump_relu`)."""
    prefixes: tuple[int, ...] = ()
    """Matryoshka: the first so many latents were trained to reconstruct on their own, besides all of them."""
    subtract_decoder_bias: bool = True
    """Whether `b_dec` is subtracted from the input before encoding."""
    backbone: BackboneInfo | None = None
    """Where the features come from; None when the SAE was trained on features of unknown origin."""
    training: dict[str, Any] = field(default_factory=dict)
    """Training data, settings and measures, for the record."""
    sae_traits_version: str = __version__

    def __post_init__(self) -> None:
        for name in ("d_model", "n_latents", *(["k"] if self.k is not None else [])):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise CheckpointError(f"{name} of an SAE is a whole number of at least 1, not {value!r}")
        if self.k is not None and self.k > self.n_latents:
            raise CheckpointError(f"k ({self.k}) cannot exceed the {self.n_latents} latents")
        object.__setattr__(self, "prefixes", tuple(self.prefixes))  # JSON has lists only
        ends = (0, *self.prefixes, self.n_latents)
        if any(first >= end for first, end in pairwise(ends)):
            raise CheckpointError(f"prefixes must rise and stay below {self.n_latents} latents, not {self.prefixes}")

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self) | {"backbone": self.backbone.to_dict() if self.backbone else None}
        return {"model_type": MODEL_TYPE} | values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SAEConfig:
        """The configuration that `to_dict` wrote; a CheckpointError where it is another one, or a field is missing."""
        if values.get("model_type") != MODEL_TYPE:
            raise CheckpointError(
                f"config.json has model_type {values.get('model_type')!r}, not {MODEL_TYPE!r}: not an SAE of sae-traits"
            )
        known = {f.name for f in fields(cls)}
        plain = {name: value for name, value in values.items() if name in known}
        try:
            if plain.get("backbone") is not None:
                plain["backbone"] = BackboneInfo.from_dict(plain["backbone"])
            return cls(**plain)
        except (TypeError, KeyError) as error:
            raise CheckpointError(f"config.json of the SAE is incomplete: {error}") from error


class SAE(nn.Module, ABC):
    """A dictionary of patch features: latents = f((x - b_dec) W_enc + b_enc), x̂ = latents W_dec + b_dec.

    A subclass per architecture says what f is (`activate`); `from_config` and `from_pretrained` find it by the name in
    the configuration.

    Source: Pahuja et al. 2026, section 3.1, equations 1 and 2.
    """

    def __init__(self, config: SAEConfig, *, seed: int = 0) -> None:
        """A new SAE: random unit-norm decoder rows, `W_enc` their transpose, biases zero."""
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        decoder = torch.randn(config.n_latents, config.d_model, generator=generator)
        decoder = nn.functional.normalize(decoder, dim=1)
        self.W_dec = nn.Parameter(decoder)
        self.W_enc = nn.Parameter(self.encoder_of(decoder))
        self.b_enc = nn.Parameter(torch.zeros(config.n_latents))
        self.b_dec = nn.Parameter(torch.zeros(config.d_model))

    @staticmethod
    def from_config(config: SAEConfig, *, seed: int = 0) -> SAE:
        """A new SAE of the configuration's architecture; a CheckpointError where there is none, or it lacks its k."""
        from sae_traits.sae.architectures import sae_class

        return sae_class(config.architecture)(config, seed=seed)

    @abstractmethod
    def activate(self, pre: Tensor) -> Tensor:
        """Latents `[n, n_latents]`, zero or positive, of pre-activations; differentiable where the SAE is trained."""

    def gate(self) -> Tensor | None:
        """`[n_latents]`: a latent is its own pre-activation where that is larger than this, and zero elsewhere.

        None where a latent depends on the other latents too.
        """
        return None

    @property
    def thresholds(self) -> tuple[nn.Parameter, ...]:
        """The tensor `threshold [n_latents]`, in the unit of latents, where the architecture has one."""
        return ()

    @staticmethod
    def encoder_of(decoder: Tensor) -> Tensor:
        """The initial `W_enc` to a decoder `[n_latents, d_model]`."""
        return decoder.T.clone()

    def centred(self, x: Tensor) -> Tensor:
        """What the encoder's weights are multiplied with, in their precision, of features `[n, d_model]`."""
        if self.config.subtract_decoder_bias:
            x = x - self.b_dec
        return x.to(self.W_enc.dtype)

    def pre_activations(self, x: Tensor) -> Tensor:
        """Pre-activations `[n, n_latents]` of features `[n, d_model]`."""
        return torch.addmm(self.b_enc, self.centred(x), self.W_enc)

    def encode(self, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`, zero or positive, of features `[n, d_model]`; errors as of `check_width`."""
        self.check_width(x)
        return self.activate(self.pre_activations(x))

    def check_width(self, x: Tensor) -> None:
        """Raise a CheckpointError where `x` is no features `[n, d_model]` for this SAE."""
        d_model = self.config.d_model
        _check_tensor(x, f"features [n, {d_model}]")
        if x.ndim != 2:
            raise CheckpointError(
                f"an SAE reads features [n, {d_model}], one row per patch, not {list(x.shape)}; "
                "bring the patches of several images into one axis, for example with flatten(0, 1)"
            )
        if x.shape[1] != d_model:
            info = self.config.backbone
            origin = "" if info is None else f", of {info.backbone} at {info.layers}"
            raise CheckpointError(
                f"this SAE reads features of width {d_model}{origin}; these are of width {x.shape[1]}. "
                "Give it the features that it was trained on (`sae_traits.load_extractor` makes them)"
            )

    def encode_sparse(self, x: Tensor, threshold: Tensor | float = 0.0, *, max_bytes: int = 64 * 2**20) -> SparseCodes:
        """The latents above a threshold, as compressed sparse rows; arguments and errors as of `encode_sparse`."""
        from sae_traits.sae.sparse_encoding import encode_sparse

        return encode_sparse(self, x, threshold, max_bytes=max_bytes)

    def decode(self, latents: Tensor) -> Tensor:
        """Features `[n, d_model]` of latents `[n, n_latents]`; a CheckpointError where these are none of this SAE."""
        _check_tensor(latents, f"latents [n, {self.config.n_latents}]")
        if latents.ndim != 2 or latents.shape[1] != self.config.n_latents:
            raise CheckpointError(
                f"this SAE decodes latents [n, {self.config.n_latents}], one row per patch, not {list(latents.shape)}"
            )
        return latents.to(self.W_dec.dtype) @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction `[n, d_model]` of features `[n, d_model]`."""
        return self.decode(self.encode(x))

    def __repr__(self) -> str:
        config, info = self.config, self.config.backbone
        facts = {"d_model": config.d_model, "n_latents": config.n_latents, "k": config.k}
        if info is not None:
            facts |= {"backbone": info.backbone, "layer": info.layer, "second_layer": info.second_layer}
        return f"{type(self).__name__}({', '.join(f'{name}={v}' for name, v in facts.items() if v is not None)})"

    def weights_hash(self) -> str:
        """16 hexadecimal digits of the weights and what f depends on: a revision where the Hub gives none."""
        config = self.config
        digest = hashlib.sha256(f"{config.architecture} {config.k} {config.subtract_decoder_bias}".encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def encode_tiles(self, x: Tensor, max_bytes: int = 64 * 2**20) -> Iterator[tuple[int, Tensor]]:
        """Latents a few rows at a time, as first row and `[n_rows, n_latents]`: no dense array exceeds `max_bytes`."""
        rows = max(1, max_bytes // (4 * self.config.n_latents))
        for start in range(0, len(x), rows):
            yield start, self.encode(x[start : start + rows])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors (sharded when larger than 5 GB).

        Raises:
            CheckpointError: the configuration names another architecture.
            StoreError: the weights cannot be written, for example because the disk is full.
        """
        from huggingface_hub import save_torch_model
        from safetensors import SafetensorError

        from sae_traits.sae.architectures import sae_class

        if type(self) is not sae_class(self.config.architecture):
            raise CheckpointError(
                f"a {type(self).__name__} whose config says {self.config.architecture!r} would load as something else"
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / CONFIG_FILE
        try:
            settings.write_text(json_text(self.config.to_dict()), encoding="utf-8")
            save_torch_model(self, folder, metadata={"format": "pt"})
        except (SafetensorError, OSError) as error:
            raise StoreError(f"cannot write the SAE to {folder}: {error}") from error
        for file in folder.iterdir():  # they are made for their owner alone
            if WEIGHTS.fullmatch(file.name):
                shutil.copymode(settings, file)

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        *,
        subfolder: str = "",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SAE:
        """Load an SAE from a folder, a file, or the Hugging Face Hub: ours, or another library's (see `loading`).

        Args:
            path_or_id: folder of an SAE, file with its weights, or Hub id `org/name`.
            subfolder: folder of the SAE inside `path_or_id`, which is then a folder or a Hub id.
            revision: branch, tag or commit on the Hub; what lies here has none.
            token: Hub token; by default the one of the environment or of `hf auth login`.
            cache_dir: where downloads are kept.
            local_files_only: never go to the network.
            device: where the weights are put.
            dtype: precision of the weights, such as torch.bfloat16; by default float32.

        Returns:
            An instance of the architecture's subclass, ready for inference.

        Raises:
            CheckpointError: nothing usable was found; the message names what was looked for.
            ConfigError: the dtype is not one of torch's for real numbers.
        """
        from sae_traits.sae.loading import download, load_folder, load_local

        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ConfigError(f"the dtype of an SAE is torch.float32, torch.bfloat16 or the like, not {dtype!r}")
        path = Path(path_or_id)
        if path.is_file() or path.is_dir():
            sae = load_local(path, subfolder=subfolder, revision=revision)
        else:
            place = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
            sae = load_folder(download(str(path_or_id), subfolder=subfolder, **place))
        if not isinstance(sae, cls):
            raise CheckpointError(f"this is a {type(sae).__name__}, not a {cls.__name__}; load it with SAE")
        return sae.to(device, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        token: str | bool | None = None,
        license: str | None = None,
        message: str = "Upload an SAE with sae-traits",
    ) -> str:
        """Publish config.json and the weights in one commit, whose id is returned, in the place of earlier weights.

        A card comes with them, which names the `license` (mit, cc-by-4.0, an address; None is unknown), unless the
        repository has one of another origin. Its other files are left as they are. A run's SAE, or a sweep, is
        published with all that is known of it by `sae-traits publish`.

        Raises:
            ReleaseError: the Hub refuses, cannot be reached, or the repository holds a sweep.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2, as huggingface_hub is 1 or 2
        )

        from sae_traits.sae.card import BARE, CARD, bare_card
        from sae_traits.sae.sweep_folder import SWEEP_FILE

        api = HfApi(token=token, library_name="sae-traits", library_version=__version__)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            present = api.list_repo_files(repo_id, revision=revision)
            if SWEEP_FILE in present:
                raise ReleaseError(
                    f"{repo_id} holds a sweep, whose record this SAE would contradict; choose another one"
                )
            with tempfile.TemporaryDirectory() as folder:
                self.save_pretrained(folder)
                former = CARD in present and api.hf_hub_download(repo_id, CARD, revision=revision)
                if not former or BARE in Path(former).read_text(encoding="utf-8"):
                    card = bare_card(self.config.to_dict(), repo_id, license=license)
                    Path(folder, CARD).write_text(card, encoding="utf-8")
                files = sorted(Path(folder).iterdir())
                names = {file.name for file in files}
                stale = [path for path in present if WEIGHTS.fullmatch(path) and path not in names]
                operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
                operations += [CommitOperationDelete(path_in_repo=path) for path in stale]
                return api.create_commit(repo_id, operations, commit_message=message, revision=revision).oid
        except HfHubHTTPError as error:
            status = error.response.status_code
            raise ReleaseError(
                f"the Hub refused to publish {repo_id} ({status}); check the name, the revision and the token "
                "(HF_TOKEN or `hf auth login`)"
            ) from error
        except HFValidationError as error:
            raise ReleaseError(f"{repo_id!r} is no Hub id such as org/name: {one_line(error)}") from error
        except (OSError, HTTPError) as error:
            message = f"cannot publish {repo_id}: {one_line(error)}; check the network, and try again"
            raise ReleaseError(message) from error


def _check_tensor(x: Any, wanted: str) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise CheckpointError(f"an SAE takes {wanted} as a torch tensor of real numbers, not {kind}")
