"""Names for latents that a describer proposes: one call per latent, about the regions in which it is strongest.

They go through a ledger as all calls do, so that none is asked twice. They are suggestions: a person says what a latent
is called.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from sae_traits.describers import Describer
from sae_traits.schema import Collection, Trait
from sae_traits.traits.asking import answer_calls
from sae_traits.traits.calls import Call, Member, call_about
from sae_traits.traits.ledger import Ledger

N_STRONGEST = 4
"""Individuals that a call shows."""


@dataclass(frozen=True, kw_only=True)
class Suggestions:
    """What came of asking."""

    names: dict[int, str]
    """By latent."""
    n_asked: int
    n_background: int
    """Latents whose regions lie on background, as the describer says."""
    n_without_part: int
    """Latents whose regions show no one part, as it says."""
    n_open: int
    """Latents that the same command asks about next time, or whose answer could not be used."""


def suggest_names(
    traits: Iterable[Trait],
    collection: Collection,
    describer: Describer,
    ledger: Ledger,
    *,
    named: Container[int],
    n_latents: int,
    workers: int,
) -> Suggestions:
    """Ask a describer what latents stand for, as far as the ledger has no answer.

    Args:
        traits: of a run; only the strongest of each latent are kept.
        named: latents that have a name already.
        n_latents: at most so many are asked about, those with the most regions first.

    Raises:
        DescriberError: the describer cannot answer from the start.
    """
    ledger.drop_damaged()
    calls = naming_calls(traits, collection, describer, named=named, n_latents=n_latents)
    is_open = ledger.open_calls(call.key for call in calls.values())
    tasks = [[call] for call in calls.values() if call.key in is_open]
    if tasks:
        asyncio.run(answer_calls(iter(tasks), len(tasks), describer, ledger, workers=workers))
    entries = ledger.entries([call.key for call in calls.values()])
    counts, names = Counter[str](), {}
    for latent, call in calls.items():
        entry = entries.get(call.key)
        if entry is None or entry.state != "ok" or entry.description is None:
            counts["open"] += 1
        elif entry.description["is_background"]:
            counts["background"] += 1
        elif not entry.description["part"]:
            counts["without part"] += 1
        else:
            names[latent] = entry.description["part"]
    return Suggestions(
        names=names,
        n_asked=len(calls),
        n_background=counts["background"],
        n_without_part=counts["without part"],
        n_open=counts["open"],
    )


def naming_calls(
    traits: Iterable[Trait], collection: Collection, describer: Describer, *, named: Container[int], n_latents: int
) -> dict[int, Call]:
    """Latent -> the call about its strongest regions, at most one per individual, whatever their species."""
    n_regions = Counter[int]()
    strongest: dict[int, dict[str, Trait]] = defaultdict(dict)
    for trait in traits:
        latent = trait.candidate.latent
        if latent is None or latent in named:
            continue
        n_regions[latent] += 1
        best, individual = strongest[latent], collection.images[trait.candidate.image].individual_id
        if individual not in best or _strength(trait) > _strength(best[individual]):
            best[individual] = trait
        if len(best) > describer.images_per_description:
            del best[min(best, key=lambda one: _strength(best[one]))]
    chosen = sorted(n_regions, key=lambda latent: (-n_regions[latent], latent))[:n_latents]
    calls = {}
    for latent in chosen:
        shown = sorted(strongest[latent].values(), key=lambda trait: (-_strength(trait), trait.trait_id))
        call = call_about([_member(trait, collection) for trait in shown], describer)
        calls[latent] = replace(call, identity=replace(call.identity, trait_id=f"latent {latent}"))
    return calls


def _strength(trait: Trait) -> float:
    return trait.candidate.peak or 0.0


def _member(trait: Trait, collection: Collection) -> Member:
    """A region without a species, since those of a call may be of several."""
    record = collection.images[trait.candidate.image]
    return replace(Member.of(trait.trait_id, collection, record, trait.region), species=None)
