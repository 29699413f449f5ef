"""Part evidence measured: what `evaluation.parts` says of the SAE and its baselines, and with shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sae_traits.evaluation.part_evidence import (
    ABOVE_CHANCE,
    MEASURES,
    DetectorCounts,
    Exported,
    Measure,
    MethodEvidence,
    PartEvidence,
)
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
    permuted_location_explained,
    permuted_purity,
    purity,
)
from sae_traits.evaluation.statistics import Interval, Number
from sae_traits.schema import BackboneInfo, Collection, Taxon
from sae_traits.traits.plan import Plan


def measure_parts(
    methods: Mapping[str, Method],
    collection: Collection,
    info: BackboneInfo,
    truth: PartTruth,
    plan_with: Callable[[Collection], Plan],
) -> PartEvidence:
    """Measure the regions of some methods on the same images, and what becomes of the first with shuffled labels.

    Args:
        methods: by name; the others are compared with the first.
        collection: with labels.
        info: the backbone of all of them.
        truth: where the organisms and their parts are; what is not known is not measured.
        plan_with: the regions of the first method for a collection with other labels.

    Raises:
        CollectionError: a mask cannot be read.
    """
    names = sorted({name for record in collection.images if (name := record.taxon.species) is not None})
    species = {name: number for number, name in enumerate(names)}
    tables, marked = gather(methods, collection, info, truth, species)
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
            measures=_with_chance(shown[name], names, n_parts),
            detectors=_count_detectors(firings, n_latents[name], truth.parts, names),
        )
        for name, (_, firings) in tables.items()
    }
    differences = {}
    for other in others:
        n_of_both = np.minimum(n_own, tables[other][0].per_image(n_images))
        pair = shown[other].strongest(n_of_both), own.strongest(n_of_both)
        differences[other] = _differences(*pair, len(names), n_parts)
    return PartEvidence(
        parts=truth.parts,
        n_images=len(np.unique(own.image)),
        n_species=len(np.unique(own.species)),
        methods=evidence,
        differences=differences,
        labels=Exported(n_significant=n_significant(methods[first].plan), n_regions=len(own.image)),
        shuffled_labels=count_exported(plan_with(with_shuffled_labels(collection)), collection),
        location_of_parts=location_explained(*marked, len(names)).value,
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


def chance_of(regions: RegionTable, n_species: int, n_parts: int) -> dict[str, Ratio]:
    """What each measure would be by chance, by the names of MEASURES.

    The share on named parts is not among them, which says what was marked, not what latents mean.
    """
    species, latent, part, held_out = regions.species, regions.latent, regions.part, regions.held_out
    is_significant = np.where(regions.significant, regions.chance, np.nan)
    held_out_chance = {
        name: permuted_held_out_part(latent, part, species, held_out, n_species, n_parts, needed)
        for name, needed in (("held_out_part", 1), ("held_out_part_learnt", MIN_REGIONS))
    }
    return {
        "inside": mean_per_species(regions.chance, species, n_species),
        "inside_significant": mean_per_species(is_significant, species, n_species),
        "pointing": mean_per_species(regions.peak_chance, species, n_species),
        "purity": permuted_purity(latent, part, species, n_species, n_parts),
        **held_out_chance,
        "location": permuted_location_explained(regions.place, latent, species, held_out, n_species),
        "repeats": permuted_location_explained(regions.estimated_place, latent, species, held_out, n_species),
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


def _with_chance(regions: RegionTable, names: Sequence[str], n_parts: int) -> dict[str, Measure]:
    """Every measure beside what it would be by chance."""
    chance = chance_of(regions, len(names), n_parts)

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


def _differences(first: RegionTable, second: RegionTable, n_species: int, n_parts: int) -> dict[str, Interval]:
    """The measures of `second` minus those of `first`, and those of ABOVE_CHANCE."""
    ratios = [ratios_of(regions, n_species, n_parts) for regions in (first, second)]
    measured = [measure for measure in MEASURES if measure != "on_part" and all(measure in of for of in ratios)]
    differences = {measure: difference_over_species(ratios[0][measure], ratios[1][measure]) for measure in measured}
    if any(measure in measured for measure in ABOVE_CHANCE.values()):
        chance = [chance_of(regions, n_species, n_parts) for regions in (first, second)]
        differences |= {
            name: difference_over_species(
                ratios[0][measure], ratios[1][measure], (chance[0][measure], chance[1][measure])
            )
            for name, measure in ABOVE_CHANCE.items()
            if measure in measured
        }
    return differences


def _count_detectors(
    firings: FiringTable, n_latents: int, parts: tuple[str, ...], names: Sequence[str]
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
        null=permuted_detectors(firings.latent, firings.part, firings.image, n_latents, len(parts)),
        by_part=dict(zip(parts, found.sum(axis=0).tolist(), strict=True)),
        by_species=by_species,
        n_parts=int(found.any(axis=0).sum()),
    )
