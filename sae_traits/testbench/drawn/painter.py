"""One individual on paper: pose, paint, damage, light, noise; with the label map of its parts.

Drawn at three times the size and reduced, so that edges are antialiased; the label map takes the middle of each 3 x 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sae_traits.testbench.drawn.anatomy import Outline, Points, outlines
from sae_traits.testbench.drawn.scenery import blade, draw_scenery
from sae_traits.testbench.drawn.world import PALETTE, PARTS, Appearance, DrawnSpecies

SIZE = 256
"""Side of a drawn image in pixels."""
OVERSAMPLING = 3
_LARGE = SIZE * OVERSAMPLING

BODY_UNIT = {"beetle": (0.60, 0.72), "moth": (0.47, 0.54), "bee": (0.56, 0.66)}
"""Smallest and largest body unit as a share of the image; moths are widest across the wings."""
BANDS = (0.24, 0.53, 0.81)
"""Middles of the bands, from base (0) to tip (1) of a piece."""
BAND_WIDTH = 0.13
SPOTS = ((0.22, 0.10), (0.47, 0.48), (0.52, -0.42), (0.78, 0.05))
"""Middles of the spots: from base (0) to tip (1), and across in half widths."""
SPOT_RADIUS = (0.24, 0.014)
"""In half widths of the piece, and in addition in body units, so that the spots of narrow pieces can be seen."""


@dataclass(frozen=True)
class Drawing:
    """A drawn image."""

    image: Image.Image
    """RGB, SIZE x SIZE."""
    labels: Image.Image
    """Mode L, SIZE x SIZE: index into PARTS; 0 also where something lies on top of the animal."""
    mm_per_pixel: float


@dataclass(frozen=True)
class Pose:
    """How an individual lies in the picture: body units -> pixels of the large canvas."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    pixels_per_unit: float
    """Pixels of the final image per body unit."""

    def place(self, points: Points) -> Points:
        """Points in body units as pixels of the large canvas `[n_points, 2]`."""
        return points @ self.matrix.T + self.offset


class Stencil:
    """A mask of mode L that covers only the part of the large canvas around a shape: most pieces are small."""

    def __init__(self, outline: Points) -> None:
        # The margin leaves room for the blur of the relief; whole final pixels, so that it can be reduced.
        margin = 18
        first = np.floor(outline.min(axis=0) / OVERSAMPLING) - margin
        last = np.ceil(outline.max(axis=0) / OVERSAMPLING) + margin
        left, top = (int(v) for v in np.clip(first, 0, SIZE - 1))
        right, bottom = (int(v) for v in np.clip(last, 1, SIZE))
        self.corner = (left, top)
        """Upper left corner in pixels of the final image."""
        self.large_corner = (left * OVERSAMPLING, top * OVERSAMPLING)
        self.mask = Image.new("L", ((right - left) * OVERSAMPLING, (bottom - top) * OVERSAMPLING))
        self._pen = ImageDraw.Draw(self.mask)

    def fill(self, polygon: Points, value: int = 255) -> None:
        """Set the mask inside a polygon of canvas pixels."""
        self._pen.polygon(self._local(polygon), fill=value)

    def trace(self, line: Points, value: int) -> None:
        """Set the mask along a line one final pixel wide."""
        self._pen.line(self._local(line), fill=value, width=OVERSAMPLING)

    def _local(self, points: Points) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in points - self.large_corner]


class Canvas:
    """The animal's layers while it is being drawn, at OVERSAMPLING times the size but for the relief."""

    def __init__(self) -> None:
        self.colour = Image.new("RGB", (_LARGE, _LARGE))
        self.ink = Image.new("L", (_LARGE, _LARGE))
        """255 where something was drawn."""
        self.labels = Image.new("L", (_LARGE, _LARGE))
        self.relief = Image.new("L", (SIZE, SIZE))
        """Height of the animal's surface, for shading."""

    def lay(self, stencil: Stencil, colour: tuple[int, int, int], label: int) -> None:
        """One flat colour where the stencil is set, with its relief."""
        corner, mask = stencil.large_corner, stencil.mask
        self.colour.paste(colour, corner, mask)
        self.ink.paste(255, corner, mask)
        self.labels.paste(label, corner, mask)
        small = mask.reduce(OVERSAMPLING)
        self.relief.paste(small.filter(ImageFilter.GaussianBlur(6)), stencil.corner, small)

    def tint(self, stencil: Stencil, colour: tuple[int, int, int], marks: Stencil) -> None:
        """A colour over what was laid, as strong as the marks, a stencil of the same shape."""
        self.colour.paste(colour, stencil.large_corner, ImageChops.darker(marks.mask, stencil.mask))


def draw_specimen(species: DrawnSpecies, rng: np.random.Generator) -> Drawing:
    """One individual of a species; all that varies comes from the generator."""
    pieces = _damage(outlines(species, rng), rng)
    corners = np.concatenate([piece.points for piece, _ in pieces])
    pose = _pose(species, (corners.min(axis=0) + corners.max(axis=0)) / 2, rng)
    # Individuals differ in size as well as in how large they are photographed, so the scale is not the size.
    unit_mm = species.unit_mm * float(np.clip(rng.normal(1, 0.06), 0.8, 1.2))
    tint = {part: np.clip(rng.normal(1, 0.02, 3), 0.95, 1.05) * rng.uniform(0.93, 1.06) for part in species.parts}
    canvas = Canvas()
    for piece, nick in pieces:
        _paint(canvas, piece, nick, species.parts[piece.part], tint[piece.part], pose, rng)
    _cover(canvas, pose, rng)
    labels = canvas.labels.resize((SIZE, SIZE), Image.Resampling.NEAREST)
    image = _photograph(canvas, draw_scenery(SIZE, rng), rng)
    return Drawing(image, labels, unit_mm / pose.pixels_per_unit)


def _pose(species: DrawnSpecies, centre: NDArray[np.float64], rng: np.random.Generator) -> Pose:
    """Scale, a turn of up to 35 degrees, a slight tilt of the camera, and a place near the middle."""
    min_unit, max_unit = BODY_UNIT[species.genus.plan]
    unit = SIZE * rng.uniform(min_unit, max_unit)
    angle = np.radians(rng.uniform(-35, 35))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilt = np.diag([rng.uniform(0.92, 1.0), rng.uniform(0.95, 1.0)])
    matrix = turn @ tilt * unit * OVERSAMPLING
    middle = _LARGE * (0.5 + rng.uniform(-0.045, 0.045, 2))
    return Pose(matrix, middle - matrix @ centre, unit)


def _damage(pieces: list[Outline], rng: np.random.Generator) -> list[tuple[Outline, Points | None]]:
    """The pieces that are left, each with the nick in it, if any: a third of the individuals are damaged."""
    nicks: list[Points | None] = [None] * len(pieces)
    kept = list(range(len(pieces)))
    if rng.random() < 0.2:
        lost = [index for index in kept if pieces[index].can_be_lost]
        for index in rng.permutation(lost)[: rng.integers(1, 3)]:
            kept.remove(int(index))
    nickable = [index for index in kept if pieces[index].can_be_nicked]
    if nickable and rng.random() < 0.25:
        index = int(rng.choice(nickable))
        points = pieces[index].points
        # Towards the tip, where wings tear.
        distance = np.linalg.norm(points - pieces[index].tip, axis=1)
        middle = points[rng.choice(np.argsort(distance)[: len(points) // 2])]
        radius = rng.uniform(0.035, 0.075) * rng.uniform(0.6, 1.2, 9)
        nicks[index] = middle + radius[:, None] * _circle(9)
    return [(pieces[index], nicks[index]) for index in kept]


def _paint(
    canvas: Canvas,
    piece: Outline,
    nick: Points | None,
    look: Appearance,
    tint: NDArray[np.float64],
    pose: Pose,
    rng: np.random.Generator,
) -> None:
    """Lay one piece on the canvas: base colour, veins, marks, a dark edge, and its relief."""
    outline = pose.place(piece.points)
    stencil, details, marks = Stencil(outline), Stencil(outline), Stencil(outline)
    stencil.fill(outline)
    if nick is not None:
        stencil.fill(pose.place(nick), 0)
    canvas.lay(stencil, _tinted(look.colour, tint), PARTS.index(piece.part))
    for vein in piece.veins:
        details.trace(pose.place(vein), 46)
    details.trace(np.concatenate([outline, outline[:1]]), 120)
    canvas.tint(stencil, (20, 16, 14), details)
    if look.pattern != "plain":
        for mark in _marks(piece, look.pattern, rng):
            marks.fill(pose.place(mark))
        canvas.tint(stencil, _tinted(look.marks, tint), marks)


def _tinted(colour: str, tint: NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.array(PALETTE[colour]) * tint, 0, 255).astype(int)
    return int(red), int(green), int(blue)


def _marks(piece: Outline, pattern: str, rng: np.random.Generator) -> Iterator[Points]:
    """Bands or spots of one piece as polygons in body units; they may run over its edge."""
    base, tip = np.array(piece.base), np.array(piece.tip)
    axis = tip - base
    length = np.linalg.norm(axis)
    along = axis / length
    # Across points away from the midline on both sides, so that the marks of left and right mirror each other.
    across = np.array([-along[1], along[0]]) * (1 if base[0] < 0 else -1)
    offsets = (piece.points - base) @ across
    middle, half = (offsets.max() + offsets.min()) / 2, (offsets.max() - offsets.min()) / 2
    if pattern == "banded":
        sideways = np.linspace(-1.3, 1.3, 15)
        for centre in BANDS:
            wave = centre + 0.018 * np.sin(sideways * 4 + rng.uniform(0, 6.3)) + rng.normal(0, 0.012)
            width = BAND_WIDTH * rng.uniform(0.88, 1.12) / 2
            edges = [np.concatenate([sideways, sideways[::-1]]), np.concatenate([wave - width, (wave + width)[::-1]])]
            yield base + along * edges[1][:, None] * length + across * (middle + edges[0][:, None] * half)
        return
    for t, s in SPOTS:
        t, s = t + rng.normal(0, 0.015), s + rng.normal(0, 0.04)
        radius = (SPOT_RADIUS[0] * half + SPOT_RADIUS[1]) * rng.uniform(0.88, 1.12, 2)
        yield base + along * t * length + across * (middle + s * half) + _circle(24) * radius


def _circle(n: int) -> Points:
    """Points around the unit circle `[n, 2]`."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _cover(canvas: Canvas, pose: Pose, rng: np.random.Generator) -> None:
    """Now and then a pin through the animal, or a blade of grass in front of it."""
    if rng.random() < 0.15:
        _lay_over(canvas, pose.place(np.array([[0.06, -0.02]])) + 3.2 * OVERSAMPLING * _circle(24), (205, 206, 210))
    if rng.random() < 0.12:
        _lay_over(canvas, *blade(_LARGE, rng))


def _lay_over(canvas: Canvas, polygon: Points, colour: tuple[int, int, int]) -> None:
    """Something that is no part of the animal and hides what lies below it."""
    stencil = Stencil(polygon)
    stencil.fill(polygon)
    canvas.lay(stencil, colour, PARTS.index("background"))


def _photograph(canvas: Canvas, scenery: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The animal with its shadow on the scenery, lit from one side, slightly blurred, with noise."""
    ink = canvas.ink.reduce(OVERSAMPLING)
    animal = np.asarray(canvas.colour.reduce(OVERSAMPLING), dtype=np.float32)  # black around: already times alpha
    alpha = np.asarray(ink, dtype=np.float32)[..., None] / 255
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    height = np.asarray(canvas.relief, dtype=np.float32) / 255
    slope_y, slope_x = np.gradient(height)
    shade = 0.86 + 0.16 * height - 1.1 * np.clip(slope_x * light[0] + slope_y * light[1], -0.12, 0.12)
    reach = rng.uniform(1, 5)
    shadow = ImageChops.offset(ink.filter(ImageFilter.GaussianBlur(4)), *(round(float(reach * -v)) for v in light))
    ground = np.asarray(scenery, dtype=np.float32)
    ground = ground * (1 - rng.uniform(0.1, 0.4) * np.asarray(shadow, dtype=np.float32)[..., None] / 255)
    picture = animal * shade[..., None] + (1 - alpha) * ground
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    fall = 1 + rng.uniform(0, 0.16) * (x * light[0] + y * light[1])
    cast = np.clip(rng.normal(1, 0.02, 3), 0.95, 1.05) * rng.uniform(0.86, 1.1)
    picture = picture * fall[..., None] * cast
    exposed = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    blurred = np.asarray(exposed.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.9))), dtype=np.float32)
    noisy = blurred + rng.normal(0, rng.uniform(1.0, 4.0), blurred.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
