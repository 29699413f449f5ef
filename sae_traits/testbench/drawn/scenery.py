"""What lies around an image: cards, cloth, sand and foliage, with leaves, twigs, specks and labels.

The scenery is drawn from the same distribution for every species, so that it tells nothing about the species.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]

BACKDROPS: tuple[tuple[Rgb, Rgb, float], ...] = (
    ((236, 232, 220), (216, 210, 196), 5.0),  # paper
    ((204, 205, 204), (176, 178, 180), 4.0),  # light grey card
    ((118, 122, 126), (92, 95, 100), 5.0),  # dark grey card
    ((170, 192, 214), (138, 164, 190), 5.0),  # blue card
    ((150, 178, 120), (96, 128, 78), 16.0),  # foliage
    ((214, 190, 150), (186, 160, 120), 11.0),  # sand
    ((132, 108, 86), (98, 78, 62), 14.0),  # bark
    ((66, 64, 70), (48, 47, 52), 5.0),  # dark cloth
    ((226, 196, 190), (206, 172, 168), 5.0),  # rose cloth
)
"""Two colours of a gradient, and the strength of the mottling in grey levels."""

LEAF_COLOURS: tuple[Rgb, ...] = ((84, 122, 60), (118, 150, 76), (150, 128, 70), (124, 90, 58), (62, 96, 66))


def draw_scenery(size: int, rng: np.random.Generator) -> Image.Image:
    """A background of size x size pixels, RGB, with its clutter."""
    image = _backdrop(size, rng)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.choice(4, p=[0.45, 0.3, 0.15, 0.1])):
        _leaf(draw, size, rng)
    if rng.random() < 0.25:
        _twig(draw, size, rng)
    if rng.random() < 0.25:
        _label(image, size, rng)
    for _ in range(rng.integers(0, 30)):
        x, y = rng.uniform(0, size, 2)
        radius = size * rng.uniform(0.002, 0.006)
        grey = int(rng.integers(30, 230))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(grey, grey - 8, grey - 16))
    return image.filter(ImageFilter.GaussianBlur(size / 256 * rng.uniform(0.2, 1.6)))


def blade(size: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], Rgb]:
    """A blade of grass across the picture: its corners `[n_points, 2]` in pixels, and its colour."""
    angle, shift = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * size
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-0.75, 0.75, 24)[:, None]
    middle = size / 2 + along * t * size + across * (shift + rng.uniform(-0.12, 0.12) * size * t**2)
    half = across * size * 0.017 * (1.1 - 0.6 * np.abs(t))
    return np.concatenate([middle + half, (middle - half)[::-1]]), LEAF_COLOURS[rng.integers(3)]


def _backdrop(size: int, rng: np.random.Generator) -> Image.Image:
    """A gradient between two colours in a random direction, mottled."""
    first, second, strength = BACKDROPS[rng.integers(len(BACKDROPS))]
    side = 48
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + 0.8 * (x * np.cos(angle) + y * np.sin(angle)), 0, 1)[..., None]
    coarse = rng.normal(0, 1, (12, 12)).astype(np.float32)
    mottling = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    mottling = mottling + 0.6 * rng.normal(0, 1, (side, side))
    colours = np.array(first) * (1 - ramp) + np.array(second) * ramp + strength * mottling[..., None]
    small = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def _leaf(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    """A leaf with its midrib; mostly near the edge of the picture."""
    length, angle = size * rng.uniform(0.18, 0.45), rng.uniform(0, 2 * np.pi)
    away = rng.uniform(0, 2 * np.pi)
    centre = size * (0.5 + rng.uniform(0.3, 0.55) * np.array([np.cos(away), np.sin(away)]))
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    t = np.linspace(-1, 1, 20)[:, None]
    width = length * rng.uniform(0.15, 0.3) * (1 - t**2) * (1 - 0.3 * t)
    middle = centre + along * t * length / 2
    colour = LEAF_COLOURS[rng.integers(len(LEAF_COLOURS))]
    edge = np.concatenate([middle + across * width, (middle - across * width)[::-1]])
    draw.polygon([tuple(point) for point in edge], fill=colour)
    rib = tuple(int(c * 0.8) for c in colour)
    draw.line([tuple(middle[0]), tuple(middle[-1])], fill=rib, width=max(1, size // 200))


def _twig(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    start, end = rng.uniform(0, size, 2), rng.uniform(0, size, 2)
    bend = (start + end) / 2 + rng.normal(0, size * 0.05, 2)
    points = [tuple(start), tuple(bend), tuple(end)]
    draw.line(points, fill=(104, 82, 60), width=max(2, size // 90), joint="curve")


def _label(image: Image.Image, size: int, rng: np.random.Generator) -> None:
    """A paper label with lines of writing, in a corner."""
    width, height = int(size * rng.uniform(0.16, 0.26)), int(size * rng.uniform(0.09, 0.14))
    label = Image.new("RGB", (width, height), (244, 242, 234))
    draw = ImageDraw.Draw(label)
    for line in range(3):
        y = height * (line + 0.8) / 3.6
        draw.line([(width * 0.1, y), (width * rng.uniform(0.5, 0.9), y)], fill=(70, 70, 76), width=max(1, size // 150))
    turned = label.convert("RGBA").rotate(rng.normal(0, 6), expand=True, resample=Image.Resampling.BICUBIC)
    corner = int(rng.choice([0.02, 0.74]) * size), int(rng.choice([0.02, 0.84]) * size)
    image.paste(turned, corner, turned)
