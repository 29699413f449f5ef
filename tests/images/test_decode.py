"""Odd image files, made on the fly: opened upright in 8-bit RGB, or refused with the reason."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from sae_traits.errors import ImageError
from sae_traits.images.decode import examine_image, open_image, open_mask

HAS_HEIC = find_spec("pillow_heif") is not None
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def two_halves(left=RED, right=BLUE) -> Image.Image:
    """40 x 20 pixels."""
    image = Image.new("RGB", (40, 20), left)
    image.paste(right, (20, 0, 40, 20))
    return image


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    [
        (1, (40, 20), (5, 10)),
        (2, (40, 20), (35, 10)),
        (3, (40, 20), (35, 10)),
        (4, (40, 20), (5, 10)),
        (5, (20, 40), (10, 5)),
        (6, (20, 40), (10, 5)),
        (7, (20, 40), (10, 35)),
        (8, (20, 40), (10, 35)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_every_exif_orientation_is_applied(tmp_path, orientation, size, red_at, suffix):
    path = tmp_path / f"rotated{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    two_halves().save(path, exif=exif)
    image = open_image(path)
    assert image.size == size
    assert image.getpixel(red_at) == RED
    assert (examine_image(path).width, examine_image(path).height) == size


def test_transparent_parts_become_white(tmp_path):
    rgba = two_halves().convert("RGBA")
    opaque_below = np.zeros((20, 40), dtype=np.uint8)
    opaque_below[10:] = 255
    rgba.putalpha(Image.fromarray(opaque_below))
    rgba.save(tmp_path / "alpha.png")
    image = open_image(tmp_path / "alpha.png")
    assert image.getpixel((5, 2)) == WHITE
    assert image.getpixel((5, 18)) == RED


def test_half_transparent_parts_are_mixed_with_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 127)).save(tmp_path / "half.png")
    assert open_image(tmp_path / "half.png").getpixel((1, 1)) == (128, 128, 128)


def test_a_palette_with_a_transparent_colour_becomes_white_there(tmp_path):
    palette = two_halves().quantize(2)
    transparent = palette.getpixel((5, 5))
    palette.save(tmp_path / "palette.png", transparency=transparent)
    image = open_image(tmp_path / "palette.png")
    assert image.getpixel((5, 5)) == WHITE
    assert image.getpixel((35, 5)) == BLUE


@pytest.mark.parametrize(("mode", "value", "expected"), [("L", 77, 77), ("1", 1, 255), ("LA", (77, 255), 77)])
def test_grey_images_become_rgb(tmp_path, mode, value, expected):
    Image.new(mode, (5, 3), value).save(tmp_path / "grey.png")
    image = open_image(tmp_path / "grey.png")
    assert image.mode == "RGB"
    assert image.getpixel((2, 1)) == (expected,) * 3


def test_cmyk_becomes_rgb(tmp_path):
    two_halves().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    red, green, blue = np.asarray(open_image(tmp_path / "print.jpg"))[10, 5]
    assert red > 230
    assert max(green, blue) < 30


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_over_the_full_range(tmp_path, suffix):
    """Pillow's own conversion clips: all of these values but the first would be white."""
    values = np.array([[0, 257, 12850, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep{suffix}")
    image = open_image(tmp_path / f"deep{suffix}")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 1, 50, 128, 255]


def test_values_beyond_sixteen_bits_are_refused(tmp_path):
    Image.new("I", (4, 4), 70000).save(tmp_path / "counts.tif")
    with pytest.raises(ImageError, match="beyond 16 bits"):
        open_image(tmp_path / "counts.tif")
    Image.new("F", (4, 4), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="floating-point"):
        open_image(tmp_path / "float.tif")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_bits_of_cameras_fill_the_range(tmp_path, bits, suffix):
    """A grey ramp of any number of bits is the ramp of 8 bits."""
    ramp = np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16).repeat(8).reshape(32, 64)
    Image.fromarray(ramp).save(tmp_path / f"deep{suffix}")
    expected = np.arange(256).repeat(8).reshape(32, 64)
    assert np.abs(np.asarray(open_image(tmp_path / f"deep{suffix}"))[..., 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("bits", "brightest"), [(12, 700), (15, 2**15 - 1), (11, 300)])
def test_the_range_that_a_tiff_states_is_taken(tmp_path, bits, brightest):
    ramp = np.linspace(0, brightest, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "stated.tif", tiffinfo={281: 2**bits - 1})
    read = np.asarray(open_image(tmp_path / "stated.tif"))[..., 0]
    assert np.abs(read - ramp * (255 / (2**bits - 1))).max() <= 0.5


def test_min_is_white_is_inverted_in_sixteen_bits_too(tmp_path):
    grey = np.linspace(0, 2**16 - 1, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "white.tif", tiffinfo={262: 0})
    data = bytearray((tmp_path / "white.tif").read_bytes())
    assert Image.open(tmp_path / "white.tif").tag_v2[262] in (0, 1)
    entry = data.index(struct.pack("<HHI", 262, 3, 1))
    data[entry + 8 : entry + 10] = struct.pack("<H", 0)
    (tmp_path / "white.tif").write_bytes(data)
    read = np.asarray(open_image(tmp_path / "white.tif"))[..., 0].astype(int)
    assert np.abs(read - (255 - np.arange(256).reshape(16, 16))).max() <= 1


def deep_png(path: Path, values: np.ndarray, transparent: bytes = b"") -> None:
    """A grey, LA, RGB or RGBA image of 16 bits, most of which Pillow reads but does not write."""
    height, width, n_channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
        *([(b"tRNS", transparent)] if transparent else []),
        (b"IDAT", zlib.compress(rows)),
    ]
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in [*chunks, (b"IEND", b"")]:
            crc = struct.pack(">I", zlib.crc32(kind + content))
            file.write(struct.pack(">I", len(content)) + kind + content + crc)


@pytest.mark.parametrize("n_channels", [2, 3, 4])
def test_colours_of_fewer_bits_in_sixteen_are_refused_and_those_of_sixteen_read(tmp_path, n_channels):
    ramp = np.linspace(0, 1, 300).reshape(100, 1, 3).repeat(2, axis=1)[..., : min(3, n_channels)]
    if n_channels != 3:
        ramp = np.concatenate([ramp[..., : n_channels - 1], np.ones((100, 2, 1))], axis=2)
    deep_png(tmp_path / "sixteen.png", ramp * 65535)
    assert np.asarray(open_image(tmp_path / "sixteen.png")).max() > 250
    for bits in (10, 12, 14):
        colours = ramp * (2**bits - 1)
        if n_channels != 3:
            colours[..., -1] = 65535
        deep_png(tmp_path / "fewer.png", colours)
        with pytest.raises(ImageError, match="fill 14 or fewer of their 16 bits"):
            open_image(tmp_path / "fewer.png")


@pytest.mark.parametrize("n_channels", [1, 3])
def test_a_transparent_colour_of_sixteen_bits_becomes_white(tmp_path, n_channels):
    pixels = np.full((4, 4, n_channels), 60000)
    pixels[:2] = hidden = [0x1234, 0x5678, 0xFEDC][:n_channels]
    deep_png(tmp_path / "deep.png", pixels, struct.pack(f">{n_channels}H", *hidden))
    image = np.asarray(open_image(tmp_path / "deep.png"))
    assert (image[:2] == 255).all()
    assert (np.abs(image[2:].astype(int) - 60000 / 257) <= 1).all()
    assert open_mask(tmp_path / "deep.png").tolist() == [[False] * 4] * 2 + [[True] * 4] * 2


def wide_profile() -> bytes:
    """A profile whose red is greener than that of sRGB: the red and the green of sRGB, exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    offsets = {}
    for n in range(struct.unpack_from(">I", profile, 128)[0]):
        tag, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * n)
        offsets[tag] = slice(offset, offset + size)
    red, green = profile[offsets[b"rXYZ"]], profile[offsets[b"gXYZ"]]
    profile[offsets[b"rXYZ"]], profile[offsets[b"gXYZ"]] = green, red
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_embedded_profile_is_converted_to_srgb(tmp_path, mode):
    Image.new("RGB", (8, 8), (204, 51, 102)).convert(mode).save(tmp_path / "wide.png", icc_profile=wide_profile())
    read = np.asarray(open_image(tmp_path / "wide.png"))[0, 0].astype(int)
    assert np.abs(read - [51, 204, 102]).max() <= 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_what_is_transparent_becomes_white_with_a_profile_too(tmp_path, mode):
    image = two_halves((204, 51, 102), (10, 20, 30))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    hidden = {"RGB": (10, 20, 30), "P": image.getpixel((35, 5))}.get(mode)
    if mode == "RGBA":
        image.paste((10, 20, 30, 0), (20, 0, 40, 20))
    image.save(tmp_path / "a.png", icc_profile=wide_profile(), transparency=hidden)
    read = np.asarray(open_image(tmp_path / "a.png")).astype(int)
    assert (read[:, 20:] == 255).all()
    assert np.abs(read[:, :20] - [51, 204, 102]).max() <= 3


def linear_grey_profile() -> bytes:
    """A profile of grey whose values are proportional to light."""
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">II", 0, 0)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    header = bytearray(128)
    struct.pack_into(">I4sI4s4s4s", header, 0, 156 + len(white + curve), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    header[36:40] = b"acsp"
    struct.pack_into(">iii", header, 68, 63190, 65536, 54061)
    return bytes(header) + tags + white + curve


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_with_a_profile_and_transparency_is_converted_and_white_there(tmp_path, mode):
    values = np.full((4, 4), 55, dtype=np.uint8)
    values[:2], values[3, 3] = 10, 255  # which shows that the range is that of 16 bits
    options = {"icc_profile": linear_grey_profile()}
    if mode == "I;16":
        Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "a.png", transparency=2570, **options)
    elif mode == "L":
        Image.fromarray(values).save(tmp_path / "a.png", transparency=10, **options)
    else:
        Image.fromarray(np.stack([values, np.where(values == 10, 0, 255)], axis=2).astype(np.uint8)).save(
            tmp_path / "a.png", **options
        )
    read = np.asarray(open_image(tmp_path / "a.png")).astype(int)
    assert (read[:2] == 255).all()
    assert np.abs(read[2] - 128).max() <= 2  # a fifth of the light is middle grey


@pytest.mark.parametrize("profile", ["srgb", "broken", "of grey"])
def test_a_profile_of_srgb_or_one_that_cannot_be_read_changes_no_pixel(tmp_path, profile):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = {"srgb": srgb, "broken": b"no profile", "of grey": srgb.replace(b"RGB ", b"GRAY", 1)}[profile]
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=data)
    assert (np.asarray(open_image(tmp_path / "a.png")) == pixels).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0Exif", b"Exif\0\0II*\0\x08\0\0\0\x01\0", b"Exif\0\0\0\x08\0\x02\x01\x12"])
def test_an_orientation_that_cannot_be_read_is_none(tmp_path, exif):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert (np.asarray(open_image(tmp_path / "a.png")) == pixels).all()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_a_heic_image_names_the_extra_that_it_needs_whatever_it_is_called(tmp_path):
    starts = [HEIC.replace(b"ftypheic", b"ftyp" + brand) for brand in (b"heic", b"mif1", b"msf1", b"hevc")]
    files = [tmp_path / f"{number}{'.heic' if number % 2 else '.jpg'}" for number in range(len(starts))]
    for file, start in zip(files, starts, strict=True):
        file.write_bytes(start + bytes(99))
    code = "import sys; sys.modules['pillow_heif'] = None  # not installed\n"
    code += "from sae_traits.images.decode import *\nfor file in sys.argv[1:]:\n"
    code += "    try: open_image(file)\n    except ImageError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    reason = "HEIC images need `pip install 'sae-traits[heic]'`; or convert it to JPEG"
    assert done.stdout.splitlines() == [reason] * len(files)


@pytest.mark.skipif(not HAS_HEIC, reason="needs the extra `heic` (pillow-heif)")
@pytest.mark.parametrize("brand", [b"ftypheic", b"ftypmif1"])
def test_a_heic_image_is_read_upright(tmp_path, brand):
    import pillow_heif

    exif = Image.Exif()
    exif[0x0112] = 6
    file = pillow_heif.from_pillow(two_halves().resize((80, 40)))
    file.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=95)
    data = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(data.replace(b"ftypheic", brand, 1))
    image = open_image(tmp_path / "a.heic")
    assert image.size == (40, 80)
    assert np.abs(np.subtract(image.getpixel((20, 20)), RED)).max() < 20
    (tmp_path / "cut.heic").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError):
        open_image(tmp_path / "cut.heic")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".gif"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    Image.effect_noise((200, 200), 60).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"cannot be decoded|not an image"):
        examine_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="the file is empty"):
        open_image(tmp_path / "empty.jpg")


def test_a_text_file_named_as_an_image_is_refused(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>404 Not Found</html>")
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "page.jpg")


def test_what_git_lfs_left_in_the_place_of_an_image_says_how_to_get_it(tmp_path):
    (tmp_path / "a.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(ImageError, match="git lfs pull"):
        open_image(tmp_path / "a.jpg")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "program.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "program.jpg")


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="Is a directory"):
        open_image(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_without_permission_is_refused(tmp_path):
    two_halves().save(tmp_path / "secret.png")
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        open_image(tmp_path / "secret.png")


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_animations_and_pages_are_refused(tmp_path, suffix):
    path = tmp_path / f"moving{suffix}"
    two_halves().save(path, save_all=True, append_images=[two_halves(BLUE, RED), two_halves(WHITE, RED)])
    with pytest.raises(ImageError, match="3 frames or pages"):
        examine_image(path)


def test_a_gif_of_one_frame_is_an_image(tmp_path):
    two_halves().save(tmp_path / "still.gif")
    assert open_image(tmp_path / "still.gif").getpixel((5, 10)) == RED


def test_a_camera_file_with_a_preview_is_the_photograph(tmp_path):
    two_halves().save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert open_image(tmp_path / "camera.jpg").size == (40, 20)


@pytest.mark.parametrize("size", [(10000, 10000), (60000, 60000)])
def test_decompression_bombs_are_refused(tmp_path, size, recwarn):
    """Pillow warns of the first and refuses the second."""
    limit = Image.MAX_IMAGE_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(ImageError, match="more than 89 megapixels"):
        open_image(tmp_path / "bomb.png")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path):
    Image.new("RGB", (3000, 1)).save(tmp_path / "strip.png")
    with pytest.raises(ImageError, match="3000 x 1 pixels, too thin"):
        open_image(tmp_path / "strip.png")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from([".jpg", ".png", ".gif", ".tif", ".webp"]))
def test_damaged_bytes_give_an_image_or_a_reason_and_nothing_else(tmp_path, data, suffix):
    path: Path = tmp_path / f"damaged{suffix}"
    two_halves().save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with suppress(ImageError):
        assert open_image(path).mode == "RGB"


def test_facts_are_the_size_and_the_hash_of_the_bytes(tmp_path):
    path = tmp_path / "facts.jpg"
    two_halves().save(path)
    facts = examine_image(path)
    assert (facts.width, facts.height) == (40, 20)
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "LA", "RGBA"])
def test_a_mask_of_any_mode_is_foreground_where_it_is_bright(tmp_path, mode):
    mask = two_halves((0, 0, 0), WHITE).convert(mode)
    mask.save(tmp_path / "mask.png")
    foreground = open_mask(tmp_path / "mask.png")
    assert foreground.dtype == bool
    assert foreground.shape == (20, 40)
    assert not foreground[:, :20].any()
    assert foreground[:, 20:].all()


def test_foreground_lies_above_127(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(tmp_path / "mask.png")
    assert open_mask(tmp_path / "mask.png").tolist() == [[False, False, True, True]]
    Image.fromarray(np.array([[0, 255, 40000, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert open_mask(tmp_path / "deep.png").tolist() == [[False, False, True, True]]


def test_the_transparent_part_of_a_mask_is_background(tmp_path):
    mask = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (20, 0, 40, 20))
    mask.save(tmp_path / "cut-out.png")
    assert open_mask(tmp_path / "cut-out.png").mean() == 0.5


def test_a_mask_is_taken_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    two_halves((0, 0, 0), WHITE).save(tmp_path / "mask.png", exif=exif)
    assert open_mask(tmp_path / "mask.png").shape == (20, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_a_mask_is_taken_as_it_is_stored_in_any_format(tmp_path, suffix, orientation):
    stored = np.random.default_rng(0).random((20, 40)) > 0.5
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"mask.{suffix}"
    Image.fromarray(np.uint8(255 * stored)).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(open_mask(path), stored)
