"""The index of features on disk, as far as it is read without what computes them."""

import json
from pathlib import Path

INDEX_FILE = "index.json"


def checksums_of(folder: Path) -> dict[str, str]:
    """sha256 of each shard by the name of its file, as the index of its folder says; empty where it does not say it."""
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        return {entry["file"]: entry["sha256"] for entry in index["shards"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
