"""The command that compares runs which differ in some options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sae_traits.cli.base import DONE, FAILED, PARTLY_DONE, command, extra_tasks, show
from sae_traits.cli.looking import add_part_files, given_part_files
from sae_traits.errors import ConfigError, SaeTraitsError, one_line
from sae_traits.logging import say, warn
from sae_traits.steps import ALL_STEPS, run_steps

if TYPE_CHECKING:
    from sae_traits.runs.ablation import Cell, Outcome
    from sae_traits.runs.context import Context

_UP_TO_TRAITS = ("collect", "extract", "train", "encode", "annotate")


def _ablate_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("grid", type=Path, metavar="GRID", help="YAML with `run`, what all share, and `vary`.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="Folder of all runs and the table (runs/NAME_OF_GRID).")
    add_part_files(parser)


@command(
    "Compare runs that differ in some options, shared steps done once.",
    _ablate_arguments,
    examples="""\
examples:
  sae-traits ablate grid.yaml --out runs/ablation
  sae-traits ablate grid.yaml --part-masks masks/

grid.yaml:
  run:
    collection: {source: photographs/}
    train: {architecture: relu}
    regions: {contrast: {kind: paper}}
  vary:
    l1-coefficient: [0.0002, 0.0004, 0.0008]
    min-frequency: [0.001, 0.003]

DIR/report.md has the table; every cell is a run in DIR, with a report of its own. A cell that fails is named with its
reason, and the others go on.""",
)
def ablate(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.ablation import Ablation, open_outcome, read_grid, write_ablation

    cells = read_grid(arguments.grid)
    out = arguments.out or Path("runs") / arguments.grid.stem
    files = given_part_files(arguments)
    for path in files.values():
        if not path.exists():
            raise ConfigError(f"{path} does not exist; every cell would fail for it")
    outcomes = [open_outcome(cell) for cell in cells]
    for place, cell in enumerate(cells):
        say(f"cell {place + 1} of {len(cells)}: {cell.name}")
        others = tuple(out / other.name for other in cells if other is not cell)
        outcomes[place] = _outcome(cell, out / cell.name, others, files)
        out.mkdir(parents=True, exist_ok=True)
        write_ablation(out, Ablation(cells=tuple(outcomes)))
    ablation = Ablation(cells=tuple(outcomes))
    show(asdict(ablation), [*ablation.lines(), f"written: {out}/report.md and results.json"], arguments)
    if all(outcome.state == "done" for outcome in outcomes):
        return DONE
    return FAILED if len(ablation.failed) == len(outcomes) else PARTLY_DONE


def _outcome(cell: Cell, folder: Path, others: tuple[Path, ...], files: Mapping[str, Path]) -> Outcome:
    """Run one cell, or say why that cannot be done."""
    from torch import OutOfMemoryError

    from sae_traits.runs.ablation import open_outcome, outcome_of
    from sae_traits.runs.context import Context

    try:
        context = Context.create(folder, cell.config, ALL_STEPS, extra_tasks=extra_tasks(), others=others)
        _run_cell(context, files)
        return outcome_of(cell, context)
    except (SaeTraitsError, MemoryError, OutOfMemoryError) as error:
        reason = one_line(error)
        warn(f"cell {cell.name}: {reason}")
        return replace(open_outcome(cell), state="failed", reason=reason)


def _run_cell(context: Context, files: Mapping[str, Path]) -> None:
    """Do the steps of a run up to its evaluation, with part evidence where regions are those of latents."""
    from sae_traits.runs.ablation import share_embeddings
    from sae_traits.runs.baselines import can_be_compared
    from sae_traits.steps.check import check
    from sae_traits.steps.parts import write_parts

    with context.writing():
        check(context)
        run_steps(context, _UP_TO_TRAITS)
        if can_be_compared(context):
            write_parts(context, files, baselines=())
        share_embeddings(context)
        run_steps(context, ["evaluate"])
