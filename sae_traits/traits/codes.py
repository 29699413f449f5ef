"""Sparse codes of a collection on disk: which latents fired at which patches of which images.

`encode` writes them as Parquet, one part per feature shard, with what is known of the patches' backgrounds beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sae_traits.arrow import read_parquet
from sae_traits.errors import StoreError
from sae_traits.traits.species_counts import FiringsOfImages

INDEX_FILE = "index.json"
THRESHOLDS_FILE = "thresholds.parquet"
UNKNOWN_BACKGROUND = 255
"""Stored where the probability of a patch, kept in 254ths, is not known."""
CODE_SCHEMA = pa.schema([("image", pa.int32()), ("latent", pa.int32()), ("patch", pa.int32()), ("value", pa.float32())])


@dataclass(frozen=True)
class ImageCodes:
    """What fired in one image, sorted by latent and patch."""

    image: int
    """Row in images.parquet."""
    latents: NDArray[np.int32]
    patches: NDArray[np.int32]
    values: NDArray[np.float32]
    background: NDArray[np.float32] | None = None
    """Probability that each patch of the grid shows background `[n_patches]`, NaN where it is not known; None where
    nothing is known of the collection's backgrounds."""
    knows_organism: bool = False
    """Whether that is known from what the organism looks like."""

    def groups(self) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.float32]]]:
        """Each latent that fired, with its patches and values."""
        for start, end in _runs(self.latents):
            yield int(self.latents[start]), self.patches[start:end], self.values[start:end]


@dataclass(frozen=True)
class Codes:
    """The sparse codes in RUN/codes."""

    folder: Path
    thresholds: NDArray[np.float32]
    """A latent fires above this activation `[n_latents]`."""
    n_images: int
    parts: tuple[str, ...]
    backgrounds: tuple[str, ...] = ()
    """What is known of backgrounds, a file per part; empty where nothing is."""
    latent_background: NDArray[np.float32] | None = None
    """Mean probability of background where each latent fires in training images, weighted by its activation
    `[n_latents]`; NaN where it never fires there. None where nothing is known of backgrounds."""
    latent_places: NDArray[np.float64] | None = None
    """Where each latent usually fires on the organism in training images (x, y), relative to the box around it
    `[n_latents, 2]`; NaN where it never does. None where nothing is known of backgrounds."""
    knows_organism: bool = False
    """Whether backgrounds are known from what the organism looks like."""
    sample: frozenset[int] | None = None
    """Rows of the images that `images` yields, whose firings alone are not counted; None yields all."""

    @property
    def n_latents(self) -> int:
        """Size of the dictionary."""
        return len(self.thresholds)

    def only(self, numbers: range) -> Codes:
        """The codes of the images of some consecutive parts."""
        some = slice(numbers.start, numbers.stop)
        return replace(self, parts=self.parts[some], backgrounds=self.backgrounds[some])

    @classmethod
    def open(cls, folder: Path) -> Codes:
        """Open what `encode_collection` wrote.

        Raises:
            StoreError: the folder has no complete codes, or damaged ones.
        """
        index_file = folder / INDEX_FILE
        if not index_file.is_file():
            raise StoreError(f"{folder} has no codes; run `sae-traits annotate` first")
        try:
            index = json.loads(index_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(f"{index_file} is damaged; remove it, and run `sae-traits annotate` again") from error
        backgrounds = index.get("backgrounds", [])
        for name in (THRESHOLDS_FILE, *index["parts"], *backgrounds):
            if not (folder / name).is_file():
                raise StoreError(f"{folder / name} is missing; run `sae-traits annotate` again")
        table = read_parquet(folder / THRESHOLDS_FILE)
        background = places = None
        if backgrounds:
            if "usual_x" not in table.column_names:
                raise StoreError(f"{folder} has codes of an earlier version; run `sae-traits annotate` again")
            background = table["background"].to_numpy()
            places = np.stack([table["usual_x"].to_numpy(), table["usual_y"].to_numpy()], axis=1)
        return cls(
            folder,
            table["threshold"].to_numpy(),
            index["n_images"],
            tuple(index["parts"]),
            tuple(backgrounds),
            background,
            places,
            index.get("knows_organism", False),
        )

    def images(self) -> Iterator[ImageCodes]:
        """The codes of every image, or of the sample, in which something fired, in the order of images.parquet."""
        for number, part in enumerate(self.parts):
            table = read_parquet(self.folder / part)
            for fired in images_of(table, self._background(number), self.knows_organism):
                if self.sample is None or fired.image in self.sample:
                    yield fired

    def _background(self, number: int) -> dict[int, NDArray[np.float32]]:
        """Probabilities of the patches of a part's images."""
        if not self.backgrounds:
            return {}
        table = read_parquet(self.folder / self.backgrounds[number])
        stored = np.stack([np.asarray(values.values) for values in table["background"]])
        return dict(zip(table["image"].to_pylist(), probabilities_of(stored), strict=True))

    def firing_counts(self) -> Iterator[FiringsOfImages]:
        """How many patches of each image each latent fired at, of the images of each part in which something fired."""
        for part in self.parts:
            yield firings_of(read_parquet(self.folder / part, columns=["image", "latent"]), self.n_latents)


def images_of(
    codes: pa.Table, background: Mapping[int, NDArray[np.float32]], knows_organism: bool = False
) -> Iterator[ImageCodes]:
    """The codes of the images of a table, which are sorted by image, latent and patch.

    Args:
        background: probabilities of the patches of its images, where they are known.
        knows_organism: whether they are those of a model of the organism.
    """
    image, latents, patches, values = (codes[name].to_numpy() for name in CODE_SCHEMA.names)
    for start, end in _runs(image):
        rows, row = slice(start, end), int(image[start])
        yield ImageCodes(row, latents[rows], patches[rows], values[rows], background.get(row), knows_organism)


def firings_of(codes: pa.Table, n_latents: int) -> FiringsOfImages:
    """How many patches of each image of a table each latent fired at, of the images in which something fired."""
    image, latent = codes["image"].to_numpy(), codes["latent"].to_numpy()
    starts = np.flatnonzero(np.diff(image, prepend=-1) | np.diff(latent, prepend=-1))
    counts = np.diff(starts, append=len(image)).astype(np.int32)
    images, lengths = np.unique(image[starts], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return images.astype(np.intp), csr_array((counts, latent[starts], offsets), shape=(len(images), n_latents))


def _runs(values: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """First and one behind the last index of every run of equal values, none of which is negative."""
    return pairwise(np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist())


def probabilities_of(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What `stored_background` made storable `[n_images, n_patches]`; NaN where it is not known."""
    return np.where(stored == UNKNOWN_BACKGROUND, np.nan, stored / (UNKNOWN_BACKGROUND - 1)).astype(np.float32)
