"""Hostile names and images on their way from a folder to a released dataset."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_releases import release, traits_of

from sae_traits.config import CollectionConfig
from sae_traits.images import read_collection

NAMES = [
    "<img src=x onerror=alert(1)>.png",
    "line\nbreak\r.png",
    "dots..png",
    "| cell | ``` {{ 7 * 7 }}.png",
    "=cmd|calc.png",
    "a..\\..\\up.png",
    "\u202egnp.png",
]


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that promises `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of hostile names, and bombs of the size that Pillow warns of and of the size that it refuses."""
    folder = tmp_path / "collection" / "Aus_bus"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, format="PNG")
    (folder / "bomb-1.png").write_bytes(bomb(11_000))
    (folder / "bomb-2.png").write_bytes(bomb(60_000))
    return folder.parent


def test_a_decompression_bomb_is_a_problem_with_a_reason_and_the_rest_goes_on(source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collection = read_collection(CollectionConfig(source=str(source)))
    assert [problem.file for problem in collection.problems] == ["Aus_bus/bomb-1.png", "Aus_bus/bomb-2.png"]
    assert all("megapixels, as decompression bombs do" in problem.reason for problem in collection.problems)
    assert sorted(Path(record.file).name for record in collection.images) == sorted(NAMES)


@pytest.mark.parametrize("images", ["embed", "reference"])
def test_names_are_data_in_the_rows_and_nowhere_else(source, tmp_path, images):
    collection = read_collection(CollectionConfig(source=str(source)))
    release(tmp_path / "dataset", collection, traits_of(collection, 1), images=images)
    rows = [row for path in (tmp_path / "dataset/data/images").iterdir() for row in pq.read_table(path).to_pylist()]
    assert {row["source_id"] for row in rows} == {f"Aus_bus/{name}" for name in NAMES}
    for row in rows:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", row["image_id"])
        if images == "embed":
            assert row["image"]["path"] == f"{row['image_id']}.png"
    files = [path.relative_to(tmp_path / "dataset").as_posix() for path in (tmp_path / "dataset").rglob("*.*")]
    ours = r"README\.md|atlas\.jpg|release\.json|data/\w+/\w+-[0-9a-f]{12}-\d{3}\.parquet"
    assert all(re.fullmatch(ours, file) for file in files)
    card = (tmp_path / "dataset/README.md").read_text()
    assert not any(name.removesuffix(".png") in card for name in NAMES)
