"""From a plan to trait rows: every region has its describer call, through the ledger, and the finished table."""

from __future__ import annotations

import asyncio
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from sae_traits.describers import Describer
from sae_traits.describers.base import Withhold
from sae_traits.images.workers import worker_pool
from sae_traits.logging import track
from sae_traits.schema import Candidate, Description, ImageRecord, Measurement, Region, Trait
from sae_traits.traits.asking import Pictures, answer_calls, measure_answered
from sae_traits.traits.calls import Call, planned_calls, trait_id
from sae_traits.traits.consistency import Group
from sae_traits.traits.ledger import Ledger, LedgerEntry
from sae_traits.traits.outlines import OUTLINED, with_outline
from sae_traits.traits.plan import Plan
from sae_traits.traits.table import read_traits, write_latents, write_traits
from sae_traits.traits.withheld import COLOUR, ColourVotes

TASKS_PER_LOOKUP = 100
"""Images, or groups of images, that are looked up in the ledger together."""
_DESCRIPTION = TypeAdapter(Description)
_MEASUREMENT = TypeAdapter(Measurement)


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
    n_without_colour: int
    """Traits whose sentence names no colour, because the individuals of the species do not agree on it there."""
    n_latents_without_colour: int
    """Latents of a species for which that holds."""
    dropped_latents: tuple[str, ...]
    """Latents that describe no species, each with the reason."""
    species_without_latents: tuple[str, ...]
    """Species of the collection for which no latent was chosen, for example without training images."""
    mean_background: dict[str, float]
    """Mean probability of background over the traits of each species, where it is known."""


def describe_candidates(
    plan: Plan,
    describer: Describer,
    ledger: Ledger,
    *,
    workers: int,
    use_masks: bool = False,
    pictures: Pictures | None = None,
    wanted: Callable[[Sequence[str]], Collection[str]] | None = None,
) -> int:
    """Ask the describer about every region that the ledger has no answer for; nothing else needs it.

    Args:
        wanted: gives those of some calls' keys that this process asks; None asks all.
        use_masks: measure on the animal's pixels alone, where an image has a mask.

    Returns:
        How many calls are still open, because the describer stopped.

    Raises:
        CollectionError: a mask is there no more, or none of the images is.
        DescriberError: the describer cannot answer from the start. One that stops later leaves the rest open.
    """
    n_open = 0
    ledger.drop_damaged()
    # The open calls of a large collection do not fit into memory, and planning them again costs more than reading them.
    with TemporaryFile() as spool:
        with worker_pool(workers) as pool:
            planned = planned_calls(
                plan.candidates(), plan.collection, describer, use_masks=use_masks, outlines=plan.outlines
            )
            planned = track(planned, "plan", None, "task")
            while tasks := list(islice(planned, TASKS_PER_LOOKUP)):
                calls = [call for task in tasks for call in task]
                if wanted is not None:
                    keys = wanted([call.key for call in calls])
                    tasks = [some for task in tasks if (some := [call for call in task if call.key in keys])]
                    calls = [call for task in tasks for call in task]
                ledger.plan((member.trait_id, call.key, member.region_key) for call in calls for member in call.members)
                if describer.reads_masks:  # so that an answer and its measurement are made together
                    ledger.drop_unmeasured()
                else:
                    measure_answered(tasks, ledger, pool)
                is_open = ledger.open_calls(call.key for call in calls)
                for task in tasks:
                    if open_calls := [call for call in task if call.key in is_open]:
                        pickle.dump(open_calls, spool)
                        n_open += len(open_calls)
        if n_open:
            plan.collection.check_images_are_there()
            spool.seek(0)
            answering = answer_calls(_spooled(spool), n_open, describer, ledger, workers=workers, pictures=pictures)
            asyncio.run(answering)
    return ledger.count_open_planned() if n_open else 0


def _spooled(spool: BinaryIO) -> Iterator[list[Call]]:
    """What `describe_candidates` put into a file of its own a moment ago."""
    while True:
        try:
            yield pickle.load(spool)  # noqa: S301  nobody else can write to it
        except EOFError:
            return


def export_traits(
    plan: Plan, ledger: Ledger, *, traits_file: Path, latents_file: Path, withhold: Withhold | None = None
) -> Annotation:
    """Write the traits that have a valid answer, and the latents they use, in the order of the images.

    The same plan and ledger give the same bytes, in whatever order the answers came.

    Args:
        ledger: as `describe_candidates` left it, in the same `with` block.
        withhold: of the describer; says descriptions without the colours that a latent's training individuals do not
            agree on. None leaves all as they were said.
    """
    used: set[tuple[str, int]] = set()
    counts: Counter[str] = Counter()
    described: set[str] = set()
    background: defaultdict[str, list[float]] = defaultdict(list)
    votes = ColourVotes()

    def traits() -> Iterator[Trait]:
        for record, candidate, region, entry, measurement in _answered(plan, ledger):
            counts["open"] += entry is None or entry.is_open
            if entry is None or entry.state == "pending":
                continue
            if entry.state != "ok":
                counts["invalid" if entry.state == "invalid" else "failed"] += 1
                continue
            description = _DESCRIPTION.validate_python(entry.description)
            if description.is_background:
                counts["background"] += 1
                continue
            described.add(record.image_id)
            counts["significant"] += candidate.significant
            if candidate.background is not None and record.taxon.species is not None:
                background[record.taxon.species].append(candidate.background)
            trait = Trait(
                trait_id=trait_id(record, candidate),
                candidate=candidate,
                region=replace(region, organism=None),  # which was for its outline
                description=description,
                measurement=_MEASUREMENT.validate_python(measurement).with_scale(record.mm_per_pixel),
                n_images=entry.n_images,
                describer=entry.describer,
                describer_model=entry.model,
                prompt=entry.prompt,
            )
            if candidate.latent is not None and (species := plan.species_of(record, candidate)) is not None:
                used.add((species, candidate.latent))
                votes.add(species, trait, record)
            yield trait

    n_traits = write_traits(traits_file, traits())
    contradictory = votes.contradictory() if withhold else frozenset()
    if withhold and contradictory:
        counts["withheld"] = _withhold_colours(plan, traits_file, contradictory, withhold)
    write_latents(latents_file, (plan.chosen[species][latent] for species, latent in sorted(used)))
    return Annotation(
        n_traits=n_traits,
        n_images=len(described),
        n_significant=counts["significant"],
        n_background=counts["background"],
        n_invalid=counts["invalid"],
        n_failed=counts["failed"],
        n_open=counts["open"],
        n_without_colour=counts["withheld"],
        n_latents_without_colour=len(contradictory),
        dropped_latents=tuple(f"{dropped.latent}: {dropped.reason}" for dropped in plan.chosen.dropped),
        species_without_latents=plan.species_without_latents,
        mean_background={species: round(fmean(values), 3) for species, values in sorted(background.items())},
    )


def _withhold_colours(plan: Plan, file: Path, contradictory: Collection[Group], withhold: Withhold) -> int:
    """Write a file of traits anew, without the colours of some latents of some species; how many traits that are."""
    n_changed = 0

    def traits() -> Iterator[Trait]:
        nonlocal n_changed
        for trait in read_traits(file):
            record = plan.collection.images[trait.candidate.image]
            if (plan.species_of(record, trait.candidate), trait.candidate.latent) in contradictory:
                n_changed += 1
                yield replace(trait, description=withhold(trait.description, COLOUR))
            else:
                yield trait

    write_traits(file, traits())
    return n_changed


def _answered(
    plan: Plan, ledger: Ledger
) -> Iterator[tuple[ImageRecord, Candidate, Region, LedgerEntry | None, dict[str, Any] | None]]:
    """Yield every candidate in the order of the images, with its call and its measurement where there are any."""
    planned = plan.candidates()
    while images := list(islice(planned, TASKS_PER_LOOKUP)):
        candidates = [(record, *pair) for record, pairs in images for pair in pairs]
        names = [trait_id(record, candidate) for record, candidate, _ in candidates]
        keys = ledger.planned(names)
        entries = ledger.entries([key for key, _ in keys.values()])
        measurements = ledger.measurements([region for _, region in keys.values()])
        for (record, candidate, region), name in zip(candidates, names, strict=True):
            key, of_region = keys[name]
            measured = dict(measurements.get(of_region, {}))  # of a copy: regions of the same patches share it
            if (outlined := measured.pop(OUTLINED, None)) is not None:
                region = with_outline(region, outlined)
            yield record, candidate, region, entries.get(key), measured or None
