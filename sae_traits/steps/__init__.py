"""The steps of a run, in their order; each is one file with one function of a `Context`, and imports no other step."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from sae_traits.errors import ConfigError

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
"""The steps in which all processes of a launcher take part; the first one alone does those after them."""


def run_steps(context: Context, names: Iterable[str] = STEPS) -> None:
    """Do some steps of a run in the order given; a step that is finished with the same inputs is skipped.

    Where a describer stopped before it gave a single trait, there is nothing to evaluate or to release yet.

    Raises:
        StoreError: what they read of other steps is missing, or not as it was written.
        ConfigError: several processes were launched before the images were read; or the steps are to be deterministic,
            and would compute on a GPU.
    """
    names = list(names)
    context.steps.check(doing=names)
    with context.computing():
        for name in names:
            if name in ("evaluate", "dataset", "cards") and not context.is_described:
                return
            if name == "collect" and context.is_launched_with_others:
                _check_collected(context)
                continue
            if name not in SHARED and not context.is_main_process:
                return
            getattr(import_module(f"sae_traits.steps.{name}"), name)(context)
            if name in SHARED:
                context.wait_for_everyone()


def check_last_steps(context: Context, names: Iterable[str]) -> None:
    """Refuse now what `run_steps` would refuse at once, before a command asks or keeps what these steps are to show.

    Raises:
        StoreError, ConfigError: as `run_steps`.
    """
    context.steps.refuse(names)
    with context.computing():
        pass


def _check_collected(context: Context) -> None:
    """Reading images may take longer than the processes of a launcher wait for each other, so none of them does it."""
    if not context.steps.is_current("collect") or context.has_moved:
        why = "have moved" if context.has_moved else "are not read yet"
        raise ConfigError(
            f"several processes were launched, and the images {why}; give `sae-traits collect SOURCE --out "
            f"{context.folder.path}` first, with the same options, and then this command"
        )
