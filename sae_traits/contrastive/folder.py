"""What lies in the folder of a training."""

from __future__ import annotations

from pathlib import Path

MODEL, CHECKPOINT, RECORD = "model", "training.checkpoint", "training.json"
"""The CLIP, where an unfinished training stands, and how a finished one went."""


def is_of_training(folder: Path) -> bool:
    """Whether `sae-traits finetune` wrote a folder, or the one that it lies in."""
    return any((place / name).exists() for place in (folder, folder.parent) for name in (RECORD, CHECKPOINT))
