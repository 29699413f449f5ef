"""Scores of a run on the drawn world, where the truth is known: were the diagnostic traits found, and named?

Everything is decided at the patch level: a region lies on a part when at least half of its area does, by the part label
map of its image. Regions are compared with regions of the same shapes placed at random in the same images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sae_traits.describers.colours import color_family
from sae_traits.errors import CollectionError
from sae_traits.evaluation.placement import random_placement
from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.geometry import PatchGrid
from sae_traits.schema import BackboneInfo, Collection, ImageRecord, Trait
from sae_traits.testbench.drawn import Truth, part_labels_file
from sae_traits.testbench.drawn.world import ATTRIBUTES, NOTE, TrueSpecies

ON_PART = 0.5
"""A region lies on a part when at least this share of its area does."""
N_DRAWS = 20
"""Random placements of every region."""


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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        for kind in ("recall", "location", "naming"):
            for row, score in zip(values[kind], getattr(self, kind), strict=True):
                row |= {k: v.to_dict() for k, v in vars(score).items() if isinstance(v, Interval)}
        return values | {"note": NOTE}

    def lines(self) -> list[str]:
        """The scores as text for a terminal."""
        lines = [
            NOTE,
            "",
            "Recall of the diagnostic traits: in an image a trait is found when a region lies on its part (at least",
            f"half of the area); random: the same shapes anywhere in the same image, {N_DRAWS} draws; 95 % intervals",
            "over images.",
            f"  {'':<24}{'regions':<24}{'random':<24}{'records':>10}{'pairs':>7}",
        ]
        for r in self.recall:
            lines.append(f"  {r.group:<24}{r.regions!s:<24}{r.random!s:<24}{r.n_images:>10}{r.n_pairs:>7}")
        lines += [
            f"  Left out: {self.n_hidden} pairs whose part is hidden or broken off.",
            "",
            f"Where the {self.n_regions} regions lie (at least half of the area)",
            f"  {'':<24}{'regions':<24}random",
        ]
        lines += [f"  {row.where:<24}{row.regions!s:<24}{row.random!s:<24}".rstrip() for row in self.location]
        lines += [
            "",
            "The describer against the true traits, over regions on one part. It shares its vocabulary with the drawn",
            "world (finer colours count as the drawn one they belong to), so this says that it measures what it names,",
            "not that it would find the words for an animal.",
            f"  {'':<24}{'right':<24}{'always the commonest':<26}{'named':>6}{'rows':>7}",
        ]
        for n in self.naming:
            majority = "none" if n.majority_accuracy is None else f"{n.majority_accuracy:.3f} ({n.majority_value})"
            lines.append(f"  {n.attribute:<24}{n.accuracy!s:<24}{majority:<26}{n.n_named:>6}{n.n_rows:>7}")
        return lines


class _Pair(NamedTuple):
    """One diagnostic trait in one image."""

    record: int
    alone_in_genus: bool
    test: bool
    found: bool
    random: float


class _Placed(NamedTuple):
    """Where one region lies: on a part that carries a diagnostic trait, on one part, on the background."""

    record: int
    found: tuple[bool, bool, bool]
    random: tuple[float, float, float]


class _Answer(NamedTuple):
    """One attribute of one row."""

    record: int
    attribute: str
    truth: str
    named: str | None


def score(collection: Collection, traits: Sequence[Trait], info: BackboneInfo, *, seed: int = 0) -> DrawnScore:
    """Score the traits of a drawn collection against its truth.

    Recall asks where, not what: a region on the elytra counts for every diagnostic trait of the elytra. Every image
    of the collection counts, also those without a trait.

    Args:
        collection: a collection written by `draw_collection`; its root holds truth.json and the part label maps.
        traits: rows of the dataset; `candidate.image` is the index into `collection.images`.
        info: the backbone that made the patches of the regions.
        seed: of the random placements and of the bootstrap.

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
        area = _area_on_parts(collection, record, grid, len(truth.parts))
        rng = np.random.default_rng([seed, index])
        regions = [row.region.patches for row in rows]
        drawn = [[random_placement(patches, grid, rng) for patches in regions] for _ in range(N_DRAWS)]
        lies_on = _share_on_parts(area, regions) >= ON_PART
        random_on = np.stack([_share_on_parts(area, draw) >= ON_PART for draw in drawn])
        parts = [truth.parts.index(trait.part) for trait in species.diagnostic]
        in_sight = _in_sight(parts, area)
        n_hidden += len(parts) - len(in_sight)
        for part in in_sight:
            found, by_chance = lies_on[:, part].any(), random_on[:, :, part].any(axis=1).mean()
            pairs.append(_Pair(index, species.alone_in_genus, record.split == "test", bool(found), float(by_chance)))
        placed += _places(index, lies_on, random_on, parts)
        answers += _answers(index, rows, lies_on, species, truth.parts)
    return DrawnScore(
        recall=_recall(pairs, seed),
        n_hidden=n_hidden,
        location=_location(placed, seed),
        n_regions=len(placed),
        naming=tuple(_naming(name, [a for a in answers if a.attribute == name], seed) for name in ATTRIBUTES),
    )


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """What the regions of one image found; what two ways to choose regions are compared by."""

    species: str
    alone_in_genus: bool
    n_diagnostic: int
    """Diagnostic traits whose part is in sight."""
    n_found: int
    """Of these, on whose part a region lies."""
    n_regions: int
    n_false: int
    """Regions that lie on no part with a diagnostic trait."""


def count_found(
    collection: Collection, regions: Sequence[Sequence[ArrayLike]], info: BackboneInfo
) -> list[ImageCounts]:
    """How many diagnostic traits the regions of each image found, by the rules of `score`.

    Args:
        collection: a collection written by `draw_collection`.
        regions: the patches of every region of every image.
        info: the backbone that made the patches.

    Raises:
        CollectionError: the collection is not a drawn one, or its label maps do not fit.
    """
    truth = Truth.load(collection.root)
    found = []
    for record, own in zip(collection.images, regions, strict=True):
        species = truth.of(record.species)
        grid = info.grid((record.width, record.height))
        area = _area_on_parts(collection, record, grid, len(truth.parts))
        lies_on = _share_on_parts(area, own) >= ON_PART
        parts = [truth.parts.index(trait.part) for trait in species.diagnostic]
        in_sight = _in_sight(parts, area)
        found.append(
            ImageCounts(
                species=record.species,
                alone_in_genus=species.alone_in_genus,
                n_diagnostic=len(in_sight),
                n_found=int(lies_on[:, in_sight].any(axis=0).sum()),
                n_regions=len(own),
                n_false=int((~lies_on[:, parts].any(axis=1)).sum()),
            )
        )
    return found


def _in_sight(parts: Sequence[int], area: NDArray[np.float64]) -> list[int]:
    """The parts of which at least half a patch is in sight: on no other could any region lie."""
    half_a_patch = np.median(area.sum(axis=0)) / 2
    return [part for part in parts if area[part].sum() >= half_a_patch]


def _area_on_parts(collection: Collection, record: ImageRecord, grid: PatchGrid, n_parts: int) -> NDArray[np.float64]:
    """Source pixels of every patch on every part, the background being part 0 `[n_parts, n_patches]`."""
    path = collection.root / part_labels_file(record.file)
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except OSError as error:
        raise CollectionError(f"{path} cannot be read ({error}); draw the collection again") from error
    if labels.shape != (record.height, record.width) or labels.max() >= n_parts:
        raise CollectionError(f"{path} is no part label map of {record.file}; draw the collection again")
    left, top, right, bottom = grid.corners.T
    patch_area = (right - left) * (bottom - top)
    area = np.zeros((n_parts, grid.n_patches))
    for part in np.unique(labels):
        area[part] = grid.patch_means(labels == part) * patch_area
    return area


def _share_on_parts(area: NDArray[np.float64], regions: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Share of each region's area on each part `[n_regions, n_parts]`."""
    shares = np.zeros((len(regions), len(area)))
    for row, patches in enumerate(regions):
        on_part = area[:, np.asarray(patches)].sum(axis=1)
        shares[row] = on_part / on_part.sum()
    return shares


def _places(
    record: int, lies_on: NDArray[np.bool_], random_on: NDArray[np.bool_], parts: Sequence[int]
) -> list[_Placed]:
    """Where each region of an image lies.

    Args:
        image: index of the image.
        lies_on: whether a region lies on a part `[n_regions, n_parts]`.
        random_on: the same for the random placements `[n_draws, n_regions, n_parts]`.
        parts: the parts that carry a diagnostic trait.
    """

    def kinds(on: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.stack([on[..., parts].any(axis=-1), on[..., 1:].any(axis=-1), on[..., 0]], axis=-1)

    found, by_chance = kinds(lies_on), kinds(random_on).mean(axis=0)
    return [_Placed(record, tuple(f.tolist()), tuple(c.tolist())) for f, c in zip(found, by_chance, strict=True)]


def _answers(
    record: int, rows: Sequence[Trait], lies_on: NDArray[np.bool_], species: TrueSpecies, part_names: Sequence[str]
) -> list[_Answer]:
    """What the describer said of the regions that lie on one part, for the attributes that this part has."""
    answers = []
    for row, on in zip(rows, lies_on, strict=True):
        if not on[1:].any():
            continue
        part = part_names[1 + int(np.argmax(on[1:]))]
        named = {attribute.name: attribute.value for attribute in row.description.attributes}
        if "colour" in named:
            named["colour"] = color_family(named["colour"])
        for attribute in ATTRIBUTES:
            value = species.value(part, attribute)
            if value is not None:
                answers.append(_Answer(record, attribute, value, named.get(attribute)))
    return answers


def _recall(pairs: Sequence[_Pair], seed: int) -> tuple[Recall, ...]:
    groups = {
        "all species": pairs,
        "species with congeners": [pair for pair in pairs if not pair.alone_in_genus],
        "alone in their genus": [pair for pair in pairs if pair.alone_in_genus],
        "all, test split only": [pair for pair in pairs if pair.test],
    }
    scores = []
    for name, members in groups.items():
        records = [pair.record for pair in members]
        scores.append(
            Recall(
                group=name,
                regions=bootstrap_interval([pair.found for pair in members], groups=records, seed=seed),
                random=bootstrap_interval([pair.random for pair in members], groups=records, seed=seed),
                n_images=len(set(records)),
                n_pairs=len(members),
            )
        )
    return tuple(scores)


def _location(placed: Sequence[_Placed], seed: int) -> tuple[Location, ...]:
    records = [region.record for region in placed]
    return tuple(
        Location(
            where=where,
            regions=bootstrap_interval([region.found[kind] for region in placed], groups=records, seed=seed),
            random=bootstrap_interval([region.random[kind] for region in placed], groups=records, seed=seed),
        )
        for kind, where in enumerate(("on a diagnostic part", "on any one part", "on the background"))
    )


def _naming(attribute: str, answers: Sequence[_Answer], seed: int) -> Naming:
    named = [answer for answer in answers if answer.named is not None]
    right = [answer.named == answer.truth for answer in named]
    commonest = Counter(answer.truth for answer in named).most_common(1)
    value, count = commonest[0] if commonest else (None, 0)
    return Naming(
        attribute=attribute,
        accuracy=bootstrap_interval(right, groups=[answer.record for answer in named], seed=seed),
        majority_value=value,
        majority_accuracy=count / len(named) if named else None,
        n_named=len(named),
        n_rows=len(answers),
    )
