"""Small image files of a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., Path]:
    """Write images of 12 x 8 pixels at paths below a root folder, each of another colour, and return the root."""

    def write(files: Iterable[str], size: tuple[int, int] = (12, 8)) -> Path:
        root = tmp_path / "collection"
        root.mkdir(exist_ok=True)
        for number, file in enumerate(files):
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (number % 256, number // 256, 100)).save(path)
        return root

    return write
