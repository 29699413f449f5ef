"""From codes to trait rows: contrast, candidates, describer calls through the ledger, and the finished table."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from sae_traits.config import ContrastConfig
from sae_traits.describers import Describer
from sae_traits.schema import (
    BackboneInfo,
    Candidate,
    Collection,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Trait,
)
from sae_traits.traits.asking import answer_calls
from sae_traits.traits.calls import Call, Mask, planned_calls, region_key, single_call_key, trait_id
from sae_traits.traits.candidates import all_candidates
from sae_traits.traits.chosen import LatentsBySpecies, choose_latents, latents_everywhere
from sae_traits.traits.contrast import paper_contrast, specimen_contrast
from sae_traits.traits.encode import Codes
from sae_traits.traits.ledger import Ledger, LedgerEntry
from sae_traits.traits.measuring import TASKS_A_LOOKUP, measure_answered
from sae_traits.traits.species_counts import count_firings
from sae_traits.traits.table import write_latents, write_traits

_DESCRIPTION = TypeAdapter(Description)
_MEASUREMENT = TypeAdapter(Measurement)

_Answered = tuple[ImageRecord, Candidate, Region, LedgerEntry | None, dict[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What came of an annotation; counts of traits and images."""

    n_traits: int
    n_images: int
    """Images with at least one trait."""
    n_significant: int
    """Traits whose latent has a q-value of at most 0.05."""
    n_background: int
    """Regions that were said to be background: kept in the ledger, not in the traits."""
    n_invalid: int
    """Regions whose last answer could not be used."""
    n_failed: int
    """Regions whose last call brought no answer."""
    n_open: int
    """Regions that the same command asks about next time: those not asked yet, and of the invalid and failed ones
    those that were not asked often enough."""
    dropped_latents: tuple[str, ...]
    """Latents that describe no species, each with the reason."""
    species_without_latents: tuple[str, ...]
    """Species of the collection for which no latent was chosen, for example without training images."""


class Plan(Protocol):
    """What decides which regions are described."""

    @property
    def collection(self) -> Collection:
        """Whose images they are."""
        ...

    @property
    def chosen(self) -> LatentsBySpecies:
        """The latents that describe each species; none where regions need no latents."""
        ...

    @property
    def species_without_latents(self) -> tuple[str, ...]:
        """Species that get no regions, because no latent was chosen for them."""
        ...

    @property
    def candidates(self) -> Callable[[], Iterator[tuple[ImageRecord, list[tuple[Candidate, Region]]]]]:
        """Every image with its candidates; the same each time, one image in memory."""
        ...


@dataclass(frozen=True)
class AnnotationPlan:
    """A `Plan` whose regions are those of latents."""

    collection: Collection
    codes: Codes
    info: BackboneInfo
    config: ContrastConfig
    chosen: LatentsBySpecies

    @property
    def species_without_latents(self) -> tuple[str, ...]:
        """In the order of their names."""
        named = {name for record in self.collection.images if (name := record.taxon.species) is not None}
        return tuple(sorted(named - set(self.chosen)))

    def candidates(self) -> Iterator[tuple[ImageRecord, list[tuple[Candidate, Region]]]]:
        """Every image with its candidates; the same each time, one image in memory."""
        return all_candidates(
            self.codes,
            self.collection.images,
            self.chosen,
            self.info,
            most=self.config.traits_per_image,
            greatest_overlap=self.config.overlap,
            # Algorithm 1 takes every region of its latents.
            least_evidence=0.0 if self.config.contrast == "paper" else self.config.least_evidence,
            smallest_region=self.config.smallest_region,
            box_margin=self.config.box_margin,
            regions=self.config.regions,
        )


def plan_annotation(collection: Collection, codes: Codes, info: BackboneInfo, config: ContrastConfig) -> AnnotationPlan:
    """Contrast the species on the training images, and plan what is described.

    Images without a label are described with the latents of all species.
    """
    taxa = [record.taxon if record.split == "train" else None for record in collection.images]
    counts = count_firings(codes.firing_counts(), taxa, len(codes.thresholds))
    if config.contrast == "paper":
        chosen = choose_latents(paper_contrast(counts, config.minimum_frequency), codes.thresholds)
    else:
        chosen = choose_latents(
            specimen_contrast(counts), codes.thresholds, latents_everywhere(counts, config.everywhere)
        )
    return AnnotationPlan(collection, codes, info, config, chosen)


def describe_candidates(
    plan: Plan, describer: Describer, ledger: Ledger, *, workers: int, use_masks: bool = False
) -> None:
    """Ask the describer about every region that the ledger has no answer for; nothing else needs it.

    Args:
        plan: what to describe.
        describer: who describes it.
        ledger: where calls and answers are kept.
        workers: processes that prepare pictures; for one, a thread of this process does.
        use_masks: measure on the animal's pixels alone, where an image has a mask.

    Raises:
        CollectionError: a mask is there no more.
        DescriberError: the describer cannot answer from the start. One that stops later leaves the rest open.
    """

    def planned() -> Iterator[list[Call]]:
        return planned_calls(plan.candidates(), plan.collection, describer, use_masks=use_masks)

    n_open = sum(map(len, _open_calls(planned(), ledger)))
    if n_open:
        asyncio.run(answer_calls(_open_calls(planned(), ledger), n_open, describer, ledger, workers=workers))
    if not describer.reads_masks:  # else an answer and its measurement were made together
        measure_answered(planned(), ledger, workers=workers)


def _open_calls(tasks: Iterator[list[Call]], ledger: Ledger) -> Iterator[list[Call]]:
    """Calls without those that the ledger says are finished; a list may be left empty."""
    while some := list(islice(tasks, TASKS_A_LOOKUP)):
        is_open = ledger.open_calls(call.key for calls in some for call in calls)
        yield from ([call for call in calls if call.key in is_open] for calls in some)


def export_traits(
    plan: Plan,
    describer: Describer,
    ledger: Ledger,
    *,
    traits_file: Path,
    latents_file: Path,
    use_masks: bool = False,
) -> Annotation:
    """Write the traits that have a valid answer, and the latents they use, in the order of the images.

    The same plan and ledger give the same bytes, in whatever order the answers came; `use_masks` is as
    `describe_candidates` was given it.
    """
    used: set[tuple[str, int]] = set()
    counts: Counter[str] = Counter()
    described: set[str] = set()

    def traits() -> Iterator[Trait]:
        for record, candidate, region, entry, measurement in _answered(plan, describer, ledger, use_masks):
            counts["open"] += entry is None or entry.is_open
            if entry is None:
                continue
            if entry.state != "ok":
                counts["invalid" if entry.state == "invalid" else "failed"] += 1
                continue
            description = _DESCRIPTION.validate_python(entry.description)
            if description.is_background:
                counts["background"] += 1
                continue
            if candidate.latent is not None:
                used.add((plan.chosen.of(record)[candidate.latent].species, candidate.latent))
            described.add(record.image_id)
            counts["significant"] += candidate.significant
            yield Trait(
                trait_id=trait_id(record, candidate),
                candidate=candidate,
                region=region,
                description=description,
                measurement=_MEASUREMENT.validate_python(measurement).with_scale(record.mm_per_pixel),
                n_images=entry.n_images,
                describer=entry.describer,
                describer_model=entry.model,
                prompt=entry.prompt,
            )

    n_traits = write_traits(traits_file, traits())
    write_latents(latents_file, (plan.chosen[species][latent] for species, latent in sorted(used)))
    return Annotation(
        n_traits=n_traits,
        n_images=len(described),
        n_significant=counts["significant"],
        n_background=counts["background"],
        n_invalid=counts["invalid"],
        n_failed=counts["failed"],
        n_open=counts["open"],
        dropped_latents=tuple(f"{dropped.latent}: {dropped.reason}" for dropped in plan.chosen.dropped),
        species_without_latents=plan.species_without_latents,
    )


def _answered(plan: Plan, describer: Describer, ledger: Ledger, use_masks: bool) -> Iterator[_Answered]:
    """Every candidate in the order of the images, with its call and its measurement where there are any."""
    if describer.images_per_description > 1:
        calls = planned_calls(plan.candidates(), plan.collection, describer, use_masks=use_masks)
        while some := list(islice(calls, TASKS_A_LOOKUP)):
            ledger.share((trait, call.key) for task in some for call in task for trait in call.trait_ids)
    records = plan.candidates()
    while chunk := list(islice(records, TASKS_A_LOOKUP)):
        found = [(record, candidate, region) for record, pairs in chunk for candidate, region in pairs]
        masks = {s.image_id: Mask.of(s, plan.collection) if use_masks else None for s, _ in chunk}
        if describer.images_per_description > 1:
            shared = ledger.shared([trait_id(record, candidate) for record, candidate, _ in found])
            keys = [shared[trait_id(record, candidate)] for record, candidate, _ in found]
        else:
            keys = [single_call_key(s, region, describer, masks[s.image_id]) for s, _, region in found]
        regions = [region_key(s, region, masks[s.image_id]) for s, _, region in found]
        entries, measurements = ledger.entries(keys), ledger.measurements(regions)
        for one, key, measured in zip(found, keys, regions, strict=True):
            yield *one, entries.get(key), measurements.get(measured)
