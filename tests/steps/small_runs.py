"""What tests of whole runs share: a small run on drawn images, its command, and what is in a folder."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

SMALL = [
    "--backbone", "texture", "--n-latents", "256", "--k", "8", "--n-patches", "60000", "--batch-size", "512",
    "--workers", "0", "--describer-workers", "1", "--longest-side", "128",
]  # fmt: skip
OPTIONS = """\
features: {backbone: texture, workers: 0}
train: {architecture: {kind: topk, k: 8}, n_latents: 256, n_patches: 60000, batch_size: 512}
describer: {workers: 1}
release: {longest_side: 128}
"""
"""The same in a file."""
CARD = "README.md"
"""It says how long each step took, and what an evaluation found, so that two runs never have the same."""
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
