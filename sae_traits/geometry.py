"""PatchGrid: source pixels <-> model input <-> patches. The only module that knows about resizing and cropping.

A source image of `source` pixels is resized to `resized` pixels and laid on a canvas of `size` pixels (the model input)
with its upper left corner at `offset`: negative where it is cropped, positive where it is padded, zero where it is
squashed. The canvas is cut into `rows x columns` patches, counted row by row from the upper left. All of this is exact
arithmetic: a patch maps to the rectangle of source pixels that it was made from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sae_traits.errors import ConfigError

FramingMode = Literal["squash", "crop", "letterbox"]
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

MIN_COVERAGE = 0.5
"""A patch counts when at least this share of it lies on the image: less is padding, which never trains or fires."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How a source image becomes a model input, the same for every image of a collection.

    `squash` resizes to `size` and ignores the aspect ratio; `crop` resizes the shortest side to `shortest_side` and
    cuts `size` from the centre; `letterbox` fits the whole image into `size` and pads the rest.
    """

    mode: FramingMode
    size: tuple[int, int]
    """Width and height of the model input in pixels."""
    shortest_side: int | None = None
    """Shortest side after resizing; for `crop` only."""
    resample: Resample = "bicubic"

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ConfigError(f"the model input must be at least 1 x 1 pixels, not {self.size[0]} x {self.size[1]}")
        if (self.mode == "crop") != (self.shortest_side is not None):
            raise ConfigError("shortest_side belongs to the framing `crop`, and only to it")
        if self.shortest_side is not None and self.shortest_side < max(self.size):
            raise ConfigError(
                f"shortest_side {self.shortest_side} is smaller than the crop {self.size[0]} x {self.size[1]}; "
                f"make it {max(self.size)} or more"
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"size": list(self.size)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Framing:
        width, height = values["size"]
        plain: dict[str, Any] = {field.name: values[field.name] for field in fields(cls)} | {"size": (width, height)}
        return cls(**plain)

    def place(self, source: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Resized width and height of a source image, and its offset on the canvas, in whole model input pixels.

        Rounds as the transformers image processors do, so that both give the same pixels.
        """
        width, height = source
        canvas_width, canvas_height = self.size
        if self.mode == "squash":
            return self.size, (0, 0)
        if self.mode == "crop":
            assert self.shortest_side is not None
            side = self.shortest_side
            resized = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
            return resized, (-((resized[0] - canvas_width) // 2), -((resized[1] - canvas_height) // 2))
        scale = min(canvas_width / width, canvas_height / height)
        resized = min(canvas_width, max(1, round(width * scale))), min(canvas_height, max(1, round(height * scale)))
        return resized, ((canvas_width - resized[0]) // 2, (canvas_height - resized[1]) // 2)

    def grid(self, source: tuple[int, int], *, rows: int, columns: int, patch: float | None = None) -> PatchGrid:
        """The grid of rows and columns of patches of one source image of (width, height) pixels.

        `patch` is the side of a patch in model input pixels; None divides the input evenly (convolutional maps).
        """
        if min(source) < 1:
            raise ConfigError(f"an image must be at least 1 x 1 pixels, not {source[0]} x {source[1]}")
        resized, offset = self.place(source)
        sides = (self.size[0] / columns, self.size[1] / rows) if patch is None else (float(patch), float(patch))
        return PatchGrid(
            source=source,
            resized=resized,
            offset=offset,
            size=self.size,
            rows=rows,
            columns=columns,
            patch=sides,
            resample=self.resample,
        )


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """How one image became patches; see the module docstring for the fields."""

    source: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    rows: int
    columns: int
    patch: tuple[float, float]
    """Width and height of a patch in model input pixels."""
    resample: Resample = "bicubic"

    @property
    def n_patches(self) -> int:
        """Number of patches, padding included."""
        return self.rows * self.columns

    @property
    def scale(self) -> tuple[float, float]:
        """Model input pixels per source pixel, along x and along y."""
        return self.resized[0] / self.source[0], self.resized[1] / self.source[1]

    def frame(self, image: Image.Image, padding: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
        """Make the model input of an upright RGB image of `source` pixels; `padding` is the colour around it."""
        if image.size != self.source:
            raise ConfigError(f"this grid is for images of {self.source}, not {image.size}")
        resized = image.resize(self.resized, resample=Image.Resampling[self.resample.upper()])
        left, top = self.offset
        right, bottom = left + resized.width, top + resized.height
        if left <= 0 and top <= 0 and right >= self.size[0] and bottom >= self.size[1]:
            return resized.crop((-left, -top, -left + self.size[0], -top + self.size[1]))
        canvas = Image.new("RGB", self.size, padding)
        canvas.paste(resized, self.offset)
        return canvas

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        """Left, top, right, bottom of every patch in source pixels, not clipped `[n_patches, 4]`."""
        row, column = np.divmod(np.arange(self.n_patches), self.columns)
        # Where a patch ends the next begins, to the last bit: else the union of neighbours had seams.
        x, y = (
            (np.arange(n + 1, dtype=np.float64) * side - offset) / scale
            for n, side, offset, scale in zip(
                (self.columns, self.rows), self.patch, self.offset, self.scale, strict=True
            )
        )
        return np.stack([x[column], y[row], x[column + 1], y[row + 1]], axis=1)

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """Left, top, right, bottom of every patch in source pixels, clipped to the image `[n_patches, 4]`."""
        width, height = self.source
        return np.clip(self._edges, 0, [width, height, width, height])

    @cached_property
    def coverage(self) -> NDArray[np.float64]:
        """Share of each patch that lies on the image, the rest being padding `[n_patches]`."""
        clipped = (self.corners[:, 2:] - self.corners[:, :2]).prod(axis=1)
        return clipped / (self._edges[:, 2:] - self._edges[:, :2]).prod(axis=1)

    @cached_property
    def valid(self) -> NDArray[np.intp]:
        """Indices of the patches that count: at least half of each lies on the image `[n_valid]`, ascending."""
        # An image much thinner than a patch covers less than half of every patch; its best patches then stand for it.
        needed = min(MIN_COVERAGE, float(self.coverage.max()))
        return np.flatnonzero(self.coverage >= needed - 1e-9)

    def rows_and_columns(
        self, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The row of patches of each y `[n]`, and the column of each x `[n]`, of points in the source image.

        A point that the grid does not reach, as of what a crop leaves out, gets the nearest one.
        """
        scale_x, scale_y = self.scale
        columns = np.floor((x * scale_x + self.offset[0]) / self.patch[0]).astype(np.intp)
        rows = np.floor((y * scale_y + self.offset[1]) / self.patch[1]).astype(np.intp)
        return np.clip(rows, 0, self.rows - 1), np.clip(columns, 0, self.columns - 1)

    def between_patches(
        self, values: NDArray[Any], x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        """A value per patch `[n_patches]` at each point of a lattice in source pixels, bilinear `[len(y), len(x)]`.

        A patch has its value in its middle; beyond the middles of the outermost patches that count it stays the same.
        """
        from scipy import ndimage  # here, as figures and reports need this module, and not scipy

        (scale_x, scale_y), (left, top) = self.scale, self.offset
        valid_rows, valid_columns = np.divmod(self.valid, self.columns)
        columns = np.clip((x * scale_x + left) / self.patch[0] - 0.5, valid_columns.min(), valid_columns.max())
        rows = np.clip((y * scale_y + top) / self.patch[1] - 0.5, valid_rows.min(), valid_rows.max())
        places = np.meshgrid(rows, columns, indexing="ij")
        return ndimage.map_coordinates(np.reshape(values, (self.rows, self.columns)), places, float, order=1)

    def box(self, patch: int) -> tuple[float, float, float, float]:
        """x, y, width, height of a patch in source pixels, clipped to the image."""
        left, top, right, bottom = (float(edge) for edge in self.corners[patch])
        return left, top, right - left, bottom - top

    def patch_means(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Average one value per source pixel `[height, width]` over each patch's box, by area `[n_patches]`."""
        width, height = self.source
        if values.shape != (height, width):
            raise ConfigError(f"the array is {values.shape}, the image [{height}, {width}]")
        integral = summed_area(values, np.float64)

        def until(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
            """Sum of the values above and left of each point; bilinear in the integral image is exact."""
            column, row = np.minimum(x.astype(int), width - 1), np.minimum(y.astype(int), height - 1)
            right, down = x - column, y - row
            upper = integral[row, column] * (1 - right) + integral[row, column + 1] * right
            lower = integral[row + 1, column] * (1 - right) + integral[row + 1, column + 1] * right
            return upper * (1 - down) + lower * down

        left, top, right, bottom = self.corners.T
        total = until(right, bottom) - until(left, bottom) - until(right, top) + until(left, top)
        area = (right - left) * (bottom - top)
        on_image = self.coverage > 1e-9  # what is beside the image may overlap it by a rounding error
        return np.divide(total, area, out=np.zeros_like(total), where=on_image)


def summed_area(values: NDArray[Any], dtype: type[np.number]) -> NDArray[Any]:
    """Sums of all values above and left of each corner of a pixel: an image `[rows, columns]` gives one more of both.

    The sum over any rectangle is then that of four of them. Source: Crow 1984, summed-area tables.
    """
    rows, columns = values.shape
    integral = np.zeros((rows + 1, columns + 1), dtype=dtype)
    np.cumsum(np.cumsum(values, axis=0, dtype=dtype), axis=1, dtype=dtype, out=integral[1:, 1:])
    return integral


def cut_to_image(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    """The part of a box (x, y, width, height) in an image of (width, height) pixels; None where there is none."""
    x, y, width, height = box
    if x >= 0 and y >= 0 and x + width <= size[0] and y + height <= size[1]:
        return box  # to the last bit, which taking corners apart would change
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + width, size[0]), min(y + height, size[1])
    return (left, top, right - left, bottom - top) if left < right and top < bottom else None
