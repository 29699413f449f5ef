"""Structure: how embeddings are laid out beyond classes, each figure against what it is when labels are permuted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages, Figures, FloatArray, Inputs, Outcome
from sae_traits.evaluation.measures.structure import (
    Figure,
    structure_of_species,
    structure_of_traits,
    structure_of_variants,
)
from sae_traits.logging import warn

N_PERMUTATIONS = 199
MEANINGS = {
    "within_variance_in_span": "share of the variation within classes that lies in the span of the classes' means",
    "within_variance_in_span_given_genera": "the same, against classes permuted within genera",
    "share_in_span": "share of the difference between variants that lies in that span",
    "fisher_ratio": "squared difference between variants over their variances",
    "trait_correlation": "rank correlation of distances by embedding and by traits",
    "trait_correlation_given_genera": "the same, against classes permuted within genera",
}
TITLES = {
    "within_variance_in_span": "variation in the span of the means",
    "share_in_span": "variants' difference in the span",
    "fisher_ratio": "Fisher ratio of variants",
    "trait_correlation": "correlation with traits",
}
"""For tables of several models; those given genera have the same values, and other nulls."""
_MIN_CLASSES = 3
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class StructureScores:
    """Figures of the layout of embeddings; our reading of what BioCLIP 2's paper calls emergent properties."""

    task: Literal["structure"] = "structure"
    n_images: int
    n_classes: int
    variants: tuple[str, ...]
    """The two that were compared within classes; none where the images' source says of no variants."""
    figures: dict[str, Figure]
    """Name of a figure (MEANINGS) -> its value, and what it is with permuted labels."""


class StructureTask:
    """Measures embeddings against classes, variants within classes, and traits."""

    name, title, result = "structure", "Structure of the embeddings", StructureScores
    needs_clip, needs_models, head = False, True, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse fewer than three classes, and classes of one image each."""
        inputs = inputs.of_scored()
        if len(inputs.names) < _MIN_CLASSES:
            raise CollectionError(
                f"structure needs at least {_MIN_CLASSES} classes, these images have {len(inputs.names)}"
            )
        if len(inputs.rows) == len(inputs.names):
            raise CollectionError("every class has one image, so that nothing varies within classes")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Measure what the labels, the variants and the traits at hand allow."""
        images, inputs = model.images[inputs.scored()], inputs.of_scored()
        seed = inputs.config.seed
        options = {"n_permutations": N_PERMUTATIONS, "seed": seed}
        genera = [name.genus or "" for name in inputs.names]
        shared = all(genera) and 1 < len(set(genera)) < len(genera)  # else there is nothing to permute within
        of_images = np.array(genera)[inputs.truth] if shared else None
        figures = structure_of_species(images, inputs.truth, genera=of_images, units=inputs.units, **options)
        variants = _variants(inputs)
        if variants:
            rows = np.flatnonzero([row.variant in variants for row in inputs.rows])
            second = np.array([inputs.rows[row].variant == variants[1] for row in rows], dtype=np.int64)
            units = inputs.units[rows]
            figures |= structure_of_variants(images[rows], inputs.truth[rows], second, units=units, **options)
        if inputs.traits is not None:
            figures |= _of_traits(inputs, images, genera if shared else None, options)
        return Outcome(
            StructureScores(n_images=len(inputs.rows), n_classes=len(inputs.names), variants=variants, figures=figures)
        )

    def figures(self, result: StructureScores) -> Figures:
        return {title: result.figures[name].interval for name, title in TITLES.items() if name in result.figures}

    def sentence(self, name: str, result: StructureScores) -> str:
        figure = result.figures["within_variance_in_span"]
        said = (
            f"Of the variation within {result.n_classes:,} classes {name} has {figure.value:.3f} in the span of the "
            f"classes' means, where permuted classes have {figure.null_low:.3f} to {figure.null_high:.3f} "
            f"(p = {figure.p_value:.3f})"
        )
        if (follows := result.figures.get("trait_correlation")) is not None:
            said += (
                f"; distances by embedding and by traits correlate with {follows.value:.3f}, those of permuted classes "
                f"with {follows.null_low:.3f} to {follows.null_high:.3f} (p = {follows.p_value:.3f})"
            )
        return f"{said}; this is our reading of the paper, which states no formula."

    def notes(self, result: StructureScores) -> list[str]:
        """Say where there are so many classes that the span of their means is all of the space."""
        if not result.figures["within_variance_in_span"].value >= 1 - _ROUNDING:  # not a number: no variance at all
            return []
        return [
            "there are more classes than embeddings have dimensions, so that the span of their means is the whole "
            "space and holds all of any variation: shares in it say nothing"
        ]


def _variants(inputs: Inputs) -> tuple[str, ...]:
    """The two variants that most images are of, where a class has both."""
    counts: dict[str, int] = {}
    of_class: dict[str, set[str]] = {}
    for row in inputs.rows:
        if row.variant:
            counts[row.variant] = counts.get(row.variant, 0) + 1
            of_class.setdefault(row.label, set()).add(row.variant)
    first = tuple(sorted(sorted(counts), key=lambda name: -counts[name])[:2])
    return first if len(first) == 2 and any(set(first) <= there for there in of_class.values()) else ()


def _of_traits(
    inputs: Inputs, images: FloatArray, genera: Sequence[str] | None, options: Mapping[str, int]
) -> dict[str, Figure]:
    """Correlate distances of the classes that have traits."""
    assert inputs.traits is not None
    places = [place for place, name in enumerate(inputs.names) if inputs.traits[name.label]]
    if len(places) < _MIN_CLASSES:
        return {}
    rows = np.flatnonzero(np.isin(inputs.truth, places))
    distances = trait_distances([inputs.traits[inputs.names[place].label] for place in places])
    if np.ptp(distances[np.triu_indices(len(places), 1)]) == 0:
        warn("the traits of all classes are equally far from each other, so that no distance follows them")
        return {}
    of_classes = None if genera is None else [genera[place] for place in places]
    if of_classes is not None and not 1 < len(set(of_classes)) < len(of_classes):
        of_classes = None
    return structure_of_traits(images[rows], inputs.truth[rows], distances, genera=of_classes, **options)


def trait_distances(traits: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Compute 1 - cosine of the words of what is said of every class, weighted by their rarity `[n, n]`."""
    from scipy.spatial.distance import pdist, squareform
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True).fit_transform(["; ".join(texts) for texts in traits])
    return squareform(pdist(words.toarray(), "cosine"))
