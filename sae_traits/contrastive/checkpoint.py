"""Where a training stands, on disk: written whole or not at all, and continued only by the training that wrote it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from sae_traits.contrastive.training_state import TrainingState
from sae_traits.errors import StoreError
from sae_traits.io import whole_file
from sae_traits.logging import say

Curve = list[dict[str, float]]
"""What was measured, with the step."""


def save_checkpoint(path: Path, step: int, key: str, state: TrainingState, curve: Curve) -> None:
    """Write the state after `step` steps; `key` says which training it is."""
    content = {"step": step, "key": key, "state": state.state(), "curve": curve}
    with whole_file(path, on_full_disk="free some space, and run the same command again") as file:
        torch.save(content, file)


def load_checkpoint(path: Path, key: str, state: TrainingState) -> tuple[int, Curve]:
    """Restore what `save_checkpoint` wrote: the step to go on with, 0 if there is none, and the curve so far.

    Raises:
        StoreError: the file cannot be read, or is of another training.
    """
    if not path.is_file():
        return 0, []
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise StoreError(f"the checkpoint {path} cannot be read; delete it to train from the start") from error
    if saved["key"] != key:
        raise StoreError(
            f"{path} is of other settings, data, model, or number of processes or threads; go on with those, or delete "
            "it, or choose another --out"
        )
    state.restore(saved["state"])
    say(f"training resumes at step {saved['step']}")
    return saved["step"], saved["curve"]
