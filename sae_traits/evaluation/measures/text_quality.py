"""What texts of species are worth: against reference descriptions, against other describers, and against congeners.

References and describers are compared in a closed vocabulary of colours and sizes, whose words can exclude each other
(`traits.consistency.EXCLUDING`); what else a text says is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.evaluation.measures.agreement import krippendorff_alpha
from sae_traits.evaluation.prompts import unit_length
from sae_traits.evaluation.ranking import count_places, top_credit
from sae_traits.traits.consistency import EXCLUDING, excluding_classes

FloatArray = NDArray[np.float64]


def compare_with_references(texts: Sequence[Sequence[str]], references: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Look for the colours and sizes of reference descriptions in what is said of each species.

    A reference of another species has some coverage, too: compare with references that are dealt among congeners.

    Args:
        texts: of each species `[n_species]`.
        references: one description per species `[n_species]`.

    Returns:
        Coverage, the share of the reference's colours and sizes that the texts say, too; NaN where it has none. And
        contradiction, the share of facets in which both say something and nothing in common; NaN where there is no
        facet `[n_species]` each.
    """
    coverage, contradiction = [], []
    for of_species, reference in zip(texts, references, strict=True):
        facets = [(excluding_classes(facet, of_species), excluding_classes(facet, [reference])) for facet in EXCLUDING]
        n_wanted = sum(len(wanted) for _, wanted in facets)
        coverage.append(sum(len(said & wanted) for said, wanted in facets) / n_wanted if n_wanted else np.nan)
        in_both = [not said & wanted for said, wanted in facets if said and wanted]
        contradiction.append(np.mean(in_both) if in_both else np.nan)
    return np.array(coverage, dtype=np.float64), np.array(contradiction, dtype=np.float64)


def describer_agreement(texts: Sequence[Sequence[str | None]], facet: str) -> float:
    """Compute Krippendorff's alpha of describers who looked at the same regions.

    Whether a class of words (brown, white …) is said is what they agree on or not; classes that none says are left out.

    Args:
        texts: of each describer and region `[n_describers][n_regions]`; None where there is no answer.
        facet: one of `EXCLUDING`: colour, size.

    Returns:
        Alpha; NaN where nothing can be compared.
    """
    said = [[None if text is None else excluding_classes(facet, [text]) for text in row] for row in texts]
    classes = sorted({word for row in said for words in row if words for word in words})
    if not classes:
        return float("nan")
    ratings = np.array(
        [[np.nan if words is None else float(word in words) for words in row for word in classes] for row in said]
    )
    return krippendorff_alpha(ratings, "nominal")


def specificity(
    texts: NDArray[np.floating], species: ArrayLike, prototypes: NDArray[np.floating], genera: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Find the species of each text, without its name, among the species of the genus.

    Args:
        texts: embeddings, of any length but zero `[n_texts, d]`.
        species: of each text, as a row of `prototypes` `[n_texts]`.
        prototypes: what species look like, for example the mean embedding of their images `[n_species, d]`.
        genera: of the species, numbers or names `[n_species]`.

    Returns:
        1 where a text is most similar to its own species, 0 where to a congener, a share under ties; and chance, one
        over the number of species of the genus `[n_texts]` each; both are NaN where the genus has one species.
    """
    texts, prototypes = (unit_length(np.asarray(vectors, dtype=np.float64)) for vectors in (texts, prototypes))
    species, genera = np.asarray(species), np.asarray(genera)
    credit, chance = np.full(len(texts), np.nan), np.full(len(texts), np.nan)
    for genus in np.unique(genera):
        congeners = np.flatnonzero(genera == genus)
        rows = np.flatnonzero(genera[species] == genus)
        if len(congeners) < 2 or not len(rows):
            continue
        cosines = prototypes[congeners] @ texts[rows].T
        own = cosines[np.searchsorted(congeners, species[rows]), np.arange(len(rows))]
        credit[rows] = top_credit(*count_places(cosines, own), 1)
        chance[rows] = 1 / len(congeners)
    return credit, chance
