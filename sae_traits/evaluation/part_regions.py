"""The regions of several methods on the same images, as arrays that the measures of `evaluation.parts` take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.part_truth import ON_ANIMAL, ImageTruth, PartTruth
from sae_traits.evaluation.parts import OFF_PART, UNKNOWN_PART
from sae_traits.evaluation.placement import mean_over_placements
from sae_traits.geometry import PatchGrid
from sae_traits.logging import track
from sae_traits.schema import BackboneInfo, Candidate, Collection
from sae_traits.traits.codes import Codes, ImageCodes
from sae_traits.traits.plan import Plan
from sae_traits.traits.usual_places import places_on_organism


@dataclass(frozen=True)
class Method:
    """A dictionary: where it fires, and which regions a run with it describes."""

    plan: Plan
    codes: Codes


@dataclass(frozen=True)
class RegionTable:
    """The regions of a method, one per row of each array."""

    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    """Place among the regions of its image, 0 the strongest."""
    species: NDArray[np.int64]
    latent: NDArray[np.int64]
    significant: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    inside: NDArray[np.float64]
    """Share of the region on the animal; NaN where that is unknown, as below."""
    chance: NDArray[np.float64]
    """The same at a random place."""
    peak_inside: NDArray[np.float64]
    """1 where the latent's strongest patch in the image is on the animal, else 0."""
    peak_chance: NDArray[np.float64]
    """Share of the image's patches that are."""
    part: NDArray[np.int64]
    place: NDArray[np.float64]
    """Relative to the animal's box `[n, 2]`."""
    estimated_place: NDArray[np.float64]
    """Relative to the box around what is probably no background, or to the image where nothing is known `[n, 2]`."""

    def per_image(self, n_images: int) -> NDArray[np.int64]:
        """How many regions each image has `[n_images]`."""
        return np.bincount(self.image, minlength=n_images)

    def strongest(self, n: NDArray[np.int64]) -> RegionTable:
        """The strongest regions of each image, at most `n` of it `[n_images]`."""
        kept = self.rank < n[self.image]
        return RegionTable(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True)
class FiringTable:
    """Every latent that fires in a held-out image whose parts are known, with the part of its strongest patch."""

    image: NDArray[np.int64]
    species: NDArray[np.int64]
    latent: NDArray[np.int64]
    part: NDArray[np.int64]


MarkedParts = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]
"""The marked parts of all images, the regions of a perfect detector of parts, as `location_explained` takes them: place
relative to the animal's box `[n, 2]`, part, species, and whether the image is held out `[n]`."""


def sample_of_species(collection: Collection, n: int, seed: int = 0) -> frozenset[int] | None:
    """Rows of `n` images, of random species all that fit: few images of every species say little of any.

    None where there are no more.
    """
    if len(collection.images) <= n:
        return None
    rng = np.random.default_rng(seed)
    _, species = np.unique([record.taxon.species or "" for record in collection.images], return_inverse=True)
    order = np.lexsort((rng.permutation(len(species)), rng.permutation(species.max() + 1)[species]))
    return frozenset(order[:n].tolist())


def gather(
    methods: Mapping[str, Method],
    collection: Collection,
    info: BackboneInfo,
    truth: PartTruth,
    species: Mapping[str, int],
) -> tuple[dict[str, tuple[RegionTable, FiringTable]], MarkedParts]:
    """Place the regions of all methods on what is known of their images, and give what was marked in these.

    Args:
        methods: by name, all of the same images and backbone; what the codes of the first know of backgrounds is the
            estimate of where an organism is, for all of them.
        collection: with labels; images without a species are left out.
        species: number of each species.

    Raises:
        CollectionError: a mask cannot be read.
    """
    streams = [_by_image(method, len(collection.images)) for method in methods.values()]
    regions: list[list[tuple[Any, ...]]] = [[] for _ in streams]
    firings: list[list[tuple[int, ...]]] = [[] for _ in streams]
    marked: list[tuple[NDArray[np.float64], int, int, bool]] = []
    for row, record in enumerate(track(collection.images, "part evidence", len(collection.images), "image")):
        found = [next(stream) for stream in streams]
        if record.taxon.species is None or not any(fired or candidates for fired, candidates in found):
            continue
        number, held_out = species[record.taxon.species], record.split != "train"
        grid = info.grid((record.width, record.height))
        of_image = truth.of(row, grid)
        background = None if found[0][0] is None else found[0][0].background
        image = _Image(row, number, held_out, grid, of_image, _estimated_places(grid, background))
        for (fired, candidates), rows in zip(found, regions, strict=True):
            peaks = {} if fired is None else _peaks(fired)
            rows += [image.region(rank, candidate, peaks) for rank, candidate in enumerate(candidates)]
        if of_image is not None:
            marked += [(place, part, number, held_out) for part, place in of_image.marked_parts]
        if held_out and of_image is not None and of_image.knows_parts:
            part_of_patch = np.full(grid.n_patches, OFF_PART)  # which padding is, where nothing fires
            part_of_patch[grid.valid] = [of_image.part_of([patch]) for patch in grid.valid]
            for (fired, _), tables in zip(found, firings, strict=True):
                peaks = {} if fired is None else _peaks(fired)
                tables += [(row, number, latent, part_of_patch[patch]) for latent, patch in peaks.items()]
    placed = {
        name: (_region_table(rows), FiringTable(*np.array(tables, dtype=np.int64).reshape(-1, 4).T))
        for name, rows, tables in zip(methods, regions, firings, strict=True)
    }
    return placed, _marked_parts(marked)


def _marked_parts(rows: list[tuple[NDArray[np.float64], int, int, bool]]) -> MarkedParts:
    place = np.array([row[0] for row in rows], dtype=np.float64).reshape(-1, 2)
    part, species, held_out = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 3).T
    return place, part, species, held_out.astype(bool)


def _by_image(method: Method, n_images: int) -> Iterator[tuple[ImageCodes | None, list[Candidate]]]:
    """Yield what fired in each image, None where nothing did, and its candidates."""
    codes, planned = method.codes.images(), method.plan.candidates()
    next_codes, next_planned = next(codes, None), next(planned, None)
    for row in range(n_images):
        fired, candidates = None, []
        if next_codes is not None and next_codes.image == row:
            fired, next_codes = next_codes, next(codes, None)
        if next_planned is not None and next_planned[1][0][0].image == row:
            candidates = [candidate for candidate, _ in next_planned[1]]
            next_planned = next(planned, None)
        yield fired, candidates


@dataclass(frozen=True)
class _Image:
    """What all regions of an image share."""

    row: int
    species: int
    held_out: bool
    grid: PatchGrid
    truth: ImageTruth | None
    estimated_places: NDArray[np.float64]

    def region(self, rank: int, candidate: Candidate, peaks: Mapping[int, int]) -> tuple[Any, ...]:
        """A row of the RegionTable."""
        patches, truth = np.array(candidate.patches), self.truth
        assert candidate.latent is not None
        inside = chance = peak_inside = peak_chance = np.nan
        if truth is not None and truth.on_animal is not None:
            on_animal = truth.on_animal
            inside, chance = float(on_animal[patches].mean()), mean_over_placements(patches, on_animal, self.grid)
            peak_inside = float(on_animal[peaks[candidate.latent]] >= ON_ANIMAL)
            peak_chance = float((on_animal[self.grid.valid] >= ON_ANIMAL).mean())
        return (
            self.row, rank, self.species, candidate.latent, candidate.significant, self.held_out,
            inside, chance, peak_inside, peak_chance,
            UNKNOWN_PART if truth is None else truth.part_of(patches),
            np.full(2, np.nan) if truth is None else truth.place_of(patches),
            self.estimated_places[patches].mean(axis=0),
        )  # fmt: skip


def _peaks(fired: ImageCodes) -> dict[int, int]:
    return {latent: int(patches[values.argmax()]) for latent, patches, values in fired.groups()}


def _estimated_places(grid: PatchGrid, background: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Where patches lie in the box around what is probably not background, or in the image where nothing is known."""
    if background is None:
        background = np.full(grid.n_patches, np.nan, np.float32)
        background[grid.valid] = 0
    return places_on_organism(background[None], (grid.rows, grid.columns))[0]


def _region_table(rows: list[tuple[Any, ...]]) -> RegionTable:
    """The columns of some rows."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(fields(RegionTable))
    types = [np.int64, np.int64, np.int64, np.int64, bool, bool, *[np.float64] * 4, np.int64, np.float64, np.float64]
    arrays = [np.array(values, dtype=dtype) for values, dtype in zip(columns, types, strict=True)]
    arrays[-2:] = [places.reshape(-1, 2) for places in arrays[-2:]]
    return RegionTable(*arrays)
