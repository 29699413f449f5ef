"""Part evidence of a run: the measures of `evaluation.parts` for the SAE and its baselines, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sae_traits.evaluation.part_regions import FiringTable, Method, RegionTable, gather
from sae_traits.evaluation.part_truth import PartTruth
from sae_traits.evaluation.parts import (
    MIN_REGIONS,
    OFF_PART,
    UNKNOWN_PART,
    Ratio,
    detectors,
    difference_over_species,
    held_out_part,
    location_explained,
    mean_per_species,
    permuted_detectors,
    permuted_held_out_part,
    permuted_purity,
    purity,
)
from sae_traits.evaluation.statistics import Interval, Number, named_below_chance
from sae_traits.rendering import MISSING
from sae_traits.schema import BackboneInfo, Collection, Problem, Taxon
from sae_traits.traits.plan import Plan

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
        """Titles of `species_rows`."""
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
        inside = self._own.measures.get("inside")
        return None if inside is None else named_below_chance(inside.by_species, inside.null_by_species)

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


def measure_parts(
    methods: Mapping[str, Method],
    collection: Collection,
    info: BackboneInfo,
    truth: PartTruth,
    plan_with: Callable[[Collection], Plan],
    *,
    seed: int = 0,
) -> PartEvidence:
    """Measure the regions of some methods on the same images, and what becomes of the first with shuffled labels.

    Args:
        methods: by name; the others are compared with the first.
        collection: with labels.
        info: the backbone of all of them.
        truth: where the organisms and their parts are; what is not known is not measured.
        plan_with: the regions of the first method for a collection with other labels.
        seed: of permutations and resamples.

    Raises:
        CollectionError: a mask cannot be read.
    """
    names = sorted({name for record in collection.images if (name := record.taxon.species) is not None})
    species = {name: number for number, name in enumerate(names)}
    tables = gather(methods, collection, info, truth, species)
    n_parts = len(truth.parts)
    n_latents = {name: method.codes.n_latents for name, method in methods.items()}
    first, *others = tables
    own, n_images = tables[first][0], len(collection.images)
    n_own = own.per_image(n_images)
    shown = {name: regions.strongest(n_own) for name, (regions, _) in tables.items()}
    evidence = {
        name: MethodEvidence(
            n_regions=len(shown[name].image),
            n_significant=int(shown[name].significant.sum()),
            measures=_with_chance(shown[name], names, n_parts, seed),
            detectors=_count_detectors(firings, n_latents[name], truth.parts, names, seed),
        )
        for name, (_, firings) in tables.items()
    }
    differences = {}
    for other in others:
        n_of_both = np.minimum(n_own, tables[other][0].per_image(n_images))
        pair = shown[other].strongest(n_of_both), own.strongest(n_of_both)
        differences[other] = _differences(*pair, len(names), n_parts, seed)
    return PartEvidence(
        parts=truth.parts,
        n_images=len(np.unique(own.image)),
        n_species=len(np.unique(own.species)),
        methods=evidence,
        differences=differences,
        labels=Exported(n_significant=n_significant(methods[first].plan), n_regions=len(own.image)),
        shuffled_labels=count_exported(plan_with(with_shuffled_labels(collection, seed)), collection),
        problems=truth.files.problems,
        sampled_from=None if methods[first].codes.sample is None else n_images,
    )


def ratios_of(regions: RegionTable, n_species: int, n_parts: int) -> dict[str, Ratio]:
    """Each measure that can be taken of some regions, by the names of MEASURES."""
    species, latent, part, held_out = regions.species, regions.latent, regions.part, regions.held_out
    is_significant = np.where(regions.significant, regions.inside, np.nan)
    is_on_part = np.where(part == UNKNOWN_PART, np.nan, part != OFF_PART)
    ratios = {
        "inside": mean_per_species(regions.inside, species, n_species),
        "inside_significant": mean_per_species(is_significant, species, n_species),
        "pointing": mean_per_species(regions.peak_inside, species, n_species),
        "on_part": mean_per_species(is_on_part, species, n_species),
        "purity": purity(latent, part, species, n_species, n_parts),
        "held_out_part": held_out_part(latent, part, species, held_out, n_species, n_parts),
        "held_out_part_learnt": held_out_part(latent, part, species, held_out, n_species, n_parts, MIN_REGIONS),
        "location": location_explained(regions.place, latent, species, held_out, n_species),
        "repeats": location_explained(regions.estimated_place, latent, species, held_out, n_species),
    }
    return {name: ratio for name, ratio in ratios.items() if ratio.weight.sum() > 0}


def chance_of(regions: RegionTable, n_species: int, n_parts: int, seed: int = 0) -> dict[str, Ratio]:
    """What each measure would be by chance, by the names of MEASURES.

    R2 is 0 then and not among them, nor is the share on named parts, which says what was marked, not what latents mean.
    """
    species, latent, part, held_out = regions.species, regions.latent, regions.part, regions.held_out
    is_significant = np.where(regions.significant, regions.chance, np.nan)
    held_out_chance = {
        name: permuted_held_out_part(latent, part, species, held_out, n_species, n_parts, needed, seed=seed)
        for name, needed in (("held_out_part", 1), ("held_out_part_learnt", MIN_REGIONS))
    }
    return {
        "inside": mean_per_species(regions.chance, species, n_species),
        "inside_significant": mean_per_species(is_significant, species, n_species),
        "pointing": mean_per_species(regions.peak_chance, species, n_species),
        "purity": permuted_purity(latent, part, species, n_species, n_parts, seed=seed),
        **held_out_chance,
    }


def with_shuffled_labels(collection: Collection, seed: int = 0) -> Collection:
    """The collection with the species of its training individuals dealt anew among them; other images keep theirs."""
    taxa: dict[str, Taxon] = {}
    for record in collection.images:
        if record.split == "train":
            taxa.setdefault(record.individual_id, record.taxon)
    order = np.random.default_rng(seed).permutation(len(taxa))
    values = list(taxa.values())
    dealt = {individual: values[place] for individual, place in zip(taxa, order, strict=True)}
    images = tuple(
        replace(record, taxon=dealt[record.individual_id]) if record.split == "train" else record
        for record in collection.images
    )
    return replace(collection, images=images)


def n_significant(plan: Plan) -> int:
    """Count the pairs of species and latent that are significant."""
    return sum(choice.contrast.significant for latents in plan.chosen.values() for choice in latents.values())


def count_exported(plan: Plan, collection: Collection) -> Exported:
    """Count what a plan would describe of the images that have a species in the collection."""
    images = collection.images
    planned = (found for _, found in plan.candidates() if images[found[0][0].image].taxon.species is not None)
    return Exported(n_significant=n_significant(plan), n_regions=sum(map(len, planned)))


def _cell(measure: Measure | None) -> str:
    return "" if measure is None else _value(measure.value, measure.null)


def _value(value: float, null: float) -> str:
    """A value, and in brackets what it would be by chance."""
    return _number(value) if math.isnan(null) or math.isnan(value) else f"{value:.3f} ({null:.3f})"


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.3f}"


def _line(title: str, cells: Sequence[str]) -> str:
    return f"{title:<{TITLE_WIDTH}}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)


def _with_chance(regions: RegionTable, names: Sequence[str], n_parts: int, seed: int) -> dict[str, Measure]:
    """Every measure beside what it would be by chance."""
    chance = chance_of(regions, len(names), n_parts, seed)

    def by_species(ratio: Ratio) -> dict[str, Number]:
        values = zip(names, ratio.by_species.tolist(), strict=True)
        return {name: value for name, value in values if not math.isnan(value)}

    return {
        measure: Measure(
            value=ratio.value,
            null=chance[measure].value if measure in chance else math.nan,
            by_species=by_species(ratio),
            null_by_species=by_species(chance[measure]) if measure in chance else {},
        )
        for measure, ratio in ratios_of(regions, len(names), n_parts).items()
    }


def _differences(
    first: RegionTable, second: RegionTable, n_species: int, n_parts: int, seed: int
) -> dict[str, Interval]:
    """The measures of `second` minus those of `first`, and those of ABOVE_CHANCE."""
    ratios = [ratios_of(regions, n_species, n_parts) for regions in (first, second)]
    measured = [measure for measure in MEASURES if measure != "on_part" and all(measure in of for of in ratios)]
    differences = {
        measure: difference_over_species(ratios[0][measure], ratios[1][measure], seed=seed) for measure in measured
    }
    if any(measure in measured for measure in ABOVE_CHANCE.values()):
        chance = [chance_of(regions, n_species, n_parts, seed) for regions in (first, second)]
        differences |= {
            name: difference_over_species(
                ratios[0][measure], ratios[1][measure], (chance[0][measure], chance[1][measure]), seed=seed
            )
            for name, measure in ABOVE_CHANCE.items()
            if measure in measured
        }
    return differences


def _count_detectors(
    firings: FiringTable, n_latents: int, parts: tuple[str, ...], names: Sequence[str], seed: int
) -> DetectorCounts | None:
    if not len(firings.latent):
        return None
    found = detectors(firings.latent, firings.part, n_latents, len(parts))
    by_species = {}
    for number in np.unique(firings.species):
        of = firings.species == number
        of_species = detectors(firings.latent[of], firings.part[of], n_latents, len(parts))
        by_species[names[number]] = int(of_species.any(axis=1).sum())
    return DetectorCounts(
        n_latents=int(found.any(axis=1).sum()),
        null=permuted_detectors(firings.latent, firings.part, firings.image, n_latents, len(parts), seed=seed),
        by_part=dict(zip(parts, found.sum(axis=0).tolist(), strict=True)),
        by_species=by_species,
        n_parts=int(found.any(axis=0).sum()),
    )
