"""Localisation: do regions lie on the organism and its parts, more than the same boxes at random places do?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.inputs import (
    EmbeddedImages,
    Figures,
    Inputs,
    Outcome,
    Score,
    count,
    percent_interval,
    scores,
)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A measure of regions beside what it is at random places of the same images."""

    n_regions: int
    value: Score
    elsewhere: Score
    """The mean over all places where the same box fits into its image."""
    gain: Score
    """The paired difference."""


@dataclass(frozen=True, kw_only=True)
class LocalisationScores:
    """Where regions lie."""

    task: Literal["localisation"] = "localisation"
    n_regions: int
    n_images: int
    inside: Placement | None
    """Share of a region's box on the organism; None where no mask or box says where that is."""
    on_part: Placement | None
    """Share of the regions that hold a keypoint; None where there are no keypoints."""
    n_unused: int
    """Entries of the files that are of no image, or cannot be used."""


class LocalisationTask:
    """Scores the regions of a table; needs no model."""

    name, title, result = "localisation", "Where regions lie", LocalisationScores
    needs_clip, needs_models, head = False, False, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse a task without regions, or without the images they are of."""
        if inputs.config.regions is None:
            raise ConfigError("localisation needs --regions: a table with image, x, y, width, height")
        if inputs.config.embeddings is not None:
            raise ConfigError("localisation needs the images themselves, and no --embeddings; leave these out")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Score the regions of the images that are scored."""
        located = inputs.located
        assert located is not None
        kept = np.isin(located.image, inputs.scored())
        if not kept.any():
            raise CollectionError("no region is of an image of the split test, whose images are scored")
        image = located.image[kept]
        return Outcome(
            LocalisationScores(
                n_regions=len(image),
                n_images=len(np.unique(image)),
                inside=_placement(inputs, image, located.inside[kept], located.inside_elsewhere[kept]),
                on_part=_placement(inputs, image, located.on_part[kept], located.on_part_elsewhere[kept]),
                n_unused=len(located.problems),
            )
        )

    def figures(self, result: LocalisationScores) -> Figures:
        figures: Figures = {}
        for title, each in (("share on the organism", result.inside), ("share with a keypoint", result.on_part)):
            if each is not None:
                figures |= each.value.figures(title) | {f"{title}, at random places": each.elsewhere.individuals}
                figures |= {f"{title}, gain": each.gain.individuals}
        return figures

    def sentence(self, name: str, result: LocalisationScores) -> str:
        said = []
        if (inside := result.inside) is not None:
            said.append(
                f"{percent_interval(inside.value.individuals)} of the area of {inside.n_regions:,} regions lies on the "
                f"organism, where the same boxes at random places have {percent_interval(inside.elsewhere.individuals)}"
            )
        if (part := result.on_part) is not None:
            said.append(
                f"{percent_interval(part.value.individuals)} of {part.n_regions:,} regions hold a keypoint, where the "
                f"same boxes at random places do in {percent_interval(part.elsewhere.individuals)}"
            )
        return "; ".join(said) + "."

    def notes(self, result: LocalisationScores) -> list[str]:
        """Name what was not used, and what a box cannot say."""
        notes = []
        if result.n_unused:
            entries = count(result.n_unused, "entry of the files is", "entries of the files are")
            notes.append(f"{entries} of no image here, or cannot be used")
        if result.inside is not None and result.inside.gain.individuals.low <= 0:
            notes.append("regions lie no more on the organism than the same boxes at random places")
        return notes


def _placement(
    inputs: Inputs, image: NDArray[np.int64], value: NDArray[np.float64], elsewhere: NDArray[np.float64]
) -> Placement | None:
    known = np.isfinite(value)
    if not known.any():
        return None
    value, elsewhere, rows = value[known], elsewhere[known], image[known]
    here, there, gain = scores([value, elsewhere, value - elsewhere], inputs, rows)
    return Placement(n_regions=len(rows), value=here, elsewhere=there, gain=gain)
