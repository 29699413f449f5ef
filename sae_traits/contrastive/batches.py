"""Which images a step sees, how they are cropped and what is said of them: functions of seed and step alone.

So a training that was killed goes on with the batch that it would have had next, whatever the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sae_traits.contrastive.samples import Sample
from sae_traits.contrastive.texts import choose_text, text_type_of_step
from sae_traits.errors import CollectionError, ConfigError, ImageError
from sae_traits.features.preprocessing import Channels, PreparePixels
from sae_traits.images.decode import decode_image

_ASPECT_RATIOS = (3 / 4, 4 / 3)
_ATTEMPTS = 10


@dataclass(frozen=True)
class Order:
    """Rows of every step."""

    n_rows: int
    batch_size: int
    seed: int
    sampling: Literal["all", "balanced", "distinct"] = "all"
    species: NDArray[np.int64] | None = None
    """Of each row `[n_rows]`, as a number; needed unless all rows are taken alike."""

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size, self.n_rows)
        if self.sampling == "distinct" and self.batch_size > (n := len(self._rows_of_species())):
            raise ConfigError(
                f"there are {n} species for a step of {self.batch_size} pairs without one twice; choose a --batch-size "
                f"of at most {n}, or another --sampling"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of all rows; what is left over comes in other epochs."""
        return self.n_rows // self.batch_size

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step `[batch_size]`."""
        if self.sampling == "all":
            epoch, place = divmod(step, self.steps_per_epoch)
            return _permutation(self.n_rows, self.seed, epoch)[place * self.batch_size :][: self.batch_size]
        rng = np.random.default_rng([self.seed, 1, step])
        of_species = self._rows_of_species()
        chosen = rng.choice(len(of_species), self.batch_size, replace=self.sampling == "balanced")
        return np.array([rng.choice(of_species[species]) for species in chosen], np.int64)

    def _rows_of_species(self) -> list[NDArray[np.int64]]:
        assert self.species is not None
        return rows_by_group(self.species)


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(n)


def check_batch_size(batch_size: int, n_rows: int, option: str = "--batch-size") -> None:
    """Raise a ConfigError where a step takes more pairs than there are."""
    if batch_size > n_rows:
        raise ConfigError(
            f"a step of {batch_size} pairs is larger than the data, which have {n_rows}; choose a {option} of at most "
            f"{n_rows}"
        )


def rows_by_group(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each group, in the order of the groups' numbers."""
    return _by_group(groups.tobytes())


@lru_cache(maxsize=2)
def _by_group(groups: bytes) -> list[NDArray[np.int64]]:
    values = np.frombuffer(groups, np.int64)
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


@dataclass(frozen=True)
class RandomCrop:
    """A random part of an image as the model's input: RandomResizedCrop, without flips and without other colours.

    Source: torchvision's RandomResizedCrop, with open_clip's scale of 0.9 to 1 and bicubic resampling (BioCLIP 2,
    src/open_clip/transform.py:333-355).
    """

    side: int
    mean: Channels
    std: Channels
    min_share: float = 0.9

    def box(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge of a crop of an image of that width and height."""
        width, height = size
        low, high = (math.log(ratio) for ratio in _ASPECT_RATIOS)
        for _ in range(_ATTEMPTS):
            area = width * height * rng.uniform(self.min_share, 1.0)
            ratio = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return left, upper, left + w, upper + h
        w, h = min(width, round(height * _ASPECT_RATIOS[1])), min(height, round(width / _ASPECT_RATIOS[0]))
        left, upper = (width - w) // 2, (height - h) // 2
        return left, upper, left + w, upper + h

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """float32 `[3, side, side]`."""
        cropped = image.crop(self.box(image.size, rng)).resize((self.side, self.side), Image.Resampling.BICUBIC)
        pixels = np.asarray(cropped, np.float32) / 255
        normalised = (pixels - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))


@dataclass(frozen=True)
class WholeImage:
    """An image as the model looks at it when it is evaluated, the same at every step."""

    prepare: PreparePixels

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """float32 `[3, height, width]`."""
        return self.prepare(image)


@dataclass(frozen=True)
class TextChoice:
    """Types of text, how often each is taken, and whether a step has one type or every sample its own."""

    types: tuple[str, ...]
    weights: tuple[float, ...] = ()
    per: Literal["sample", "batch"] = "sample"

    def of_step(self, step: int) -> str | None:
        """The type of a whole step; None where every sample has its own."""
        return text_type_of_step(self.types, self.weights, step) if self.per == "batch" else None


Place = tuple[int, int, int, bytes | None]
"""Step, place in the whole batch, row; the encoded picture, where it was read already."""


class StepOrder(Protocol):
    """Which rows each step sees."""

    @property
    def batch_size(self) -> int:
        """Over all processes."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of all rows."""
        ...

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step `[batch_size]`."""
        ...


@dataclass(frozen=True)
class PairsDataset(Dataset[tuple[Tensor, str, int] | str]):
    """Makes the pair at a place: cropped pixels, a text, the row; or says why an image cannot be read."""

    samples: Sequence[Sample]
    crop: RandomCrop | WholeImage
    choice: TextChoice
    seed: int

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: Place) -> tuple[Tensor, str, int] | str:
        step, position, row, encoded = place
        sample = self.samples[row]
        rng = np.random.default_rng([self.seed, 2, step, position])
        only = self.choice.of_step(step)
        types, weights = (self.choice.types, self.choice.weights) if only is None else ((only,), ())
        text = choose_text(sample.texts, types, weights, rng)
        try:
            return self.crop(sample.open() if encoded is None else decode_image(encoded), rng), text, row
        except ImageError as error:
            return f"{sample.name} cannot be used: {error}"


@dataclass(frozen=True)
class Loaded:
    """This process's share of a step."""

    pixels: Tensor
    texts: tuple[str, ...]
    rows: Tensor
    """int64 `[n]`"""


def load_batches(
    dataset: PairsDataset,
    order: StepOrder,
    first_step: int,
    n_steps: int,
    *,
    process: int,
    n_processes: int,
    workers: int,
    pictures: Iterable[list[bytes | None]] | None = None,
) -> Iterator[Loaded]:
    """This process's share of every step from `first_step` on, opened ahead by worker processes.

    `pictures` are the encoded ones of this share of every step; where there are none, the workers read them.

    Raises:
        CollectionError: an image cannot be read.
    """
    own = order.batch_size // n_processes

    def places() -> Iterator[list[Place]]:
        for step, encoded in zip(range(first_step, n_steps), pictures or repeat([None] * own), strict=False):
            rows = order.rows(step)[process * own :][:own].tolist()
            yield [(step, process * own + i, row, encoded[i]) for i, row in enumerate(rows)]

    loader = DataLoader(dataset, batch_sampler=places(), num_workers=workers, collate_fn=_collate)  # pyright: ignore
    for loaded in loader:
        if isinstance(loaded, str):
            raise CollectionError(f"{loaded}; leave it out, and train again")
        yield loaded


def _collate(pairs: Sequence[tuple[Tensor, str, int] | str]) -> Loaded | str:
    for pair in pairs:
        if isinstance(pair, str):
            return pair
    pixels, texts, rows = zip(*(pair for pair in pairs if not isinstance(pair, str)), strict=True)
    return Loaded(torch.stack(pixels), texts, torch.tensor(rows))
