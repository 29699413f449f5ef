"""The record of an SAE in words, for its card: its measures, its training, and the sweep it was chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sae_traits.rendering import MISSING
from sae_traits.sae.metrics import DENSE
from sae_traits.sae.sweep_folder import Sweep

Lines = Sequence[tuple[str, Any]]
"""Names and values, for a table; a value may be nested."""

_MEASURES = {
    "explained_variance": ("explained variance (1 is perfect)", "{:.4f}"),
    "mse": ("mean squared error", "{:.4g}"),
    "normalised_mse": ("normalised mean squared error", "{:.4f}"),
    "l0": ("active latents per patch (L0)", "{:.2f}"),
    "dead_share": ("latents that never fired", "{:.1%}"),
    "dense_share": (f"latents that fire at more than {DENSE:.0%} of the patches", "{:.1%}"),
    "n_patches": ("patches that this was measured on", "{:,}"),
    "measured_on": ("they are of the split", "{}"),
}
_MONOSEMANTICITY = {
    "mean_with_zeros": ("monosemanticity, mean over all latents, those without a score counting zero", "{:.4f}"),
    "mean": ("monosemanticity, mean over the latents with a score", "{:.4f}"),
    "n_scored": ("latents with a score", "{:,}"),
    "mean_similarity": ("monosemanticity of a latent that ignores the image", "{:.4f}"),
    "embedding": ("similarity of images is judged by", "{}"),
}
_DATA = {
    "collection": ("collection", "{}"),
    "n_images": ("images (training split)", "{:,}"),
    "n_patches": ("patches, counted with repetition", "{:,}"),
    "seed_of_order": ("seed of the order of the patches", "{}"),
    "precision": ("mixed precision", "{}"),
    "n_threads": ("threads of each process, on a CPU", "{}"),
    "learning_rate": ("peak learning rate", "{:.4g}"),
    "initialisation": ("decoder rows start as", "{}"),
}
_TOLD_ELSEWHERE = ("metrics", "settings", "curve")
"""Of the record of a training."""


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, or nothing where it is no mapping: the record of another program may hold anything."""
    return value if isinstance(value, Mapping) else {}


def is_number(value: Any) -> bool:
    """Whether a value is a number, if only NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class SweepTable:
    """The SAEs of a sweep, one row per SAE."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The first cell is the folder."""
    recommended: str
    rule: str
    another: str
    """Folder of an SAE that is not the recommended one, for the loading snippet."""


def measures(metrics: Mapping[str, Any]) -> Lines:
    """What was measured; what this module has no words for, under the name that it has."""
    others = {name: value for name, value in metrics.items() if name not in ("firing_histogram", "monosemanticity")}
    return [*_worded(others, _MEASURES), *_worded(mapping(metrics.get("monosemanticity")), _MONOSEMANTICITY)]


def training_data(training: Mapping[str, Any]) -> Lines:
    """What it was trained on, and whatever else its record says."""
    return _worded({name: value for name, value in training.items() if name not in _TOLD_ELSEWHERE}, _DATA)


def training_settings(training: Mapping[str, Any]) -> Lines:
    """The options that it was trained with."""
    return [(name, value) for name, value in mapping(training.get("settings")).items() if value not in ([], ())]


def sweep_table(sweep: Sweep) -> SweepTable:
    """The rows of a sweep with what varies and how well each did."""
    varied = [name for name in sweep.varied if name != "architecture"]
    rows = []
    for sae in sweep.saes:
        settings = [_cell(sae.settings, name, "{}") for name in varied]
        figures = [_cell(sae.metrics, name, _MEASURES[name][1]) for name in ("explained_variance", "l0", "dead_share")]
        of_latents = _cell(mapping(sae.metrics.get("monosemanticity")), "mean_with_zeros", "{:.4f}")
        rows.append((sae.folder, *settings, *figures, of_latents))
    header = ("folder", *varied, "explained variance", "L0", "never fired", "monosemanticity")
    another = next((sae.folder for sae in sweep.saes if sae.folder != sweep.recommended), sweep.recommended)
    return SweepTable(header, tuple(rows), sweep.recommended, sweep.rule, another)


def _worded(values: Mapping[str, Any], words: Mapping[str, tuple[str, str]]) -> Lines:
    """Known values first, in the order of `words`, then the others under their own names."""
    known = [(label, _cell(values, name, form)) for name, (label, form) in words.items() if name in values]
    return [*known, *((name, value) for name, value in values.items() if name not in words)]


def _cell(values: Mapping[str, Any], name: str, form: str) -> str:
    value = values.get(name)
    if value is None or (is_number(value) and not math.isfinite(value)):
        return MISSING
    return form.format(value) if is_number(value) or form == "{}" else str(value)
