"""A specimen's candidates: its species' latents that fired in it, the strongest first, each with its region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from sae_traits.geometry import PatchGrid
from sae_traits.schema import BackboneInfo, Candidate, ChosenLatent, Contrast, Region, Specimen
from sae_traits.traits.encode import Codes, SpecimenCodes
from sae_traits.traits.regions import make_region, overlap, strongest_component

SMALLEST_THRESHOLD = 1e-6
"""Keeps strengths finite where every positive activation fires."""


def choose_latents(contrasts: pd.DataFrame, thresholds: np.ndarray) -> dict[str, dict[int, ChosenLatent]]:
    """The rows of a contrast by species and latent, with the latents' firing thresholds."""
    chosen: dict[str, dict[int, ChosenLatent]] = {}
    for row in contrasts.itertuples(index=False):
        latent = int(row.latent)  # pyright: ignore[reportArgumentType]
        chosen.setdefault(str(row.species), {})[latent] = ChosenLatent(
            species=str(row.species),
            latent=latent,
            threshold=float(thresholds[latent]),
            contrast=Contrast(
                f_species=float(row.f_species),  # pyright: ignore[reportArgumentType]
                f_reference=float(row.f_reference),  # pyright: ignore[reportArgumentType]
                effect=float(row.effect),  # pyright: ignore[reportArgumentType]
                q_value=float(row.q_value),  # pyright: ignore[reportArgumentType]
                significant=bool(row.significant),
                reference_rank=row.reference_rank,  # pyright: ignore[reportArgumentType]
            ),
            n_fired=int(row.n_fired),  # pyright: ignore[reportArgumentType]
            n_specimens=int(row.n_specimens),  # pyright: ignore[reportArgumentType]
        )
    return chosen


def specimen_candidates(
    codes: SpecimenCodes,
    chosen: Mapping[int, ChosenLatent],
    grid: PatchGrid,
    *,
    most: int,
    greatest_overlap: float,
) -> list[tuple[Candidate, Region]]:
    """The best `most` candidates of one specimen by effect x strength; of overlapping ones only the strongest.

    Strength is the peak activation in units of the latent's firing threshold, so that latents of different scales
    compare, times the square root of the number of patches: parts come before specks, but a large background area does
    not come before a part (docs/quality.md compares the choices). A candidate's region is its strongest connected group
    of patches.
    """
    scored: list[tuple[float, Candidate]] = []
    for latent, patches, values in codes.groups():
        if (choice := chosen.get(latent)) is None:
            continue
        patches, values = strongest_component(patches, values, grid)
        peak = float(values.max())
        strength = peak / max(choice.threshold, SMALLEST_THRESHOLD) * len(patches) ** 0.5
        candidate = Candidate(
            specimen=codes.specimen,
            latent=latent,
            patches=tuple(int(p) for p in patches),
            peak=peak,
            contrast=choice.contrast,
        )
        scored.append((choice.contrast.effect * strength, candidate))
    scored.sort(key=lambda pair: (-pair[0], pair[1].latent))
    taken: list[Candidate] = []
    for _, candidate in scored:
        if len(taken) == most:
            break
        if all(overlap(candidate.patches, other.patches) <= greatest_overlap for other in taken):
            taken.append(candidate)
    return [(candidate, make_region(candidate.patches, grid)) for candidate in taken]


def all_candidates(
    codes: Codes,
    specimens: Sequence[Specimen],
    chosen: Mapping[str, Mapping[int, ChosenLatent]],
    info: BackboneInfo,
    *,
    most: int,
    greatest_overlap: float,
) -> Iterator[tuple[Specimen, list[tuple[Candidate, Region]]]]:
    """Every specimen that has candidates, in the order of specimens.parquet.

    A specimen of any split is described with the latents that its species got from the training specimens.
    """
    for found in codes.specimens():
        specimen = specimens[found.specimen]
        grid = info.grid((specimen.width, specimen.height))
        candidates = specimen_candidates(
            found, chosen.get(specimen.species, {}), grid, most=most, greatest_overlap=greatest_overlap
        )
        if candidates:
            yield specimen, candidates
