"""From codes to trait rows: contrast, candidates, describer calls through the ledger, and the finished table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

from pydantic import TypeAdapter

from sae_traits.config import ContrastConfig
from sae_traits.progress import track
from sae_traits.schema import (
    BackboneInfo,
    Candidate,
    ChosenLatent,
    Collection,
    Description,
    Measurement,
    Region,
    Specimen,
    Trait,
)
from sae_traits.traits.candidates import all_candidates, choose_latents
from sae_traits.traits.contrast import paper_contrast, specimen_contrast
from sae_traits.traits.describers import Describer
from sae_traits.traits.describing import Call, SpecimenCalls, describe_specimen
from sae_traits.traits.encode import Codes
from sae_traits.traits.ledger import MAXIMUM_ATTEMPTS, Ledger, LedgerEntry, call_key
from sae_traits.traits.table import write_latents, write_traits

CALLS_IN_FLIGHT_A_WORKER = 4
_DESCRIPTION = TypeAdapter(Description)
_MEASUREMENT = TypeAdapter(Measurement)

Chosen = Mapping[str, Mapping[int, ChosenLatent]]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What came of an annotation; counts of traits and specimens."""

    n_traits: int
    n_specimens: int
    """Specimens with at least one trait."""
    n_significant: int
    """Traits whose latent has a q-value of at most 0.05."""
    n_background: int
    """Answers that said the region is background: kept in the ledger, not in the traits."""
    n_invalid: int
    n_failed: int
    n_open: int
    """Of the invalid and failed ones, how many are asked again next time; the others were asked often enough."""
    species_without_latents: tuple[str, ...]
    """Species of the collection for which no latent was chosen, for example without training specimens."""


@dataclass(frozen=True)
class AnnotationPlan:
    """Everything that decides which regions are described."""

    collection: Collection
    codes: Codes
    info: BackboneInfo
    config: ContrastConfig
    chosen: Chosen

    def candidates(self) -> Iterator[tuple[Specimen, list[tuple[Candidate, Region]]]]:
        """Every specimen with its candidates; the same each time, one specimen in memory."""
        return all_candidates(
            self.codes,
            self.collection.specimens,
            self.chosen,
            self.info,
            most=self.config.traits_per_specimen,
            greatest_overlap=self.config.overlap,
        )


def plan_annotation(collection: Collection, codes: Codes, info: BackboneInfo, config: ContrastConfig) -> AnnotationPlan:
    """Contrast the species on the training specimens, and plan what is described."""
    training = [row for row, specimen in enumerate(collection.specimens) if specimen.split == "train"]
    counts = codes.firing_counts()[training]
    taxa = [collection.specimens[row].taxon for row in training]
    if config.contrast == "paper":
        contrasts = paper_contrast(counts, taxa, config.minimum_frequency)
    else:
        contrasts = specimen_contrast(counts, taxa)
    return AnnotationPlan(collection, codes, info, config, choose_latents(contrasts, codes.thresholds))


def describe_candidates(plan: AnnotationPlan, describer: Describer, ledger: Ledger, *, workers: int) -> None:
    """Ask the describer about every region that the ledger has no answer for, in this process or in several."""
    answers = _answers(partial(describe_specimen, describer), _open_calls(plan, describer, ledger), workers)
    for entries in track(answers, "describe", len(plan.collection.specimens), "specimen"):
        ledger.record(entries)


def _answers(
    work: Callable[[SpecimenCalls], list[LedgerEntry]], tasks: Iterator[SpecimenCalls], workers: int
) -> Iterator[list[LedgerEntry]]:
    """The answers to all tasks as they come, with a bounded number of tasks in flight."""
    if workers == 1:
        yield from map(work, tasks)
        return
    # Spawned, not forked: this process may hold the threads of torch.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(work, task) for task in islice(tasks, workers * CALLS_IN_FLIGHT_A_WORKER)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(work, task) for task in islice(tasks, len(done))}
            yield from (future.result() for future in done)


def _open_calls(plan: AnnotationPlan, describer: Describer, ledger: Ledger) -> Iterator[SpecimenCalls]:
    for specimen, candidates in plan.candidates():
        calls = [
            Call(_key(describer, specimen, region), trait_id(specimen, candidate), region)
            for candidate, region in candidates
        ]
        finished = ledger.finished(call.key for call in calls)
        if open_calls := tuple(call for call in calls if call.key not in finished):
            yield SpecimenCalls(plan.collection.path(specimen), specimen.mm_per_pixel, open_calls)


def trait_id(specimen: Specimen, candidate: Candidate) -> str:
    """A name of the trait that is the same in every release made with the same SAE."""
    return f"{specimen.specimen_id}-{candidate.latent}"


def _key(describer: Describer, specimen: Specimen, region: Region) -> str:
    return call_key(
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
        images=[specimen.sha256],
        mm_per_pixel=specimen.mm_per_pixel,
        box=region.box,
        polygons=region.polygons,
    )


def export_traits(
    plan: AnnotationPlan, describer: Describer, ledger: Ledger, *, traits_file: Path, latents_file: Path
) -> Annotation:
    """Write the traits that have a valid answer, and the latents they use, in the order of the specimens."""
    used: set[tuple[str, int]] = set()
    counts: Counter[str] = Counter()
    described: set[str] = set()

    def traits() -> Iterator[Trait]:
        for specimen, candidates in plan.candidates():
            for candidate, region in candidates:
                entry = ledger.get(_key(describer, specimen, region))
                if entry is None or entry.state != "ok":
                    counts[entry.state if entry else "failed"] += 1
                    counts["open"] += entry is None or entry.attempts < MAXIMUM_ATTEMPTS
                    continue
                description = _DESCRIPTION.validate_python(entry.description)
                if description.is_background:
                    counts["background"] += 1
                    continue
                used.add((specimen.species, candidate.latent))
                described.add(specimen.specimen_id)
                counts["significant"] += candidate.contrast.significant
                yield Trait(
                    trait_id=trait_id(specimen, candidate),
                    candidate=candidate,
                    region=region,
                    description=description,
                    measurement=_MEASUREMENT.validate_python(entry.measurement),
                    n_images=1,
                    describer=entry.describer,
                    describer_model=entry.model,
                    prompt=entry.prompt,
                )

    n_traits = write_traits(traits_file, traits())
    write_latents(latents_file, (plan.chosen[species][latent] for species, latent in sorted(used)))
    every_species = {specimen.species for specimen in plan.collection.specimens}
    return Annotation(
        n_traits=n_traits,
        n_specimens=len(described),
        n_significant=counts["significant"],
        n_background=counts["background"],
        n_invalid=counts["invalid"],
        n_failed=counts["failed"],
        n_open=counts["open"],
        species_without_latents=tuple(sorted(every_species - set(plan.chosen))),
    )
