"""A small collection and the commands that make a finished run of it, and what a run's end state is."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from drawn_collections import some_of

from sae_traits.testbench.drawn import draw_collection

N_SPECIES, IMAGES_PER_SPECIES = 6, 4
OPTIONS = [
    "--backbone", "texture", "--n-latents", "64", "--k", "4", "--n-patches", "6000", "--batch-size", "256",
    "--workers", "0", "--describer-workers", "1", "--longest-side", "96",
]  # fmt: skip
_TIMES = re.compile(
    r"^\| (?:collect|extract|train|encode|annotate|caption|evaluate|dataset|seconds waited[^|]*) \| [\d,]+ \|\n",
    re.MULTILINE,
)
_OF_NO_STATE = (".lock", ".partial", "-wal", "-shm")


def draw_small_collection(to: Path) -> Path:
    """Drawn beetles of three genera, in all splits; half of a collection is never left."""
    whole, folder = (to.with_name(f"{to.name}{suffix}") for suffix in (".whole", ".partial"))
    for left in (whole, folder):
        shutil.rmtree(left, ignore_errors=True)
    draw_collection(whole, images_per_species=IMAGES_PER_SPECIES, workers=1)
    some_of(whole, folder, n_species=N_SPECIES, images_per_species=IMAGES_PER_SPECIES)
    shutil.rmtree(whole)
    return folder.rename(to)


def files_of(run: Path) -> list[str]:
    """Every file of a run that holds something."""
    paths = (path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size)
    return [path.relative_to(run).as_posix() for path in paths if not path.name.endswith(_OF_NO_STATE)]


def end_state(run: Path) -> dict[str, str]:
    """What every file of a run comes to, apart from times, and from how SQLite lays its pages."""
    return {name: _hash_of(run / name) for name in files_of(run)}


def _hash_of(path: Path) -> str:
    if path.suffix == ".sqlite":
        found: object = _rows_of(path)
    elif path.name == "steps.json":
        found = _without_times(path)
    elif path.suffix == ".md":
        found = _TIMES.sub("", path.read_text(encoding="utf-8", errors="replace"))
    else:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    return found if isinstance(found, str) and len(found) == 64 else hashlib.sha256(repr(found).encode()).hexdigest()


def _rows_of(path: Path) -> object:
    """The rows of all tables, or the error with which they cannot be read."""
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            database.execute("PRAGMA integrity_check").fetchall()
            tables = sorted(row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
            tables = [table for table in tables if table != "digests"]  # of rows with their seconds
            found = {}
            for table in tables:
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "seconds"]
                found[table] = sorted(map(repr, database.execute(f"SELECT {', '.join(columns)} FROM {table}")))
            return found
    except sqlite3.DatabaseError as error:
        return repr(error)


def _without_times(path: Path) -> object:
    """Fingerprints and counts of the steps; the cards depend on how long calls took."""
    try:
        records: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: [name == "cards" or record["fingerprint"], record["counts"]] for name, record in records.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return repr(error)
