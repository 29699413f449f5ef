"""What a run knew of the backgrounds of its photographs, in the words of the summary, report, cards and atlas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sae_traits.rendering import listed
from sae_traits.traits.chosen import MAX_BACKGROUND

N_HIGHEST = 3
"""Species that are named with their means."""


@dataclass(frozen=True, kw_only=True)
class KnownBackground:
    """What told background from organism, and what was left out for it."""

    is_known: bool
    how: str
    """A sentence: what told them apart, or why nothing did."""
    by_masks: bool = False
    """Whether masks of the collection did."""
    separation: float | None = None
    """Area under the ROC curve of edges against middles of photographs; None where it was not found."""
    n_latents: int = 0
    """That fire at all."""
    n_left_out: int = 0
    """Of these, those that describe no species because they fire on background."""
    mean_by_species: Mapping[str, float] = field(default_factory=dict)
    """Mean probability that the regions of a species' traits show background."""
    only_on_background: Mapping[str, int] = field(default_factory=dict)
    """Species -> latents that would pass its test, where all of them fire on background."""

    @property
    def left_out(self) -> str:
        """A sentence: how many latents were left out."""
        if not self.is_known:
            return "So no latent and no region was left out for it, and regions may lie on it."
        return f"Latents left out because they fire on background: {self.n_left_out:,} of {self.n_latents:,}."

    def sentences(self, pictures: str) -> list[str]:
        """Say all of it, and at which pictures of the regions to look where nothing is known."""
        if not self.is_known:
            return [self.how, self.left_out, f"Look at {pictures} before you believe them."]
        sentences = [self.how, self.left_out]
        if highest := sorted(self.mean_by_species.items(), key=lambda pair: -pair[1])[:N_HIGHEST]:
            named = ", ".join(f"{species} ({mean:.2f})" for species, mean in highest)
            sentences.append(f"Mean probability that the regions of a species show background: highest in {named}.")
        if self.only_on_background:
            named = listed([f"{species} ({n})" for species, n in self.only_on_background.items()])
            sentences.append(f"Species that latents on background alone tell from relatives (how many do): {named}.")
        return sentences

    @property
    def warnings(self) -> list[str]:
        """Say of which species the regions are probably background."""
        suspects = [f"{name} ({mean:.2f})" for name, mean in self.mean_by_species.items() if mean > MAX_BACKGROUND]
        return [f"Probably background, do not believe their traits: {listed(suspects)}."] if suspects else []
