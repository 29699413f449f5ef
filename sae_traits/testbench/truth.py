"""Scores of a run on the drawn world, where the truth is known: were the diagnostic traits found, and named?

Everything is decided at the patch level: a region lies on a part when at least half of its area does, by the part label
map of its image. Regions are compared with regions of the same shapes placed at random in the same images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from sae_traits.describers.colours import color_family
from sae_traits.describers.measured import place_of
from sae_traits.errors import CollectionError
from sae_traits.evaluation.placement import random_placement
from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.geometry import PatchGrid
from sae_traits.schema import AnimalFrame, BackboneInfo, Collection, ImageRecord, Region, Trait
from sae_traits.testbench.drawn import Truth, part_labels_file
from sae_traits.testbench.drawn.world import ATTRIBUTES, NOTE, TRUTH_FILE, TrueSpecies
from sae_traits.traits.animals import Animal, distance_from_centre, position_along_axis

if TYPE_CHECKING:
    from sae_traits.evaluation.evidence import Evidence

ON_PART = 0.5
"""A region lies on a part when at least this share of its area does."""
N_DRAWS = 20
"""Random placements of every region."""
PLACES_SAID = ("place of the part", "place of the region")
"""What the describer's `place` is compared with: the true place on the animal of the piece of a part that the region
lies on, and that of the region, which says how well the animal is known."""
PLACES = ("on a diagnostic part", "on any one part", "on the background")


@dataclass(frozen=True)
class Recall:
    """Share of the (image, diagnostic trait) pairs in which a region of the image lies on the trait's part."""

    group: str
    regions: Interval
    random: Interval
    n_images: int
    n_pairs: int


@dataclass(frozen=True)
class Location:
    """Share of the regions that lie on something."""

    where: str
    regions: Interval
    random: Interval


@dataclass(frozen=True)
class Naming:
    """How often the describer's value of an attribute is the true one."""

    attribute: str
    accuracy: Interval
    """Over the rows in which the describer named the attribute."""
    majority_value: str | None
    majority_accuracy: float | None
    """Of always answering the commonest true value, over the same rows; None without rows."""
    n_named: int
    n_rows: int
    """Rows whose region lies on one part that has a true value of the attribute."""


@dataclass(frozen=True)
class DrawnScore:
    """What a run on the drawn world is worth; intervals are 95 % bootstrap intervals over images."""

    recall: tuple[Recall, ...]
    n_hidden: int
    """Pairs left out of the recall, because less of the part is in sight than half a patch."""
    location: tuple[Location, ...]
    n_regions: int
    naming: tuple[Naming, ...]
    note: str = NOTE


class DrawnTruth:
    """Scores the traits of a drawn collection against what was drawn; a task for an evaluation."""

    name, heading, result = "drawn", "Against the truth of the drawn world", DrawnScore

    def run(self, evidence: Evidence) -> DrawnScore | None:
        """Score the traits; None where the collection is not a drawn one, or came without labels."""
        collection = evidence.collection
        is_labelled = all(record.taxon.species is not None for record in collection.images)
        if collection.note != NOTE or not is_labelled or not (collection.root / TRUTH_FILE).is_file():
            return None
        return score(collection, evidence.traits, evidence.backbone)

    def lines(self, result: DrawnScore) -> list[str]:
        """The scores as text for a terminal."""
        lines = [
            NOTE,
            "",
            "Recall of the diagnostic traits: in an image a trait is found when a region lies on its part (at least",
            f"half of the area); random: the same shapes anywhere in the same image, {N_DRAWS} draws; 95 % intervals",
            "over images.",
            f"  {'':<24}{'regions':<24}{'random':<24}{'images':>10}{'pairs':>7}",
        ]
        for r in result.recall:
            lines.append(f"  {r.group:<24}{r.regions!s:<24}{r.random!s:<24}{r.n_images:>10}{r.n_pairs:>7}")
        lines += [
            f"  Left out: {result.n_hidden} pairs whose part is hidden or broken off.",
            "",
            f"Where the {result.n_regions} regions lie (at least half of the area)",
            f"  {'':<24}{'regions':<24}random",
        ]
        lines += [f"  {row.where:<24}{row.regions!s:<24}{row.random!s:<24}".rstrip() for row in result.location]
        lines += [
            "",
            "The describer against the true traits, over regions on one part. It shares its vocabulary with the drawn",
            "world (finer colours count as the drawn one they belong to), so this says that it measures what it names,",
            "not that it would find the words for an animal.",
            f"  {'':<24}{'right':<24}{'always the commonest':<26}{'named':>6}{'rows':>7}",
        ]
        for n in result.naming:
            majority = "none" if n.majority_accuracy is None else f"{n.majority_accuracy:.3f} ({n.majority_value})"
            lines.append(f"  {n.attribute:<24}{n.accuracy!s:<24}{majority:<26}{n.n_named:>6}{n.n_rows:>7}")
        return lines


@dataclass(frozen=True)
class PartMap:
    """What of each patch of an image lies on each part, the background being part 0."""

    area: NDArray[np.float64]
    """Source pixels `[n_parts, n_patches]`."""
    labels: NDArray[np.uint8]
    """The part that each source pixel shows `[height, width]`."""
    grid: PatchGrid
    animal: AnimalFrame | None
    """Of all parts together; None where none is in sight."""

    @classmethod
    def load(cls, collection: Collection, record: ImageRecord, grid: PatchGrid, n_parts: int) -> PartMap:
        """Read the part label map of an image.

        Raises:
            CollectionError: it is missing, or is of another image.
        """
        path = collection.root / part_labels_file(record.file)
        try:
            with Image.open(path) as image:
                labels = np.asarray(image)
        except OSError as error:
            raise CollectionError(f"{path} cannot be read ({error}); draw the collection again") from error
        if labels.shape != (record.height, record.width) or labels.max() >= n_parts:
            raise CollectionError(f"{path} is no part label map of {record.file}; draw the collection again")
        left, top, right, bottom = grid.corners.T
        area = np.zeros((n_parts, grid.n_patches))
        for part in np.unique(labels):
            area[part] = grid.patch_means(labels == part) * (right - left) * (bottom - top)
        return cls(area, labels, grid, Animal.of(labels > 0).frame if labels.any() else None)

    def place_of_part(self, part: int, patches: Sequence[int]) -> str | None:
        """Where on the animal the piece of a part lies that a region touches, by the true outline of both."""
        touched = np.zeros(self.labels.shape, dtype=bool)
        for left, top, right, bottom in np.round(self.grid.corners[list(patches)]).astype(int):
            touched[top:bottom, left:right] = True
        pieces, _ = ndimage.label(self.labels == part)  # pyright: ignore[reportGeneralTypeIssues]
        of_region = pieces[touched & (pieces > 0)]
        if not len(of_region):
            return None
        y, x = np.nonzero(pieces == int(np.argmax(np.bincount(of_region))))
        return self._place(np.array([x.mean() + 0.5, y.mean() + 0.5]), len(x))

    def place_of_region(self, region: Region) -> str | None:
        """Where on the animal a region lies, by the true outline of the animal."""
        geometry = shapely.union_all([shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in region.polygons])
        return self._place(shapely.get_coordinates(shapely.centroid(geometry))[0], float(geometry.area))

    def _place(self, centroid: NDArray[np.float64], area: float) -> str | None:
        if self.animal is None:
            return None
        distance, along = distance_from_centre(centroid, self.animal), position_along_axis(centroid, self.animal)
        return place_of(min(1.0, area / self.animal.area), distance, along)

    def lies_on(self, regions: Sequence[ArrayLike]) -> NDArray[np.bool_]:
        """Whether a region, given by its patches, lies on a part `[n_regions, n_parts]`."""
        areas = [self.area[:, np.asarray(patches)].sum(axis=1) for patches in regions]
        return np.array([area / area.sum() for area in areas]).reshape(len(areas), len(self.area)) >= ON_PART

    def in_sight(self, parts: Sequence[int]) -> list[int]:
        """The parts of which at least half a patch is in sight: on no other could any region lie."""
        half_a_patch = np.median(self.area.sum(axis=0)) / 2
        return [part for part in parts if self.area[part].sum() >= half_a_patch]


class _Pair(NamedTuple):
    """One diagnostic trait in one image."""

    image: int
    alone_in_genus: bool
    is_test: bool
    is_found: bool
    random: float


class _Placed(NamedTuple):
    """Where one region lies, by PLACES."""

    image: int
    lies: NDArray[np.bool_]
    random: NDArray[np.float64]


class _Answer(NamedTuple):
    """One attribute of one row."""

    image: int
    attribute: str
    truth: str
    named: str | None


def score(collection: Collection, traits: Iterable[Trait], info: BackboneInfo) -> DrawnScore:
    """Score the traits of a drawn collection against its truth.

    Recall asks where, not what: a region on the elytra counts for every diagnostic trait of the elytra. Every image
    of the collection counts, also those without a trait.

    Args:
        collection: a collection written by `draw_collection`; its root holds truth.json and the part label maps.
        traits: rows of the dataset; `candidate.image` is the index into `collection.images`.
        info: the backbone that made the patches of the regions.

    Raises:
        CollectionError: the collection is not a drawn one, or its label maps do not fit.
        ConfigError: the regions are of another backbone.
    """
    truth = Truth.load(collection.root)
    rows_of: dict[int, list[Trait]] = {}
    for trait in traits:
        rows_of.setdefault(trait.candidate.image, []).append(trait)
    pairs, placed, answers, n_hidden = [], [], [], 0
    for index, record in enumerate(collection.images):
        species = truth.of(record.species)
        rows = rows_of.get(index, [])
        grid = info.grid((record.width, record.height))
        part_map = PartMap.load(collection, record, grid, len(truth.parts))
        rng = np.random.default_rng([0, index])
        regions = [row.region.patches for row in rows]
        draws = [[random_placement(patches, grid, rng) for patches in regions] for _ in range(N_DRAWS)]
        lies_on = part_map.lies_on(regions)
        random_on = np.stack([part_map.lies_on(draw) for draw in draws])
        parts = [truth.parts.index(trait.part) for trait in species.diagnostic]
        in_sight = part_map.in_sight(parts)
        n_hidden += len(parts) - len(in_sight)
        for part in in_sight:
            is_found, by_chance = bool(lies_on[:, part].any()), float(random_on[:, :, part].any(axis=1).mean())
            pairs.append(_Pair(index, species.alone_in_genus, record.split == "test", is_found, by_chance))
        random_places = _places(random_on, parts).mean(axis=0)
        placed += map(_Placed, [index] * len(rows), _places(lies_on, parts), random_places)
        answers += _answers(index, rows, lies_on, species, truth.parts)
        answers += _places_said(index, rows, lies_on, part_map)
    return DrawnScore(
        recall=_recall(pairs),
        n_hidden=n_hidden,
        location=_location(placed),
        n_regions=len(placed),
        naming=tuple(
            _naming(name, [a for a in answers if a.attribute == name]) for name in (*ATTRIBUTES, *PLACES_SAID)
        ),
    )


def _places(lies_on: NDArray[np.bool_], diagnostic: Sequence[int]) -> NDArray[np.bool_]:
    """Which of PLACES regions lie on `[…, 3]`, from whether they lie on each part `[…, n_parts]`."""
    return np.stack([lies_on[..., diagnostic].any(axis=-1), lies_on[..., 1:].any(axis=-1), lies_on[..., 0]], axis=-1)


def _answers(
    image: int, rows: Sequence[Trait], lies_on: NDArray[np.bool_], species: TrueSpecies, part_names: Sequence[str]
) -> list[_Answer]:
    """What the describer said of the regions that lie on one part, for the attributes that this part has."""
    answers = []
    for row, on in zip(rows, lies_on, strict=True):
        if not on[1:].any():
            continue
        part = part_names[1 + int(np.argmax(on[1:]))]
        # of several colours the first, which covers most
        named = {attribute.name: attribute.value for attribute in reversed(row.description.attributes)}
        if "colour" in named:
            named["colour"] = color_family(named["colour"])
        for attribute in ATTRIBUTES:
            value = species.value(part, attribute)
            if value is not None:
                answers.append(_Answer(image, attribute, value, named.get(attribute)))
    return answers


def _places_said(image: int, rows: Sequence[Trait], lies_on: NDArray[np.bool_], part_map: PartMap) -> list[_Answer]:
    """What the describer said of the place of the regions that lie on one part."""
    answers = []
    for row, on in zip(rows, lies_on, strict=True):
        if not on[1:].any():
            continue
        said = next((one.value for one in row.description.attributes if one.name == "place"), None)
        truths = (
            part_map.place_of_part(1 + int(np.argmax(on[1:])), row.region.patches),
            part_map.place_of_region(row.region),
        )
        answers += [_Answer(image, name, t, said) for name, t in zip(PLACES_SAID, truths, strict=True) if t is not None]
    return answers


def _recall(pairs: Sequence[_Pair]) -> tuple[Recall, ...]:
    groups = {
        "all species": pairs,
        "species with congeners": [pair for pair in pairs if not pair.alone_in_genus],
        "alone in their genus": [pair for pair in pairs if pair.alone_in_genus],
        "all, test split only": [pair for pair in pairs if pair.is_test],
    }
    scores = []
    for name, members in groups.items():
        images = [pair.image for pair in members]
        regions = bootstrap_interval([pair.is_found for pair in members], groups=images)
        random = bootstrap_interval([pair.random for pair in members], groups=images)
        scores.append(Recall(name, regions, random, n_images=len(set(images)), n_pairs=len(members)))
    return tuple(scores)


def _location(placed: Sequence[_Placed]) -> tuple[Location, ...]:
    images = [region.image for region in placed]
    return tuple(
        Location(
            where=where,
            regions=bootstrap_interval([region.lies[kind] for region in placed], groups=images),
            random=bootstrap_interval([region.random[kind] for region in placed], groups=images),
        )
        for kind, where in enumerate(PLACES)
    )


def _naming(attribute: str, answers: Sequence[_Answer]) -> Naming:
    named = [answer for answer in answers if answer.named is not None]
    right = [answer.named == answer.truth for answer in named]
    commonest = Counter(answer.truth for answer in named).most_common(1)
    value, count = commonest[0] if commonest else (None, 0)
    return Naming(
        attribute=attribute,
        accuracy=bootstrap_interval(right, groups=[answer.image for answer in named]),
        majority_value=value,
        majority_accuracy=count / len(named) if named else None,
        n_named=len(named),
        n_rows=len(answers),
    )
