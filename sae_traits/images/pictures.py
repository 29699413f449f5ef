"""Pictures made of photographs for release and for looking: reduced, without metadata, encoded once and kept.

A photograph is opened once, by whoever needs its pixels first; the picture that is made of it then lies in the
`PictureCache`, from which the dataset, its preview and the galleries take it.
"""

from __future__ import annotations

import hashlib
import io
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from sae_traits.errors import StoreError

JPEG_QUALITY = 92
_CREATE = """
CREATE TABLE IF NOT EXISTS hashed_pictures (
    sha256 TEXT NOT NULL, longest_side INTEGER NOT NULL, data BLOB NOT NULL, data_sha256 TEXT NOT NULL,
    PRIMARY KEY (sha256, longest_side)
)
"""


def reduced_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Width and height of an image of `size` with at most `longest_side` pixels on its longest side."""
    return fitted_size(size, min(longest_side, max(size)))


def fitted_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Width and height of an image of `size` with exactly `longest_side` pixels on its longest side."""
    factor = longest_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image with so many pixels; itself where it has them already."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def released_picture(image: Image.Image, longest_side: int) -> bytes:
    """A JPEG of an upright RGB image with at most `longest_side` pixels on the longest side, without metadata.

    Of quality 92 with full colour resolution (4:4:4), as boxes go with colours.
    """
    return encoded(resized(image, reduced_size(image.size, longest_side)), "JPEG")


def encoded(image: Image.Image, image_format: str) -> bytes:
    """An RGB image as a PNG or a JPEG file without the metadata of the file that it came from."""
    plain = image.copy()
    plain.info = {}  # Pillow would write a comment or a colour profile of the source again
    buffer = io.BytesIO()
    options = {"quality": JPEG_QUALITY, "subsampling": "4:4:4"} if image_format == "JPEG" else {}
    plain.save(buffer, image_format, **options)
    return buffer.getvalue()


class PictureCache:
    """An SQLite file of pictures by the hash of their photograph and their longest side; one process writes at a time.

    What is in it can be made again, so a file that was lost or is damaged costs time and nothing else. A StoreError
    where it cannot be opened. Of a folder or a file that is read-only what lies in the file itself is read, and nothing
    is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()  # the threads of a process share the connection
        self._keeps = all(os.access(one, os.W_OK) for one in (path.parent, path) if one.exists())
        place = (
            str(path) if self._keeps else f"{path.absolute().as_uri()}?immutable=1" if path.is_file() else ":memory:"
        )
        options: Any = {"timeout": 60, "check_same_thread": False, "isolation_level": None, "uri": not self._keeps}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(place, **options)
            if self._keeps:
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_CREATE)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot use the pictures in {path} ({error}); delete it, and run again") from error

    def __enter__(self) -> PictureCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, sha256: str, longest_side: int) -> bytes | None:
        """The picture of a photograph, by its file's hash and the side that was asked for.

        Returns:
            None where there is none yet, or it is not as it was written.
        """
        query = "SELECT data, data_sha256 FROM hashed_pictures WHERE sha256 = ? AND longest_side = ?"
        for data, data_sha256 in self._execute(query, sha256, longest_side):
            if hashlib.sha256(data).hexdigest() == data_sha256:
                return data
        return None

    def put(self, sha256: str, longest_side: int, picture: bytes) -> None:
        """Keep a picture; one that is there already is replaced."""
        data_sha256 = hashlib.sha256(picture).hexdigest()
        if self._keeps:
            row = sha256, longest_side, picture, data_sha256
            self._execute("INSERT OR REPLACE INTO hashed_pictures VALUES (?, ?, ?, ?)", *row)

    def take_over(self, path: Path) -> None:
        """Add the pictures of another file."""
        self._execute("ATTACH DATABASE ? AS other", str(path))
        try:
            self._execute("INSERT OR IGNORE INTO main.hashed_pictures SELECT * FROM other.hashed_pictures")
        finally:
            self._execute("DETACH DATABASE other")

    def get_or_make(self, sha256: str, longest_side: int, open_pixels: Callable[[], Image.Image]) -> bytes:
        """The picture of a photograph, which is opened only where the picture is not there yet."""
        picture = self.get(sha256, longest_side)
        if picture is None:
            picture = released_picture(open_pixels(), longest_side)
            self.put(sha256, longest_side, picture)
        return picture

    def checkpoint(self) -> None:
        """Move what lies in SQLite's log into the file itself, which stays as it is until the next `put`."""
        if self._keeps:
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _execute(self, statement: str, *values: object) -> list[tuple[bytes, str]]:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot use the pictures in {self._path} ({error}); delete it, and run again") from error
