"""Body plans: the outlines of an individual's parts, in body units.

Body units: x to the animal's right, y towards the tail, 1 about the length of the body. Every individual stands a
little differently, so the outlines depend on a random generator as well as on the species.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from sae_traits.testbench.drawn.world import DrawnSpecies

Point = tuple[float, float]
Points = NDArray[np.float64]
"""Points `[n_points, 2]`."""


@dataclass(frozen=True)
class Outline:
    """One piece of a part; what is drawn later lies on top."""

    part: str
    points: Points
    base: Point
    """Where the piece is attached; bands lie across the line from base to tip."""
    tip: Point
    can_be_lost: bool = False
    can_be_nicked: bool = False
    veins: tuple[Points, ...] = ()
    """Fine darker lines on the piece."""


def outlines(species: DrawnSpecies, rng: np.random.Generator) -> list[Outline]:
    """The pieces of one individual, from the lowest to the uppermost, around the origin."""
    return {"beetle": _beetle, "moth": _moth, "bee": _bee}[species.genus.plan](species, rng)


def _beetle(species: DrawnSpecies, rng: np.random.Generator) -> list[Outline]:
    girth, limb = species.genus.girth, species.genus.limb_length
    rounded = species.parts["elytra"].shape == "rounded"
    width, length = (0.30, 0.56) if rounded else (0.185, 0.66)
    top = -0.10
    pieces = []
    for side in (1, -1):
        for y, reach in ((-0.14, -0.5), (0.06, 0.1), (0.22, 0.75)):
            pieces.append(_leg(side, (0.12, y), reach, 0.36 * limb, rng))
        pieces.append(_antenna(side, (0.05, -0.42), 0.34 * limb, rng))
    pieces.append(_ellipse("abdomen", (0, top + length * 0.48), width * 0.7, length * 0.46))
    pieces.append(_ellipse("head", (0, -0.37), 0.125 * girth, 0.11))
    half = 0.20 * girth
    pronotum = [(0, -0.345), (half * 0.72, -0.33), (half, -0.20), (half * 0.95, -0.08), (0, -0.06)]
    pieces.append(_mirrored_piece("pronotum", pronotum, base=(0, -0.345), tip=(0, -0.06)))
    opening = abs(rng.normal(0, 2.0))
    seam, end = 0.002, top + length
    shoulder = [(seam, top), (width * 0.75, top + 0.005), (width, top + length * 0.33)]
    hip = [(width * 0.86, top + length * 0.72), (width * 0.40, top + length * 0.97), (seam, end)]
    elytron = _smooth([*shoulder, *hip, (seam, top + length * 0.5)])
    for side in (1, -1):
        points = _turn(elytron, (0, top), -opening) * (side, 1)
        tip = _turn(np.array([[width * 0.45, end]]), (0, top), -opening)[0] * (side, 1)
        base = (side * width * 0.45, top)
        pieces.append(Outline("elytra", points, base, (tip[0], tip[1]), can_be_nicked=True))
    return pieces


def _moth(species: DrawnSpecies, rng: np.random.Generator) -> list[Outline]:
    girth, limb = species.genus.girth, species.genus.limb_length
    if species.parts["forewings"].shape == "rounded":
        tip = (0.68, -0.24)
        fore = [(0.03, -0.14), (0.30, -0.38), (0.55, -0.42), (0.70, -0.26), (0.66, -0.04), (0.44, 0.07), (0.05, 0.02)]
    else:
        tip = (0.92, -0.34)
        fore = [(0.03, -0.14), (0.34, -0.30), (0.70, -0.40), (0.92, -0.36), (0.76, -0.16), (0.42, 0.00), (0.05, 0.02)]
    hind = [(0.04, -0.02), (0.34, -0.04), (0.53, 0.10), (0.50, 0.30), (0.30, 0.42), (0.12, 0.32)]
    fan = [_antenna(side, (0.03, -0.26), 0.34 * limb, rng, spread=0.55) for side in (1, -1)]
    pieces = []
    raised = rng.normal(0, 5)
    for side in (1, -1):
        turn = raised + rng.normal(0, 4)
        pieces.append(_wing("hindwings", hind, (0.04, 0.02), (0.42, 0.34), side, turn * 0.6))
        pieces.append(_wing("forewings", fore, (0.04, -0.08), tip, side, turn))
    half = 0.105 * girth
    body = [(0, -0.30), (half * 0.75, -0.24), (half, -0.10), (half * 0.82, 0.06), (half * 0.78, 0.22), (0, 0.40)]
    return [*fan, *pieces, _mirrored_piece("body", body, base=(0, -0.30), tip=(0, 0.40))]


def _bee(species: DrawnSpecies, rng: np.random.Generator) -> list[Outline]:
    girth, limb = species.genus.girth, species.genus.limb_length
    rounded = species.parts["abdomen"].shape == "rounded"
    half, length = (0.23, 0.50) if rounded else (0.135, 0.70)
    pieces = []
    for side in (1, -1):
        for y, reach in ((-0.20, -0.7), (-0.10, 0.25), (0.0, 0.9)):
            pieces.append(_leg(side, (0.10, y), reach, 0.32 * limb, rng))
        pieces.append(_antenna(side, (0.04, -0.40), 0.22 * limb, rng))
    fore = [(0.08, -0.16), (0.34, -0.20), (0.62, -0.08), (0.66, 0.06), (0.46, 0.10), (0.10, -0.06)]
    hind = [(0.08, -0.05), (0.30, 0.06), (0.46, 0.18), (0.40, 0.26), (0.22, 0.16)]
    for side in (1, -1):
        turn = rng.normal(8, 8)
        pieces.append(_wing("wings", hind, (0.08, -0.04), (0.43, 0.22), side, turn))
        pieces.append(_wing("wings", fore, (0.08, -0.10), (0.65, 0.0), side, turn))
    bend = rng.normal(0, 6)
    end = 0.04 + length
    abdomen = [(0, 0.02), (half * 0.7, 0.06), (half, length * 0.45), (half * 0.72, length * 0.82), (0, end)]
    straight = _mirrored_piece("abdomen", abdomen, base=(0, 0.02), tip=(0, end))
    tip = _turn(np.array([[0, end]]), (0, 0.02), bend)[0]
    pieces.append(Outline("abdomen", _turn(straight.points, (0, 0.02), bend), (0, 0.02), (tip[0], tip[1])))
    pieces.append(_ellipse("head", (0, -0.36), 0.135, 0.105))
    pieces.append(_ellipse("thorax", (0, -0.11), 0.175 * girth, 0.175))
    return pieces


def _wing(part: str, right: list[Point], base: Point, tip: Point, side: int, turn: float) -> Outline:
    """A wing turned about its base by degrees (positive lifts it), with veins from the base to the margin."""
    points = _turn(_smooth(right), base, -turn) * (side, 1)
    end = _turn(np.array([tip]), base, -turn)[0] * (side, 1)
    start = np.array(base) * (side, 1)
    margin = points[np.linspace(0.28 * len(points), 0.82 * len(points), 6).astype(int)]
    veins = tuple(start + (goal - start) * np.array([[0.12], [0.92]]) for goal in margin)
    return Outline(part, points, (start[0], start[1]), (end[0], end[1]), can_be_nicked=True, veins=veins)


def _leg(side: int, hip: Point, reach: float, length: float, rng: np.random.Generator) -> Outline:
    """A leg with three segments; `reach` is its direction, -1 forwards, 1 backwards."""
    direction = np.radians(50 * reach + rng.normal(0, 7))
    knee = np.radians(30 * np.sign(reach) + rng.normal(0, 10))
    angles = [direction * 0.6, direction * 0.6, direction + knee, direction + 1.3 * knee]
    steps = np.array([0.12 / 0.36, 0.28, 0.42, 0.30]) * length
    strides = np.stack([np.cos(angles) * steps, np.sin(angles) * steps], axis=1)
    joints = np.array(hip) + np.concatenate([[(0.0, 0.0)], np.cumsum(strides, axis=0)])
    return _stroke("legs", joints * (side, 1), 0.042, 0.016)


def _antenna(side: int, root: Point, length: float, rng: np.random.Generator, spread: float = 0.45) -> Outline:
    start = spread + rng.normal(0, 0.14)
    angles = np.linspace(start, start + 0.7 + rng.normal(0, 0.2), 9)
    steps = np.stack([np.sin(angles), -np.cos(angles)], axis=1) * length / 9
    points = np.array(root) + np.concatenate([[(0.0, 0.0)], np.cumsum(steps, axis=0)])
    return _stroke("antennae", points * (side, 1), 0.024, 0.016)


def _stroke(part: str, line: Points, start_width: float, end_width: float) -> Outline:
    """A tapering line as an outline."""
    along = np.gradient(line, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    half = np.linspace(start_width, end_width, len(line))[:, None] / 2
    points = np.concatenate([line + across * half, (line - across * half)[::-1]])
    return Outline(part, points, tuple(line[0]), tuple(line[-1]), can_be_lost=True)


def _ellipse(part: str, centre: Point, half_width: float, half_height: float) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points = np.array(centre) + np.stack([half_width * np.cos(angle), half_height * np.sin(angle)], axis=1)
    x, y = centre
    return Outline(part, points, (x, y - half_height), (x, y + half_height))


def _mirrored_piece(part: str, right: list[Point], base: Point, tip: Point) -> Outline:
    """A piece that is its own mirror image, from the points of its right half, ends included."""
    left = (np.array(right)[1:-1] * (-1, 1))[::-1]
    return Outline(part, _smooth([*right, *left]), base, tip)


def _smooth(points: ArrayLike) -> Points:
    """A closed smooth curve through the points `[n_points, 2]`, as a fine polygon."""
    corners = np.asarray(points, dtype=np.float64)
    closed = np.concatenate([corners, corners[:1]])
    knots = np.concatenate([[0.0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(closed, axis=0), axis=1)))])
    curve = CubicSpline(knots, closed, bc_type="periodic")
    return curve(np.linspace(0, knots[-1], 72, endpoint=False))


def _turn(points: Points, centre: Point, degrees: float) -> Points:
    """The points turned about a centre, from x towards y."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - centre) @ rotation + centre
