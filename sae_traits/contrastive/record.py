"""How a CLIP was trained: OUT/training.json, which knows its own content and that of the model's files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sae_traits.config.finetune import FinetuneConfig
from sae_traits.config.tree import as_dict, build, with_absolute_paths
from sae_traits.contrastive.checkpoint import Curve
from sae_traits.contrastive.folder import CHECKPOINT, RECORD
from sae_traits.contrastive.texts import CutTexts
from sae_traits.errors import ConfigError, ReleaseError
from sae_traits.io import hash_of_file, read_sealed, sealed_json, write_text
from sae_traits.release.cards import CARD
from sae_traits.release.image_terms import Licenses


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What is known of a finished training."""

    config: FinetuneConfig
    base: str
    """Hub id, or absolute path, of the model that was trained further."""
    base_revision: str
    n_pairs: int
    """Images with texts that it was trained on."""
    n_steps: int
    licenses: Licenses
    """Of the images that it was trained on, also of those that were replayed."""
    cut_texts: dict[str, CutTexts]
    curve: Curve
    files: dict[str, str]
    """Path in the model's folder -> sha256 of the file; the card is left out, since a person may write into it."""
    fingerprint: str
    """Of settings, model and data; empty in records of before it was kept."""

    def save(self, out: Path) -> None:
        """Write OUT/training.json."""
        values = {
            "config": as_dict(with_absolute_paths(self.config)),
            "base": {"model": self.base, "revision": self.base_revision},
            "n_pairs": self.n_pairs,
            "n_steps": self.n_steps,
            "licenses": [[license, n] for license, n in self.licenses.items()],
            "cut_texts": {kind: asdict(of) for kind, of in self.cut_texts.items()},
            "curve": self.curve,
            "files": self.files,
            "fingerprint": self.fingerprint,
        }
        write_text(out / RECORD, sealed_json(values))

    @classmethod
    def load(cls, out: Path) -> TrainingRecord:
        """What `finetune` wrote into a folder when it had finished.

        Raises:
            ReleaseError: there is no such record, it is not as it was written, or training has not finished.
        """
        if (out / CHECKPOINT).exists():
            raise ReleaseError(
                f"the training in {out} has not finished; give the `sae-traits finetune` command with --out {out} again"
            )
        if (out.parent / RECORD).is_file() and not (out / RECORD).is_file():
            raise ReleaseError(f"{out} is inside the folder of a training; name {out.parent}")
        if not (out / RECORD).is_file():
            raise ReleaseError(f"{out} is not a folder that `sae-traits finetune` wrote: it has no {RECORD}")
        again = "give the `sae-traits finetune` command again, or put the file back as it was"
        values = read_sealed(out / RECORD)
        if values is None:
            raise ReleaseError(f"{out / RECORD} is not as it was written; {again}")
        try:
            return cls(
                config=build(FinetuneConfig, values["config"]),
                base=values["base"]["model"],
                base_revision=values["base"]["revision"],
                # Records of before licences were counted say nothing of them.
                licenses=dict(values.get("licenses", [[None, values["n_pairs"]]])),
                cut_texts={kind: CutTexts(**of) for kind, of in values["cut_texts"].items()},
                fingerprint=values.get("fingerprint", ""),
                **{name: values[name] for name in ("n_pairs", "n_steps", "curve", "files")},
            )
        except (KeyError, TypeError, ConfigError) as error:
            raise ReleaseError(f"{out / RECORD} is of another version of sae-traits; {again}") from error

    def check(self, folder: Path) -> None:
        """Raise a ReleaseError where the model's files in a folder are not those that training wrote."""
        found = hashes_of(folder)
        differing = {name for name in {*found, *self.files} if found.get(name) != self.files.get(name)}
        if differing:
            raise ReleaseError(
                f"{min(differing)} of the model is not as training wrote it; give the `sae-traits finetune` command "
                "again, or put the file back as it was"
            )

    def values_of(self, name: str) -> list[float]:
        """A figure of the curve, in the order of its steps."""
        return [point[name] for point in self.curve if name in point]


def hashes_of(folder: Path) -> dict[str, str]:
    """Path -> sha256 of the files of a model, its card left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    hashes: dict[str, Any] = {path.relative_to(folder).as_posix(): hash_of_file(path) for path in files}
    return {name: sha256 for name, sha256 in hashes.items() if name != CARD}
