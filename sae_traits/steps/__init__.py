"""The steps of a run, in their order; each is one file with one function of a `Context`, and imports no other step."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_traits.runs.context import Context

STEPS: dict[str, tuple[str, ...]] = {
    "collect": (),
    "extract": ("collect",),
    "train": ("extract",),
    "encode": ("train",),
    "annotate": ("encode",),
    "evaluate": ("annotate",),
    "dataset": ("annotate",),
    "cards": ("dataset",),
}
"""Each step, with the steps that it reads from. The cards show an evaluation where there is one."""
ALL_STEPS: dict[str, tuple[str, ...]] = STEPS | {"caption": ("collect",)}
"""Also those that no run does by itself; the dataset shows captions where there are any."""
SHARED = ("extract", "train")
"""The steps in which all processes of a launcher take part; one process does the others."""


def run_steps(context: Context, names: Iterable[str] = STEPS) -> None:
    """Do some steps of a run in the order given; a step that is finished with the same inputs is skipped.

    Where a describer stopped before it gave a single trait, there is nothing to evaluate or to release yet.

    Raises:
        StoreError: what they read of other steps is missing, or not as it was written.
        ConfigError: they are to be deterministic, and would compute on a GPU.
    """
    names = list(names)
    context.steps.check(doing=names)
    with context.computing():
        for name in names:
            if name in ("evaluate", "dataset", "cards") and not context.is_described:
                return
            if name in SHARED or context.is_main_process:
                getattr(import_module(f"sae_traits.steps.{name}"), name)(context)
            context.wait_for_everyone()
