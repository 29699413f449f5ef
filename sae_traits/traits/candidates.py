"""An image's candidates: its species' latents that fired in it, the strongest first, each with its region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from sae_traits.config.regions import RegionsOfLatents
from sae_traits.geometry import PatchGrid
from sae_traits.schema import BackboneInfo, Candidate, ChosenLatent, ImageRecord, Region
from sae_traits.traits.animals import estimated_animal
from sae_traits.traits.chosen import LatentsBySpecies
from sae_traits.traits.codes import Codes, ImageCodes
from sae_traits.traits.regions import make_region, strongest_component
from sae_traits.traits.usual_places import nearness, places_on_organism

THRESHOLD_FLOOR = 1e-6
"""Keeps strengths finite where every positive activation fires."""
MAX_REGION_BACKGROUND = 0.42
"""Lower than the limit of latents and of patches: people, vehicles and other animals, which are neither at the edges of
photographs nor in their middles as often as the organism, lie between. Chosen on bears and capybaras."""
SUREST = 0.03
"""Probability of background below which a patch counts as sure, so that what is surer still does not take the rest of
the organism out of its regions. Chosen on birds, butterflies and the drawn world."""
Candidates = Iterator[tuple[ImageRecord, list[tuple[Candidate, Region]]]]
"""Images with their candidates, in the order of images.parquet; those without a candidate are left out."""


def all_candidates(
    codes: Codes,
    records: Sequence[ImageRecord],
    chosen: LatentsBySpecies,
    info: BackboneInfo,
    options: RegionsOfLatents,
) -> Candidates:
    """Yield every image that has candidates, one image in memory; options are as in `image_candidates`.

    An image of any split is described with the latents that its species got from the training images; one without
    a label with those of all species.
    """
    for fired in codes.images():
        record = records[fired.image]
        grid = info.grid((record.width, record.height))
        if candidates := image_candidates(fired, chosen.of(record), grid, options):
            yield record, candidates


def image_candidates(
    codes: ImageCodes, chosen: Mapping[int, ChosenLatent], grid: PatchGrid, options: RegionsOfLatents
) -> list[tuple[Candidate, Region]]:
    """The best candidates of one image by effect x strength; of those in one place only the strongest.

    Strength is the peak activation in units of the latent's firing threshold, so that latents of different scales
    compare, times the square root of the number of patches: parts come before specks, but a large background area does
    not come before a part (docs/experiments.md compares the choices). A candidate's region is its strongest connected
    group of patches, which count for more the nearer they are to where the latent usually fires (`nearness`), of those
    that most surely show the organism: by what it looks like (`organism_odds`), and where that is not known, where the
    species' latents agree (`evidence`), which counts for less the more probably a patch shows background. A region that
    is too probably background is none: see `is_background`.

    Args:
        options: whose latents these are; candidates at most; a region of which more than `max_overlap` lies in stronger
            ones is left out, because it would say the same of the same place; patches with less than `min_evidence`
            of the image's highest odds or evidence are no part of a region; groups of fewer than `min_patches` are no
            region.
    """
    fired = [(chosen[latent], patches, values) for latent, patches, values in codes.groups() if latent in chosen]
    odds = organism_odds(codes, grid.n_patches)
    if codes.knows_organism:
        shown = odds
    else:
        shown = evidence(fired, grid.n_patches) * (1 - known_background(codes, grid.n_patches))
    agreed = shown >= options.contrast.min_evidence * shown.max(initial=0)
    if options.contrast.min_evidence > 0:
        agreed &= shown > 0
    places = known_places(codes, grid)
    scored: list[tuple[float, Candidate]] = []
    for choice, where, activations in fired:
        inside = agreed[where]
        near = None
        if places is not None and choice.usual_place is not None:
            near = nearness(places[where[inside]], choice.usual_place)
        patches, values = strongest_component(where[inside], activations[inside], grid, options.min_patches, near)
        if not len(patches):
            continue
        background = mean_background(codes, patches)
        if is_background(background, choice.background):
            continue
        peak = float(values.max())
        candidate = Candidate(
            image=codes.image,
            region_source=options.kind,
            latent=choice.latent,
            patches=tuple(patches.tolist()),
            peak=peak,
            background=background,
            contrast=choice.contrast,
        )
        scored.append((choice.contrast.effect * peak / _unit(choice) * len(patches) ** 0.5, candidate))
    scored.sort(key=lambda pair: -pair[0])  # of equal ones the lower latent: codes come in that order
    taken: list[Candidate] = []
    covered: set[int] = set()
    for _, candidate in scored:
        if len(taken) == options.traits_per_image:
            break
        if len(covered.intersection(candidate.patches)) <= options.max_overlap * len(candidate.patches):
            taken.append(candidate)
            covered.update(candidate.patches)
    organism = np.round(255 * _surely_organism(codes, odds)).astype(np.uint8).tobytes()
    return [(candidate, _region(candidate, codes, organism, grid, options.box_margin)) for candidate in taken]


def _region(candidate: Candidate, codes: ImageCodes, organism: bytes, grid: PatchGrid, box_margin: float) -> Region:
    animal = estimated_animal(codes.background, np.array(candidate.patches), grid)
    region = make_region(candidate.patches, grid, box_margin)
    return region if animal is None else replace(region, animal=animal, organism=organism)


def _surely_organism(codes: ImageCodes, odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How surely each patch shows the organism, 0 to 1 `[n_patches]`.

    A model of the organism is overconfident on what lies beside it, so its log odds count, and the photograph's surest
    patch is sure; of what lies at edges, and of masks, the probability does, which of a mask is a share of the patch.
    """
    if codes.knows_organism:
        return odds / max(float(odds.max(initial=0)), 1e-9)
    if codes.background is None:
        return np.zeros(len(odds))
    return 1 - np.nan_to_num(codes.background, nan=1.0).astype(np.float64)


def organism_odds(codes: ImageCodes, n_patches: int) -> NDArray[np.float64]:
    """Log odds that each patch shows the organism, 0 where background is as probable or nothing known `[n_patches]`.

    A model is surest of an organism's inside: features know their neighbourhood, so that what lies beside it looks like
    it, but less so. Of the sure patches (SUREST) none is more so.
    """
    if codes.background is None:
        return np.zeros(n_patches)
    background = np.clip(np.nan_to_num(codes.background, nan=1.0), SUREST, 0.5).astype(np.float64)
    return -logit(background)


def known_places(codes: ImageCodes, grid: PatchGrid) -> NDArray[np.float64] | None:
    """Where each patch lies on the organism, see `places_on_organism` `[n_patches, 2]`; None where it is not known."""
    if codes.background is None:
        return None
    places = places_on_organism(codes.background[None], (grid.rows, grid.columns))[0]
    return None if np.isnan(places).any() else places


def known_background(codes: ImageCodes, n_patches: int) -> NDArray[np.float32]:
    """Probability that each patch shows background, 0 where it is not known `[n_patches]`."""
    return np.zeros(n_patches, np.float32) if codes.background is None else np.nan_to_num(codes.background)


def mean_background(codes: ImageCodes, patches: NDArray[np.int32]) -> float | None:
    """Mean probability that some patches show background, to three digits; None where it is not known."""
    if codes.background is None or np.isnan(mean := float(np.mean(codes.background[patches]))):
        return None
    return round(mean, 3)


def is_background(of_region: float | None, of_latent: float | None) -> bool:
    """Whether a region is left out for its background, judged by its probability averaged with that of its latent.

    Features of a single place mislead, and a latent's mean over all images does not know this one.
    """
    known = [probability for probability in (of_region, of_latent) if probability is not None]
    return bool(known) and fmean(known) > MAX_REGION_BACKGROUND


def evidence(
    fired: Sequence[tuple[ChosenLatent, NDArray[np.int32], NDArray[np.float32]]], n_patches: int
) -> NDArray[np.float64]:
    """How much says at each patch of an image that it shows its species `[n_patches]`.

    The sum of effect x activation in units of the firing threshold, over the species' latents that fired there. Patch
    features know their neighbourhood, so latents of a part also fire beside it, on the background; but there fewer of
    them do, and more weakly.

    Args:
        fired: the species' latents that fired in the image, their patches and activations.
    """
    total = np.zeros(n_patches)
    for choice, patches, values in fired:
        total[patches] += choice.contrast.effect * values / _unit(choice)
    return total


def _unit(choice: ChosenLatent) -> float:
    return max(choice.threshold, THRESHOLD_FLOOR)
