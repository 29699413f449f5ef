"""What tests of whole runs share: a small run on drawn images, its command, and what is in a folder."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from sae_traits.io import hash_of_file
from sae_traits.schema import Collection

SMALL = [
    "--backbone", "texture", "--n-latents", "256", "--k", "8", "--n-patches", "60000", "--batch-size", "512",
    "--workers", "0", "--describer-workers", "1", "--longest-side", "128", "--no-significant-only",
]  # fmt: skip
OPTIONS = """\
features: {backbone: texture, workers: 0}
train: {architecture: {kind: topk, k: 8}, n_latents: 256, n_patches: 60000, batch_size: 512}
describer: {workers: 1}
regions: {contrast: {significant_only: false}}
release: {longest_side: 128}
"""
"""The same in a file."""
CARD = "README.md"
"""It says how long each step took, and what an evaluation found, so that two runs never have the same."""
N_SPECIES = 9
"""Species of the drawn collection that is run."""
STEP_NAMES = ["collect", "extract", "train", "encode", "annotate", "evaluate", "dataset", "cards"]


def content(folder: Path, *without: str) -> dict[str, str]:
    """Hash of every file below a folder, but for those of some names."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


def command(*arguments: object) -> list[str]:
    """`sae-traits` in a process of its own."""
    return [sys.executable, "-m", "sae_traits.cli", *map(str, arguments)]


def collected(collection: Collection, run: Path) -> None:
    """Put a collection into a finished run as if its step `collect` had read it so."""
    collection.save(run / "images.parquet")
    records = json.loads((run / "steps.json").read_text())
    record = {key: value for key, value in records["collect"].items() if key != "sha256"}
    status = (run / "images.parquet").stat()
    record["files"]["images.parquet"] = [status.st_size, status.st_mtime_ns, hash_of_file(run / "images.parquet")]
    sha256 = hashlib.sha256(json.dumps(["collect", record], sort_keys=True).encode()).hexdigest()
    (run / "steps.json").write_text(json.dumps(records | {"collect": record | {"sha256": sha256}}))
