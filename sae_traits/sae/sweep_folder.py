"""A sweep on disk, as it is on the Hub: a folder per SAE, the recommended one at the root as well, and sweep.json.

sweep.json says what was varied, has a row per SAE with its settings and measures, and names the recommended one and the
rule it was chosen by. A single SAE is its folder alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sae_traits.config.train import TrainConfig
from sae_traits.errors import CheckpointError, StoreError
from sae_traits.io import copy_to_write, json_text, replacing
from sae_traits.sae.card import CARD
from sae_traits.sae.formats.files import read_settings
from sae_traits.sae.model import SAE, WEIGHTS
from sae_traits.sae.sweep import RULE, folder_name, recommend, settings_of, varied_values

SWEEP_FILE = "sweep.json"
SAE_FILE = re.compile(rf"config\.json|{WEIGHTS.pattern}")
"""Names of the files that `SAE.save_pretrained` writes."""
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SweptSAE:
    """One SAE of a sweep."""

    folder: str
    """A name, never a path."""
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What sweep.json holds."""

    varied: Mapping[str, Sequence[Any]]
    """Option -> the values it took."""
    recommended: str
    """Folder of the SAE that lies at the root too."""
    rule: str
    """How the recommended one was chosen."""
    saes: tuple[SweptSAE, ...]

    @classmethod
    def from_dict(cls, values: Any) -> Sweep:
        """The sweep of a parsed sweep.json, which is not trusted; a CheckpointError where it cannot be ours."""
        try:
            saes = tuple(SweptSAE(row["folder"], dict(row["settings"]), dict(row["metrics"])) for row in values["saes"])
            varied = {str(name): list(taken) for name, taken in values["varied"].items()}
            sweep = cls(varied, values["recommended"], str(values["rule"]), saes)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{SWEEP_FILE} is not one of sae-traits: {type(error).__name__} {error}") from error
        for sae in saes:
            if not isinstance(sae.folder, str) or not _FOLDER.fullmatch(sae.folder):
                raise CheckpointError(f"{SWEEP_FILE} names a folder {sae.folder!r}, which is not a plain name")
        if sweep.recommended not in {sae.folder for sae in saes}:
            raise CheckpointError(f"{SWEEP_FILE} recommends {sweep.recommended!r}, which it has no row for")
        return sweep


def save_saes(folder: Path, saes: Sequence[SAE], configs: Sequence[TrainConfig], varied: Collection[str]) -> SAE:
    """Write the SAE of a training, or those of a sweep, and replace all that stood in the folder but the card.

    They are written next to it and moved into place when all is there: a kill leaves what stood there before (see
    `io.replacing`), but never half a sweep; a StoreError where they cannot be written.

    The SAEs are on the CPU, each with its measures in `config.training["metrics"]`; `varied` are the names of the
    options that the sweep varies. Returns the SAE at the root: the only one, or the recommended one.
    """
    try:
        with replacing(folder) as partial:
            root = _write_sweep(partial, saes, configs, varied) if len(saes) > 1 else saes[0]
            root.save_pretrained(partial)
            if (folder / CARD).is_file():
                copy_to_write(folder / CARD, partial / CARD)  # a person may have written into it
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}; make room, and run again") from error
    return root


def _write_sweep(folder: Path, saes: Sequence[SAE], configs: Sequence[TrainConfig], varied: Collection[str]) -> SAE:
    by_folder = {folder_name(config, varied): sae for sae, config in zip(saes, configs, strict=True)}
    rows = []
    for (name, sae), config in zip(by_folder.items(), configs, strict=True):
        # Those trained side by side share the record of their training data, but not the settings.
        sae.config = replace(sae.config, training=sae.config.training | {"settings": settings_of(config)})
        sae.save_pretrained(folder / name)
        rows.append(SweptSAE(name, settings_of(config), sae.config.training["metrics"]))
    recommended = recommend({row.folder: row.metrics for row in rows})
    sweep = Sweep(varied_values(configs, varied), recommended, RULE, tuple(rows))
    (folder / SWEEP_FILE).write_text(json_text(asdict(sweep)), encoding="utf-8")
    return by_folder[recommended]


def read_sweep(folder: Path) -> Sweep | None:
    """The sweep of a folder, None for a single SAE; a CheckpointError where sweep.json is damaged or not ours."""
    path = folder / SWEEP_FILE
    if not path.is_file():
        return None
    try:
        values = read_settings(path).values
    except CheckpointError as error:
        raise CheckpointError(f"{error}; train again, or remove it to use the SAE beside it") from error
    return Sweep.from_dict(values)
