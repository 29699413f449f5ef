"""What lies in the folder of a training."""

from __future__ import annotations

from pathlib import Path

MODEL, CHECKPOINT, RECORD, LOGS = "model", "training.checkpoint", "training.json", "logs"
"""The CLIP, where an unfinished training stands, how a finished one went, and what a tracker wrote."""


def is_of_training(folder: Path) -> bool:
    """Whether `sae-traits finetune` wrote a folder, or the one that it lies in."""
    return any((place / name).exists() for place in (folder, folder.parent) for name in (RECORD, CHECKPOINT))
