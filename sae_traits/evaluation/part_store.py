"""Part evidence as it is kept, RUN/evaluation/parts.json, with what it was measured of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from sae_traits.errors import StoreError, one_line
from sae_traits.evaluation.part_evidence import PartEvidence
from sae_traits.io import read_sealed, sealed_json, write_text


@dataclass(frozen=True, kw_only=True)
class StoredPartEvidence:
    """RUN/evaluation/parts.json."""

    encode: str
    """Fingerprint of the step that made the codes."""
    regions: str
    """Hash of the options that pick the regions, and of the labels."""
    files: dict[str, str]
    """What said where the parts are: option -> path."""
    evidence: PartEvidence

    @property
    def baselines(self) -> tuple[str, ...]:
        """With which the regions were compared."""
        return tuple(self.evidence.methods)[1:]


_ADAPTER = TypeAdapter(StoredPartEvidence)


def write_part_evidence(path: Path, stored: StoredPartEvidence) -> None:
    """Write part evidence as JSON, with its hash; NaN is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, sealed_json(_ADAPTER.dump_python(stored, mode="json")))


def read_part_evidence(path: Path) -> StoredPartEvidence:
    """Read what `write_part_evidence` wrote.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        if (values := read_sealed(path)) is None:
            raise StoreError(f"{path} is damaged; remove it, or run `sae-traits parts` again with its files")
        return _ADAPTER.validate_python(values)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read {path} ({one_line(error)}); remove it, or run `sae-traits parts` again with its files"
        ) from error
