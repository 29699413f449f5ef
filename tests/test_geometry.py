"""The mapping between source pixels and patches, drawn on images and looked at in the framed input."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from grids import square_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sae_traits.errors import ConfigError
from sae_traits.geometry import Framing, PatchGrid

SIZE, PATCH = 224, 14
MODES = ("squash", "crop", "letterbox")

sides = st.integers(20, 900)
modes = st.sampled_from(MODES)
patches = st.integers(0, (SIZE // PATCH) ** 2 - 1)
resamples = st.sampled_from(("bilinear", "bicubic", "lanczos"))
few = settings(max_examples=25, deadline=None)
"""For properties that resize an image in every example."""


def framing_of(mode: str, resample: str = "bicubic", size: tuple[int, int] = (SIZE, SIZE)) -> Framing:
    shortest_side = max(size) * 8 // 7 if mode == "crop" else None
    return Framing(mode=mode, size=size, shortest_side=shortest_side, resample=resample)  # pyright: ignore[reportArgumentType]


def grid_of(mode: str, width: int, height: int, resample: str = "bicubic") -> PatchGrid:
    return framing_of(mode, resample).grid((width, height), rows=SIZE // PATCH, columns=SIZE // PATCH, patch=PATCH)


def overlap(start: float, end: float, n: int) -> NDArray[np.float64]:
    """How much of each of `n` unit pixels lies between start and end `[n]`."""
    pixel = np.arange(n)
    return np.clip(np.minimum(pixel + 1, end) - np.maximum(pixel, start), 0, 1)


def weights(box: tuple[float, float, float, float], width: int, height: int) -> NDArray[np.float64]:
    """How much of each source pixel lies in a box `[height, width]`."""
    x, y, box_width, box_height = box
    return np.outer(overlap(y, y + box_height, height), overlap(x, x + box_width, width))


def painted(box: tuple[float, float, float, float], width: int, height: int) -> Image.Image:
    """A black image with a white box, the pixels on its edge grey."""
    grey = np.rint(255 * weights(box, width, height)).astype(np.uint8)
    return Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))


def brightness(framed: Image.Image, grid: PatchGrid) -> NDArray[np.float64]:
    """Mean of each patch of the model input, cut out without the grid's own arithmetic `[n_patches]`."""
    values = np.asarray(framed.convert("L"), dtype=float)
    return values.reshape(grid.rows, PATCH, grid.columns, PATCH).mean(axis=(1, 3)).ravel()


@few
@given(mode=modes, width=sides, height=sides, pick=patches, resample=resamples)
def test_a_painted_box_lights_up_the_patch_it_belongs_to(mode, width, height, pick, resample):
    grid = grid_of(mode, width, height, resample)
    patch = int(grid.valid[pick % len(grid.valid)])
    bright = brightness(grid.frame(painted(grid.box(patch), width, height)), grid)
    assert bright[patch] == bright.max() > 0


@few
@given(mode=modes, width=sides, height=sides, pick=patches)
def test_the_light_of_a_painted_box_is_centred_on_its_patch(mode, width, height, pick):
    """Catches an offset of less than a patch, which the brightest patch alone would not show."""
    grid = grid_of(mode, width, height)
    inner = [p for p in grid.valid if grid.coverage[p] > 1 - 1e-9 and 0 < p % grid.columns < grid.columns - 1]
    inner = [p for p in inner if grid.columns <= p < grid.n_patches - grid.columns]
    if not inner:
        return
    patch = int(inner[pick % len(inner)])
    light = np.asarray(grid.frame(painted(grid.box(patch), width, height)).convert("L"), dtype=float)
    down, across = np.indices(light.shape) + 0.5
    row, column = divmod(patch, grid.columns)
    # Whole source pixels of grey blur an edge by a fraction of a source pixel, which enlarging makes visible.
    tolerance = 0.75 + 0.1 * max(grid.scale)
    assert (light * across).sum() / light.sum() == pytest.approx((column + 0.5) * PATCH, abs=tolerance)
    assert (light * down).sum() / light.sum() == pytest.approx((row + 0.5) * PATCH, abs=tolerance)


@given(mode=modes, width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_boxes_of_valid_patches_lie_inside_the_image(mode, width, height):
    grid = grid_of(mode, width, height)
    assert len(grid.valid) > 0
    for patch in grid.valid:
        x, y, box_width, box_height = grid.box(patch)
        assert box_width > 0
        assert box_height > 0
        assert 0 <= x < x + box_width <= width * (1 + 1e-12)
        assert 0 <= y < y + box_height <= height * (1 + 1e-12)


@given(mode=modes, width=st.integers(1, 3000), height=st.integers(1, 3000))
def test_where_a_patch_ends_the_next_begins_to_the_last_bit(mode, width, height):
    corners = grid_of(mode, width, height).corners.reshape(SIZE // PATCH, SIZE // PATCH, 4)
    assert np.array_equal(corners[:, :-1, 2], corners[:, 1:, 0])
    assert np.array_equal(corners[:-1, :, 3], corners[1:, :, 1])


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), rows=st.integers(1, 20), columns=st.integers(1, 20))
def test_squashed_boxes_tile_the_image(width, height, rows, columns):
    grid = framing_of("squash").grid((width, height), rows=rows, columns=columns)
    corners = grid.corners.reshape(rows, columns, 4)
    np.testing.assert_allclose(corners[:, 1:, 0], corners[:, :-1, 2], rtol=1e-12)
    np.testing.assert_allclose(corners[1:, :, 1], corners[:-1, :, 3], rtol=1e-12)
    assert corners[0, 0, :2].tolist() == [0, 0]
    np.testing.assert_allclose(corners[-1, -1, 2:], [width, height], rtol=1e-12)
    assert grid.coverage == pytest.approx(np.ones(rows * columns))


@given(width=sides, height=sides)
def test_a_squashed_box_is_the_exact_fraction_of_the_image(width, height):
    grid = grid_of("squash", width, height)
    row, column = 5, 11
    x, y, box_width, box_height = grid.box(row * grid.columns + column)
    assert x == pytest.approx(float(Fraction(column * PATCH * width, SIZE)))
    assert y == pytest.approx(float(Fraction(row * PATCH * height, SIZE)))
    assert box_width == pytest.approx(float(Fraction(PATCH * width, SIZE)))
    assert box_height == pytest.approx(float(Fraction(PATCH * height, SIZE)))


@few
@given(mode=modes, width=sides, height=sides)
def test_coverage_is_the_share_of_a_patch_that_is_not_padding(mode, width, height):
    grid = grid_of(mode, width, height)
    framed = grid.frame(Image.new("RGB", (width, height), "white"), padding=(0, 0, 0))
    np.testing.assert_allclose(grid.coverage, brightness(framed, grid) / 255, atol=1e-9)


@given(width=sides, height=sides)
def test_padding_is_never_valid_and_the_image_always_has_valid_patches(width, height):
    grid = grid_of("letterbox", width, height)
    assert grid.coverage[grid.valid].min() > 0
    dropped = np.setdiff1d(np.arange(grid.n_patches), grid.valid)
    assert (grid.coverage[dropped] < 0.5).all()
    if grid.coverage.max() >= 0.5:
        assert (grid.coverage[grid.valid] >= 0.5 - 1e-6).all()


@given(width=sides, height=sides)
def test_cropping_and_squashing_leave_no_padding(width, height):
    for mode in ("squash", "crop"):
        grid = grid_of(mode, width, height)
        assert grid.valid.tolist() == list(range(grid.n_patches))


def test_the_padding_around_a_letterboxed_image_has_the_given_colour():
    for turned in (False, True):
        width, height = (50, 100) if turned else (100, 50)
        grid = grid_of("letterbox", width, height)
        framed = np.asarray(grid.frame(Image.new("RGB", (width, height), "white"), padding=(10, 20, 30)))
        across = framed.transpose(1, 0, 2) if turned else framed
        assert (across[56:168] == 255).all()
        assert (across[:56] == (10, 20, 30)).all()
        assert (across[168:] == (10, 20, 30)).all()
        lines = grid.valid % grid.columns if turned else grid.valid // grid.columns
        assert sorted(set(lines)) == list(range(4, 12))


@pytest.mark.parametrize("size", [(900, 20), (20, 900)])
def test_a_strip_is_framed_in_every_mode(size):
    """900 x 20 pixels: enlarged 12.8 times and mostly cropped away, or shrunk to 5 lines of padding's input."""
    cropped = grid_of("crop", *size)
    boxes = cropped.corners
    long_axis = 0 if size[0] > size[1] else 1
    assert boxes[:, long_axis].min() == pytest.approx(450 - 8.75, abs=0.1)
    assert boxes[:, long_axis + 2].max() == pytest.approx(450 + 8.75, abs=0.1)

    letterboxed = grid_of("letterbox", *size)
    assert min(letterboxed.resized) == 5
    assert letterboxed.coverage.max() < 0.5
    assert len(letterboxed.valid) in (16, 32)
    assert letterboxed.coverage[letterboxed.valid] == pytest.approx(letterboxed.coverage.max())

    squashed = grid_of("squash", *size)
    width, height = squashed.box(0)[2:]
    assert (width, height) == pytest.approx((size[0] / 16, size[1] / 16))


@few
@given(mode=modes, width=st.integers(2, 90), height=st.integers(2, 90), seed=st.integers(0, 9))
def test_patch_means_equal_a_mean_taken_pixel_by_pixel(mode, width, height, seed):
    grid = grid_of(mode, width, height)
    values = np.random.default_rng(seed).random((height, width))
    means = grid.patch_means(values)
    for patch in range(0, grid.n_patches, 7):
        weight = weights(grid.box(patch), width, height)
        expected = (values * weight).sum() / weight.sum() if weight.sum() > 1e-9 else 0.0
        assert means[patch] == pytest.approx(expected, abs=1e-6)


def test_patch_means_of_a_mask_are_shares_of_foreground():
    mask = np.zeros((60, 100), dtype=bool)
    mask[:, 50:] = True
    means = square_grid("squash", source=(100, 60), size=224, patch=14).patch_means(mask).reshape(16, 16)
    assert means[:, :8] == pytest.approx(0)
    assert means[:, 8:] == pytest.approx(1)


@pytest.mark.parametrize(
    ("mode", "width", "height"), [("squash", 300, 200), ("crop", 300, 200), ("letterbox", 300, 200)]
)
def test_between_the_middles_of_patches_a_value_changes_evenly(mode, width, height):
    grid = grid_of(mode, width, height)
    row, column = np.divmod(np.arange(grid.n_patches), grid.columns)
    x = ((column + 0.5) * PATCH - grid.offset[0]) / grid.scale[0]
    y = ((row + 0.5) * PATCH - grid.offset[1]) / grid.scale[1]
    is_padding = ~np.isin(np.arange(grid.n_patches), grid.valid)
    values = np.where(is_padding, 1e6, 3 * x - 2 * y)
    known = np.sort(x[grid.valid]), np.sort(y[grid.valid])
    inside_x, inside_y = (np.linspace(some[0], some[-1], 37) for some in known)
    expected = 3 * inside_x[None, :] - 2 * inside_y[:, None]
    assert grid.between_patches(values, inside_x, inside_y) == pytest.approx(expected)
    corners = grid.between_patches(values, np.array([-50.0, width + 50]), np.array([-50.0, height + 50]))
    assert corners == pytest.approx(expected[np.ix_([0, -1], [0, -1])])


def test_patch_means_refuse_an_array_of_another_size():
    grid = square_grid("squash", source=(100, 60), size=224, patch=14)
    with pytest.raises(ConfigError, match=r"\(100, 60\).*\[60, 100\]"):
        grid.patch_means(np.zeros((100, 60)))


def test_frame_refuses_an_image_of_another_size():
    grid = square_grid("squash", source=(100, 60), size=224, patch=14)
    with pytest.raises(ConfigError, match="100, 60"):
        grid.frame(Image.new("RGB", (60, 100)))


@given(
    mode=modes,
    resample=st.sampled_from(("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")),
    size=st.tuples(st.integers(1, 600), st.integers(1, 600)),
)
def test_a_framing_survives_its_dictionary(mode, resample, size):
    framing = framing_of(mode, resample, size) if mode != "crop" else framing_of(mode, resample, (size[0] + 6,) * 2)
    assert Framing.from_dict(framing.to_dict()) == framing


def test_a_framing_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="0 x 224"):
        Framing(mode="squash", size=(0, 224))
    with pytest.raises(ConfigError, match="belongs to the framing `crop`"):
        Framing(mode="squash", size=(224, 224), shortest_side=256)
    with pytest.raises(ConfigError, match="belongs to the framing `crop`"):
        Framing(mode="crop", size=(224, 224))
    with pytest.raises(ConfigError, match="200 is smaller than the crop 224 x 224"):
        Framing(mode="crop", size=(224, 224), shortest_side=200)
    with pytest.raises(ConfigError, match="0 x 5"):
        framing_of("squash").grid((0, 5), rows=16, columns=16, patch=14)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def shortest_side_and_crop():
    """What DINOv2's preprocessor_config.json asks for, without rescaling and normalising."""
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    return BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=Image.Resampling.BICUBIC,
        do_rescale=False,
        do_normalize=False,
    )


@pytest.fixture(scope="module")
def squash():
    """What ViT's preprocessor_config.json asks for, without rescaling and normalising."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(
        size={"height": 224, "width": 224},
        resample=Image.Resampling.BILINEAR,
        do_rescale=False,
        do_normalize=False,
    )


def pixels_of(processor, image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)


@few
@given(width=sides, height=sides)
def test_cropping_gives_the_pixels_of_transformers(shortest_side_and_crop, width, height):
    image = noise(width, height)
    ours = np.asarray(grid_of("crop", width, height, "bicubic").frame(image))
    assert np.array_equal(ours, pixels_of(shortest_side_and_crop, image))


@few
@given(width=sides, height=sides)
def test_squashing_gives_the_pixels_of_transformers(squash, width, height):
    image = noise(width, height)
    ours = np.asarray(grid_of("squash", width, height, "bilinear").frame(image))
    assert np.array_equal(ours, pixels_of(squash, image))


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), side=st.integers(16, 600))
def test_the_resized_size_is_that_of_transformers(width, height, side):
    """Both round the longer side down; one pixel more would shift the whole crop."""
    from transformers.image_transforms import get_resize_output_image_size
    from transformers.image_utils import ChannelDimension

    framing = Framing(mode="crop", size=(side, side), shortest_side=side)
    channels_last = ChannelDimension.LAST
    array = np.empty((height, width, 3), dtype=np.uint8)
    expected = get_resize_output_image_size(array, side, default_to_square=False, input_data_format=channels_last)
    assert framing.place((width, height))[0] == expected[::-1]
