"""Part evidence of a run, side by side for the SAE and its baselines, and how it is said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from sae_traits.evaluation.parts import MIN_REGIONS
from sae_traits.evaluation.statistics import Interval, Number, named_below_chance
from sae_traits.rendering import MISSING
from sae_traits.schema import Problem

MEASURES = {
    "inside": "area inside the organism",
    "inside_significant": "area inside, significant regions",
    "pointing": "pointing game",
    "on_part": "regions on a named part",
    "purity": "purity",
    "held_out_part": "held-out part, all latents",
    "held_out_part_learnt": f"held-out part, latents with {MIN_REGIONS} training regions on it",
    "location": "R2 of location on the organism",
    "repeats": "R2 of place, without truth",
}
"""Name of a measure -> what a table calls it."""
ABOVE_CHANCE = {f"{measure}_above_chance": measure for measure in ("purity", "held_out_part", "held_out_part_learnt")}
"""Differences of how far these measures are above what chance gives, which is much where most of a method's regions lie
on one part."""
_TITLES = MEASURES | {name: f"{MEASURES[measure]}, above chance" for name, measure in ABOVE_CHANCE.items()}
SHORT = {
    "inside": "inside",
    "purity": "purity",
    "held_out_part_learnt": "held-out part",
    "location": "R2 of location",
    "repeats": "R2 of place",
}
"""Measures that a terminal shows per species, and what it calls them."""
MAX_SPECIES = 20
TITLE_WIDTH, WIDTH = 68, 18
"""Letters of the columns of a table on a terminal."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure of one method."""

    value: Number
    """Over all species."""
    null: Number
    """What it would be by chance; NaN where that is 0, or is not asked."""
    by_species: dict[str, Number]
    """Species of which nothing was measured are left out."""
    null_by_species: dict[str, Number] = field(default_factory=dict)
    """What it would be in each of them by chance; empty where that is 0, or is not asked."""


@dataclass(frozen=True, kw_only=True)
class DetectorCounts:
    """How many latents detect a part."""

    n_latents: int
    null: float
    """The same with the peaks of each image dealt anew."""
    by_part: dict[str, int]
    by_species: dict[str, int]
    """From the images of one species alone."""
    n_parts: int
    """Parts with a detector."""


@dataclass(frozen=True, kw_only=True)
class MethodEvidence:
    """What was measured of the regions of one method."""

    n_regions: int
    """Of a baseline at most as many per image as the run has, the strongest."""
    n_significant: int
    measures: dict[str, Measure]
    """By the names of MEASURES; what could not be measured is left out."""
    detectors: DetectorCounts | None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What a contrast makes of some labels."""

    n_significant: int
    """Pairs of species and latent with a q-value of at most 0.05."""
    n_regions: int
    """Regions that are described, of the images that were measured."""


@dataclass(frozen=True, kw_only=True)
class PartEvidence:
    """The part evidence of a run."""

    parts: tuple[str, ...]
    n_images: int
    n_species: int
    methods: dict[str, MethodEvidence]
    """By the kind of regions, that of the run first."""
    differences: dict[str, dict[str, Interval]]
    """Name of a baseline -> of a measure, or of ABOVE_CHANCE -> the run's value minus the baseline's, on as many
    regions per image of both, the strongest; 95 % over species."""
    labels: Exported
    """With the labels as they are."""
    shuffled_labels: Exported
    """With the species of the training individuals dealt anew."""
    location_of_parts: Number = math.nan
    """R2 of location of the marked parts themselves, which a perfect detector of them would have; NaN without parts."""
    problems: tuple[Problem, ...] = ()
    """What of the files with parts could not be used."""
    sampled_from: int | None = None
    """Of how many images a sample was measured; None where all were."""
    note: str | None = None
    """Why this is not what was measured with files before."""

    def value(self, method: str, measure: str) -> float:
        """A measure over all species; NaN where it could not be taken."""
        measures = self.methods[method].measures
        return measures[measure].value if measure in measures else math.nan

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table of all methods: a title, and a value per method with chance in brackets."""
        methods = list(self.methods.values())
        rows = [
            (title, [_cell(method.measures.get(measure)) for method in methods])
            for measure, title in MEASURES.items()
            if any(measure in method.measures for method in methods)
        ]
        counts = [method.detectors for method in methods]
        if any(counts):
            rows += [
                ("latents that detect a part", [f"{c.n_latents} ({c.null:.0f})" if c else "" for c in counts]),
                ("parts with a detector", [f"{c.n_parts} of {len(self.parts)}" if c else "" for c in counts]),
            ]
        return [*rows, ("regions", [f"{method.n_regions:,}" for method in methods])]

    @property
    def named_differences(self) -> dict[str, list[tuple[str, Interval]]]:
        """The differences, by baseline, with the titles of the measures."""
        return {
            other: [(_TITLES[measure], interval) for measure, interval in of_measures.items()]
            for other, of_measures in self.differences.items()
        }

    @property
    def conclusions(self) -> dict[str, tuple[list[str], list[str]]]:
        """By baseline the titles of the measures in which the run is ahead of it, and behind, beyond the interval."""
        return {
            other: (
                [title for title, interval in differences if interval.low > 0],
                [title for title, interval in differences if interval.high < 0],
            )
            for other, differences in self.named_differences.items()
        }

    @property
    def species_columns(self) -> list[str]:
        return [MEASURES[measure] for measure in self._own.measures]

    @property
    def species_rows(self) -> list[tuple[str, list[str]]]:
        """The measures of the run's own regions per species, with chance in brackets; a dash where there are none."""
        return self._species_rows(list(self._own.measures))

    @property
    def detector_rows(self) -> list[tuple[str, list[str]]]:
        """How many latents of each method detect each part, the part with the most of the run first."""
        counts = [method.detectors for method in self.methods.values()]
        if (own := counts[0]) is None:
            return []
        parts = sorted(self.parts, key=lambda part: -own.by_part[part])
        return [(part, [f"{of.by_part[part]}" if of else MISSING for of in counts]) for part in parts]

    @property
    def below_chance(self) -> str | None:
        """Which species have less of their regions inside the organism than chance gives; None without truth."""
        inside = self.inside
        return None if inside is None else named_below_chance(inside.by_species, inside.null_by_species)

    @property
    def parts_in_words(self) -> str | None:
        """How much the marked parts' own places explain, beside which an R2 is to be read; None without parts."""
        if math.isnan(self.location_of_parts):
            return None
        return f"R2 of location of the marked parts themselves, as a perfect detector: {self.location_of_parts:.3f}"

    @property
    def images_in_words(self) -> str:
        """What was measured."""
        sampled = "" if self.sampled_from is None else f", of a random sample of the {self.sampled_from:,} images"
        return f"{self.n_images:,} images of {self.n_species:,} species{sampled}"

    @property
    def inside(self) -> Measure | None:
        """How much of the run's regions lies inside the organism; None where it was not measured."""
        return self._own.measures.get("inside")

    @property
    def _own(self) -> MethodEvidence:
        return next(iter(self.methods.values()))

    def _species_rows(self, measures: Sequence[str]) -> list[tuple[str, list[str]]]:
        shown = [self._own.measures[measure] for measure in measures]
        names = sorted({name for measure in shown for name in measure.by_species})
        unknown = math.nan
        return [
            (name, [_value(of.by_species.get(name, unknown), of.null_by_species.get(name, unknown)) for of in shown])
            for name in names
        ]

    def lines(self) -> list[str]:
        """The tables as text for a terminal."""
        first = next(iter(self.methods))
        lines = [
            f"Part evidence from {self.images_in_words}; in brackets what chance gives",
            "",
            _line("", list(self.methods)),
            *(_line(title, cells) for title, cells in self.rows),
            *([] if self.parts_in_words is None else [self.parts_in_words]),
        ]
        for other, differences in self.named_differences.items():
            lines += ["", f"{first} minus {other}, as many regions per image of both; 95 % intervals over species"]
            lines += [f"{title:<{TITLE_WIDTH}}  {interval}" for title, interval in differences]
        lines += [
            "",
            f"{'what the contrast makes of':<{TITLE_WIDTH}}{'significant pairs':>{WIDTH}}{'regions':>{WIDTH}}",
        ]
        for title, row in (("the labels", self.labels), ("shuffled labels", self.shuffled_labels)):
            lines.append(_line(title, [f"{row.n_significant:,}", f"{row.n_regions:,}"]))
        if self.detector_rows:
            lines += ["", _line("latents that detect each part", list(self.methods))]
            lines += [_line(part, cells) for part, cells in self.detector_rows]
        return [*lines, *self._lines_of_species()]

    def _lines_of_species(self) -> list[str]:
        """The table of species with what SHORT names; those with the least of their regions inside first."""
        measures = [measure for measure in SHORT if measure in self._own.measures]
        if not measures:
            return []
        rows, shares = self._species_rows(measures), self._own.measures[measures[0]].by_species
        rows.sort(key=lambda row: shares.get(row[0], math.inf))
        lines = ["", _line("species", [SHORT[measure] for measure in measures])]
        lines += [_line(name, cells) for name, cells in rows[:MAX_SPECIES]]
        if len(rows) > MAX_SPECIES:
            lines.append(f"… and {len(rows) - MAX_SPECIES} more (--format json has all)")
        return lines if self.below_chance is None else [*lines, f"area inside the organism: {self.below_chance}"]


def _cell(measure: Measure | None) -> str:
    return "" if measure is None else _value(measure.value, measure.null)


def _value(value: float, null: float) -> str:
    """A value, and in brackets what it would be by chance."""
    if math.isnan(value):
        return MISSING
    return f"{value:.3f}" if math.isnan(null) else f"{value:.3f} ({null:.3f})"


def _line(title: str, cells: Sequence[str]) -> str:
    return f"{title:<{TITLE_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)
