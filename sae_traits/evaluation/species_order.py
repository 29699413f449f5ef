"""In which order the latents of a species come: those to rely on first, and of these what says something new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sae_traits.evaluation.species_tallies import (
    MIN_INDIVIDUALS,
    Attributed,
    DescribedRegion,
    SharedAttribute,
    Tally,
)
from sae_traits.evaluation.telling_words import SaidOfSpecies
from sae_traits.evaluation.verdict import RULES, Observed, Verdict, judge, rank
from sae_traits.schema import Contrast

Order = tuple[int, bool, int, float, int, str]
"""Verdict, whether it has regions in few individuals, reasons against it, difference, individuals and name."""
LOOK_FIRST = list(RULES).index("look first")


@dataclass(frozen=True, kw_only=True)
class DescribedLatent:
    """A latent (or what else picked regions) of a species, with what its verdict and its place are read from."""

    name: str
    tally: Tally
    contrast: Contrast | None
    """None where nothing was compared."""
    held_out: tuple[float, float | None] | None
    """As `Observed` has them."""
    on_organism: float | None = None
    """Share of its regions' area on the organism; None where neither masks nor boxes say so."""
    relatives: tuple[str, ...] = ()
    """Species with which it was compared; none where they are not known."""
    shared: tuple[SharedAttribute, ...] = ()
    """What individuals share there, with what tells them from relatives; `best_first` looks it up."""

    @property
    def n(self) -> int:
        """Individuals with a region of it."""
        return len(self.tally.individuals)

    @property
    def verdict(self) -> Verdict:
        """Whether to rely on it."""
        return judge(self.contrast, self._observed)

    @property
    def shown(self) -> DescribedRegion:
        """The region to show of it."""
        return self.tally.shown(self.shared)

    @property
    def said(self) -> frozenset[Attributed]:
        """What most individuals with a region share."""
        return frozenset((attribute.name, attribute.value) for attribute in self.shared)

    @property
    def telling(self) -> frozenset[Attributed]:
        """Those that tell the species from its relatives."""
        return frozenset((attribute.name, attribute.value) for attribute in self.shared if attribute.is_telling)

    @property
    def order(self) -> Order:
        """In which order the latents of a species come, the smallest first; see `rank`."""
        verdict, n_reasons, minus_difference = rank(self.contrast, self._observed)
        return verdict, self.n < MIN_INDIVIDUALS, n_reasons, minus_difference, -self.n, self.name

    @property
    def _observed(self) -> Observed:
        return Observed(
            background=self.tally.background,
            held_out=self.held_out,
            n_individuals=self.n,
            on_organism=self.on_organism,
            is_told=bool(self.telling),
        )


def best_first(
    found: Sequence[DescribedLatent], said: SaidOfSpecies, species: str
) -> list[tuple[DescribedLatent, str | None]]:
    """Put the latents of a species in order, each with the earlier one that says the same, if any.

    By verdict, regions in few individuals or in more, and how many reasons speak against them; that a latent says
    nothing new counts as one more reason, and puts it among those to look at first. Of equal ones first comes what
    says something new, then what has a word that tells.
    """
    words = {relatives: said.beside(species, relatives) for relatives in {one.relatives for one in found}}
    marked = [replace(one, shared=words[one.relatives].mark(one.tally.shared(), one.n)) for one in found]
    in_order = sorted(marked, key=lambda one: one.order)
    same_as = _same_as_earlier(in_order)

    def order(one: DescribedLatent) -> tuple[int, bool, int, bool, bool, Order]:
        verdict, is_in_few, n_reasons, *_ = one.order
        is_old = not one.shared or same_as[one.name] is not None
        return max(verdict, LOOK_FIRST * is_old), is_in_few, n_reasons + is_old, is_old, not one.telling, one.order

    in_order.sort(key=order)
    return [(one, same_as[one.name]) for one in in_order]


def _same_as_earlier(in_order: Sequence[DescribedLatent]) -> dict[str, str | None]:
    """The first earlier latent that each latent repeats; None where there is none, and for one that says nothing.

    One repeats another if both name an attribute, it has no value that the other lacks of those that both name, and all
    its words that tell are the other's.
    """
    new: list[DescribedLatent] = []
    same_as: dict[str, str | None] = {}
    for one in in_order:
        earlier = next((other.name for other in new if one.shared and _repeats(one, other)), None)
        same_as[one.name] = earlier
        if one.shared and earlier is None:
            new.append(one)
    return same_as


def _repeats(one: DescribedLatent, other: DescribedLatent) -> bool:
    named = {name for name, _ in other.said}
    of_both = {(name, value) for name, value in one.said if name in named}
    return bool(of_both) and of_both <= other.said and one.telling <= other.said
