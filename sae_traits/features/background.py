"""What is background in a collection's photographs, learnt from where things lie in them, without masks or labels.

Photographers put the organism in the middle, so what shows at the edges is mostly background. A linear classifier
learns to tell patches from the edges from patches from the middle. A vision model's features also say where in its
input a patch is (padding, positional embeddings), which would tell edges from middles whatever they show. So the
photographs are shifted before: each is continued by its mirror images and moved by a random way, and only patches that
the model then sees away from the edges of its input are learnt from. What lay at an edge is then seen anywhere.

What lies in the middle may be ground, too: a dish whose rim and surroundings are at the edges. Where a photograph has
large plain ground (`features.plain_ground`), patches of it in the middle are learnt from as those from edges are.

Where the two kinds of patches cannot be told apart (the organism fills the photographs, or lies anywhere in them),
nothing is known of the background, and `separation` says so.

Where labels tell which patches show the organism, a second model that is learnt from those takes over: see
`features.organism`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy import ndimage

from sae_traits.errors import ImageError, StoreError
from sae_traits.features.backbone import Backbone
from sae_traits.features.organism import Organism
from sae_traits.features.plain_ground import lies_on, plain_ground
from sae_traits.features.source import FeatureSource
from sae_traits.features.store import FeatureShard
from sae_traits.geometry import PatchGrid
from sae_traits.images.decode import open_image
from sae_traits.io import write_whole
from sae_traits.logging import track, warn
from sae_traits.schema import BackboneInfo, Collection

N_PHOTOGRAPHS = 192
"""Photographs that are learnt from, of the train split; more were not tried."""
LONGEST_SIDE = 1024
"""Larger photographs are shrunk before they are shifted: the model sees less than this of them."""
MIN_INDIVIDUALS = 24
"""With fewer, what the photographs of one show at their edges would decide."""
MIN_OF_A_KIND = 12
"""Individuals that must show edges, and middles that are no plain ground: else those few would decide."""
EDGE, MIDDLE = 0.85, 0.3
"""How far from the centre (0) towards the edge (1) of its photograph a patch must lie at least, or at most."""
SEEN_WITHIN = 0.7
"""How far from the centre of the model's input a patch may be seen."""
MIN_SEPARATION = 0.8
"""Below this separation nothing is taken for background. Photographs of butterflies gave 0.98, monkeys 0.94, bears and
capybaras 0.91; the butterflies again, cut so that they lie in corners, 0.82, and cut to the inside of a wing 0.78."""
INVERSE_PENALTY = 0.002
"""scikit-learn's C of the classifier, on standardised features, with N_PHOTOGRAPHS; with fewer it is larger in
proportion, as C weighs a sum over patches: else a small collection were all background, as more patches are edges."""
SMOOTHING = 14
"""Log odds are smoothed with a deviation of one patch where a side has this many, as in 224 pixels of 16 each."""
N_FOLDS = 4
VERSION = 4
"""Raised whenever the same photographs could give other probabilities."""


@dataclass(frozen=True)
class PatchBackground:
    """What tells which patches of a collection's photographs show background."""

    of_shard: Callable[[FeatureShard], NDArray[np.float32]]
    """Gives the probability that each patch of a shard does `[n_patches]`; NaN where it is not known."""
    knows_organism: bool = False
    """Whether it knows that from what the organism looks like."""


@dataclass(frozen=True)
class Background:
    """A model of whether a patch shows background: linear, or where there is one, that of the organism."""

    weights: NDArray[np.float32]
    """Log odds per unit of each feature `[d_model]`."""
    bias: float
    separation: float
    """Area under the ROC curve of edges against middles that are no plain ground, in individuals that were not learnt
    from, of photographs as they are or of shifted ones, whichever is smaller; 0.5 is chance. NaN where too few
    individuals show either."""
    organism: Organism | None = None
    """What the organism looks like; None where that was not learnt."""

    @classmethod
    def unknown(cls, d_model: int) -> Background:
        """A model that says nothing."""
        return cls(np.zeros(d_model, np.float32), 0.0, float("nan"))

    @property
    def is_known(self) -> bool:
        """Whether edges and middles differ enough that the model means anything."""
        return self.separation >= MIN_SEPARATION

    def of_patches(self, info: BackboneInfo) -> PatchBackground | None:
        """The model for patches of a backbone; None where it means nothing."""
        return PatchBackground(partial(self.of_shard, info=info), self.organism is not None) if self.is_known else None

    def of_shard(self, shard: FeatureShard, info: BackboneInfo) -> NDArray[np.float32]:
        """Probability that each patch of some images shows background, smoothed within its image `[n_patches]`."""
        probabilities = np.empty(len(shard.patches), np.float32)
        for start, end in pairwise(shard.offsets):
            features = shard.features[start:end].float().numpy()
            smooth = _smoothed(self._odds(features), shard.patches[start:end], info)
            probabilities[start:end] = 1 / (1 + np.exp(-smooth))
        return probabilities

    def _odds(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds of background of some patches `[n]`."""
        return (
            features @ self.weights + np.float32(self.bias) if self.organism is None else -self.organism.odds(features)
        )

    def save(self, path: Path) -> None:
        """Write the model as one safetensors file."""
        tensors = {"weights": self.weights, "bias_and_separation": np.array([self.bias, self.separation], np.float64)}
        if (organism := self.organism) is not None:
            tensors |= {f"organism.{name}": getattr(organism, name) for name in _ORGANISM_ARRAYS}
            tensors["organism.bias"] = np.array(organism.bias, np.float64)
        write_whole(path, save(tensors))

    @classmethod
    def open(cls, path: Path) -> Background:
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing or damaged.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                bias, separation = file.get_tensor("bias_and_separation")
                organism = None
                if "organism.bias" in file.keys():  # noqa: SIM118  # a safetensors file is no mapping
                    frequencies, phases, of_features = (
                        file.get_tensor(f"organism.{name}") for name in _ORGANISM_ARRAYS
                    )
                    organism = Organism(frequencies, phases, of_features, float(file.get_tensor("organism.bias")))
                return cls(file.get_tensor("weights"), float(bias), float(separation), organism)
        except (OSError, SafetensorError, ValueError) as error:
            raise StoreError(f"{path} cannot be read; run `sae-traits annotate` again") from error


_ORGANISM_ARRAYS = ("frequencies", "phases", "weights")


def learn_background(collection: Collection, backbone: Backbone, source: FeatureSource, *, seed: int = 0) -> Background:
    """Learn from photographs of the train split, each shifted and continued by its mirror images.

    Args:
        collection: its labels are not looked at.
        backbone: the one that made the features.
        source: the features of the photographs as they are: `separation` is that of these, too, because at the seams
            of mirror images edges could be told from middles whatever they show.
        seed: which photographs, and how far each is shifted.

    Returns:
        The model; a photograph that cannot be read any more is named and passed over.
    """
    generator = np.random.default_rng(seed)
    training = generator.permutation(np.sort(collection.rows("train")))[:N_PHOTOGRAPHS]
    unknown = Background.unknown(backbone.info.d_model)
    individuals = np.unique([record.individual_id for record in collection.images], return_inverse=True)[1]
    if len(np.unique(individuals[training])) < MIN_INDIVIDUALS:
        return unknown
    mirrored, grounds = [], {}
    for row in track(training.tolist(), "background", len(training), "photograph"):
        path = collection.path(collection.images[row])
        try:
            image = open_image(path)
        except ImageError as error:
            warn(f"background: {path} {error}; it is learnt from the other photographs")
            continue
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        shift = (int(generator.integers(2 * image.width)), int(generator.integers(2 * image.height)))
        grid = backbone.info.grid(image.size)
        grounds[row] = plain_ground(image)
        features = backbone.encode(backbone.prepare(shifted(image, shift))[None])[0].cpu().float().numpy()[grid.valid]
        # Shifted, all of the photograph comes into the model's input, what a crop leaves out of it at other times, too.
        origins = _origins(grid, shift)
        distance = _distance_to_centre(origins, (0, 0), grid.source)
        on_ground = lies_on(grounds[row], origins, grid.source)
        inside = _seen_at(grid)[grid.valid] <= SEEN_WITHIN
        individual = int(individuals[row])
        learnt_from = _Patches.of(
            features[inside], distance[grid.valid][inside], on_ground[grid.valid][inside], individual
        )
        mirrored.append(learnt_from)
    as_they_are = []
    for shard in source.shards(np.sort(training)):
        for number, row in enumerate(shard.images.tolist()):
            features, patches = shard.of(number)
            grid = backbone.info.grid((collection.images[row].width, collection.images[row].height))
            origins = _origins(grid, (0, 0))[patches]
            distance = _distance_to_centre(origins, *_covered(grid))
            on_ground = lies_on(grounds.get(row), origins, grid.source)
            as_they_are.append(_Patches.of(features.float().numpy(), distance, on_ground, int(individuals[row])))
    if not (mirrored and as_they_are):
        return unknown
    inverse_penalty = INVERSE_PENALTY * N_PHOTOGRAPHS / len(mirrored)
    return _fitted(_Patches.join(mirrored), _Patches.join(as_they_are), inverse_penalty) or unknown


@dataclass(frozen=True)
class _Patches:
    """Patches from the edges and the middles of photographs."""

    features: NDArray[np.float32]
    """`[n, d_model]`."""
    is_edge: NDArray[np.bool_]
    is_ground: NDArray[np.bool_]
    """From the middle, on plain ground: learnt from as one from the edge, and left out of what edges are told from."""
    individual: NDArray[np.intp]
    """In the photograph, by number; those of one are learnt from or scored together."""

    @classmethod
    def of(
        cls,
        features: NDArray[np.float32],
        distance: NDArray[np.float64],
        on_ground: NDArray[np.bool_],
        individual: int,
    ) -> _Patches:
        """Those of a photograph, given how far each patch is from its centre; the patches between are left out."""
        is_edge, is_middle = distance >= EDGE, distance <= MIDDLE
        chosen = is_edge | is_middle
        is_ground = (is_middle & on_ground)[chosen]
        return cls(features[chosen], is_edge[chosen], is_ground, np.full(len(is_ground), individual))

    @classmethod
    def join(cls, parts: Sequence[_Patches]) -> _Patches:
        """Those of several photographs, one or more."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def only(self, chosen: NDArray[np.bool_]) -> _Patches:
        return _Patches(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def of_individuals(self, individuals: NDArray[np.intp]) -> _Patches:
        """Those of some individuals."""
        return self.only(np.isin(self.individual, individuals))


def shifted(image: Image.Image, shift: tuple[int, int]) -> Image.Image:
    """A photograph continued by its mirror images on all sides, seen through a window of its own size.

    Args:
        shift: how far right and down of the photograph's corner the window begins, in pixels; after twice the width or
            height the same comes again.
    """
    pixels = np.asarray(image)
    columns, rows = (_reflected(np.arange(size) + by, size) for size, by in zip(image.size, shift, strict=True))
    return Image.fromarray(pixels[rows][:, columns])


def _reflected(place: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Which pixel of `size` a place of the mirrored plane shows."""
    within = place % (2 * size)
    return np.minimum(within, 2 * size - 1 - within)


def _origins(grid: PatchGrid, shift: tuple[int, int]) -> NDArray[np.intp]:
    """The pixel of the photograph that the middle of each patch of a shifted one shows: x and y `[n_patches, 2]`."""
    middle = ((grid.corners[:, :2] + grid.corners[:, 2:]) / 2).astype(np.intp)
    return np.stack([_reflected(middle[:, i] + shift[i], grid.source[i]) for i in range(2)], axis=1)


def _covered(grid: PatchGrid) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corner and size of what the patches show of the photograph, in whole pixels: a crop leaves out its edges."""
    left, top = (round(float(side)) for side in grid.corners[:, :2].min(axis=0))
    right, bottom = (round(float(side)) for side in grid.corners[:, 2:].max(axis=0))
    return (left, top), (max(right - left, 1), max(bottom - top, 1))


def _distance_to_centre(
    places: NDArray[np.intp], corner: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float64]:
    """How far places are from the centre (0) of a rectangle to its edge (1), along x or y, whichever is more `[n]`."""
    return np.abs((places - corner + 0.5) / np.array(size) * 2 - 1).max(axis=1)


def _seen_at(grid: PatchGrid) -> NDArray[np.float64]:
    """How far each patch is from the centre of the model's input towards its edge `[n_patches]`."""
    row, column = np.divmod(np.arange(grid.n_patches), grid.columns)
    return _distance_to_centre(np.stack([column, row], axis=1), (0, 0), (grid.columns, grid.rows))


def _fitted(mirrored: _Patches, as_they_are: _Patches, inverse_penalty: float) -> Background | None:
    """The classifier, and how well it does on individuals that it did not see; None where too few show either kind."""
    from sklearn.metrics import roc_auc_score

    both = [some.only(~some.is_ground) for some in (mirrored, as_they_are)]
    of_kinds = [np.unique(some.individual[some.is_edge == is_edge]) for some in both for is_edge in (False, True)]
    if min(len(of_kind) for of_kind in of_kinds) < MIN_OF_A_KIND:
        return None
    individuals = np.unique(mirrored.individual)
    folds = [individuals[fold::N_FOLDS] for fold in range(N_FOLDS)]
    others = [np.setdiff1d(individuals, held_out) for held_out in folds]
    models = [_linear(mirrored.of_individuals(learnt_from), inverse_penalty) for learnt_from in others]
    separations = []
    for patches in both:
        scored = [patches.of_individuals(held_out) for held_out in folds]
        odds = [part.features @ weights + bias for part, (weights, bias) in zip(scored, models, strict=True)]
        separations.append(roc_auc_score(_Patches.join(scored).is_edge, np.concatenate(odds)))
    return Background(*_linear(mirrored, inverse_penalty), float(min(separations)))


def _linear(patches: _Patches, inverse_penalty: float) -> tuple[NDArray[np.float32], float]:
    """Weights `[d_model]` and bias of the log odds of an edge, or of plain ground.

    Both kinds weigh as much together as edges and middles do by number, however much of the middles is ground.
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = patches.features.mean(axis=0), patches.features.std(axis=0)
    deviation = np.where(deviation == 0, 1, deviation)
    is_background = patches.is_edge | patches.is_ground
    n_edges, n_background, n = patches.is_edge.sum(), is_background.sum(), len(is_background)
    weights = np.where(is_background, n_edges / n_background, (n - n_edges) / max(n - n_background, 1))
    classifier = LogisticRegression(C=inverse_penalty, max_iter=500)
    classifier.fit((patches.features - mean) / deviation, is_background, sample_weight=weights)
    of_features = (np.asarray(classifier.coef_)[0] / deviation).astype(np.float32)
    return of_features, float(np.asarray(classifier.intercept_)[0] - mean @ of_features)


def _smoothed(odds: NDArray[np.float32], patches: NDArray[np.int32], info: BackboneInfo) -> NDArray[np.float64]:
    """Log odds of an image's patches, each averaged with its neighbours, of those that lie on the image `[n]`."""
    total, count = np.zeros((2, info.rows * info.columns))
    total[patches], count[patches] = odds, 1
    deviation = (info.rows / SMOOTHING, info.columns / SMOOTHING)
    spread = [ndimage.gaussian_filter(v.reshape(info.rows, info.columns), deviation).ravel() for v in (total, count)]
    return spread[0][patches] / spread[1][patches]
