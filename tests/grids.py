"""Grids of square patches over square model inputs, by the way in which an image becomes square."""

from __future__ import annotations

from sae_traits.geometry import Framing, FramingMode, PatchGrid


def square_grid(mode: FramingMode, *, source: tuple[int, int], size: int, patch: int, resize: int = 0) -> PatchGrid:
    """The grid of an image of `source` pixels; a crop resizes the shortest side to `resize` first."""
    framing = Framing(mode=mode, size=(size, size), shortest_side=resize or None)
    return framing.grid(source, rows=size // patch, columns=size // patch, patch=patch)
