"""Species that no significant latent tells from their relatives, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sae_traits.rendering import listed
from sae_traits.traits.chosen import ON_BACKGROUND, ChosenLatents
from sae_traits.traits.contrast import specimen_contrast
from sae_traits.traits.species_counts import SpeciesCounts


@dataclass(frozen=True, kw_only=True)
class UntoldSpecies:
    """Species with training individuals and without a significant latent, by name."""

    species_too_few: tuple[str, ...] = ()
    """So few individuals of them, or of their relatives, that no latent could be significant."""
    species_none_passed: tuple[str, ...] = ()
    """A latent could have been, and none was."""
    species_only_on_background: Mapping[str, int] = field(default_factory=dict)
    """Those of both for which latents are significant that fire on background, and how many."""


def untold_species(chosen: ChosenLatents, counts: SpeciesCounts) -> UntoldSpecies:
    """Find the species that no significant latent describes.

    Args:
        chosen: by `specimen_contrast`.
        counts: what it was chosen from.
    """
    table = chosen.contrasts
    is_untold = np.bincount(table.row_species[table.significant], minlength=len(table.species)) == 0
    untold = {table.species[row]: bool(table.can_be_significant[row]) for row in np.flatnonzero(is_untold)}
    on_background = [drop.latent for drop in chosen.dropped if ON_BACKGROUND in drop.reason]
    n_lost = Counter[str]()
    for block in specimen_contrast(counts) if untold and on_background else ():
        lost = block.row_species[block.significant & np.isin(block.latent, on_background)]
        n_lost.update(block.species[row] for row in lost)
    return UntoldSpecies(
        species_too_few=tuple(name for name, could_pass in untold.items() if not could_pass),
        species_none_passed=tuple(name for name, could_pass in untold.items() if could_pass),
        species_only_on_background={name: n_lost[name] for name in untold if n_lost[name]},
    )


def significance_in_words(counts: Mapping[str, Any]) -> list[str]:
    """Say of tested traits what it means that some are not significant, and which species have none that is.

    Args:
        counts: of an annotation, with the fields of `UntoldSpecies` where species were tested.
    """
    if "species_too_few" not in counts:
        return []
    sentences = []
    if n := counts["n_traits"] - counts["n_significant"]:
        sentences.append(
            f"{n:,} traits passed no test and may be what chance gives: labels dealt at random give nearly as many. "
            "More individuals per species would tell."
        )
    if too_few := counts["species_too_few"]:
        sentences.append(
            "Species of which no latent could pass the test, because they or their relatives have too few individuals: "
            f"{listed(too_few)}."
        )
    if none_passed := counts["species_none_passed"]:
        sentences.append(f"Species of which a latent could have passed the test and none did: {listed(none_passed)}.")
    return sentences
