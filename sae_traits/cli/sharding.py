"""Commands about steps that are done in shards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sae_traits.cli.base import DONE, FAILED, add_existing_run, command, do_steps, extra_tasks, show
from sae_traits.errors import StoreError
from sae_traits.steps import STEPS, run_steps


def _merge_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)


@command(
    "Check what shards have made, and join it: then the run is as one process makes it.",
    _merge_arguments,
    examples="""\
examples:
  sae-traits merge runs/moths

Steps without shards are left alone. After the shards of `annotate` the dataset and the cards are written.""",
)
def merge(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.context import Context
    from sae_traits.runs.folder import RunFolder
    from sae_traits.runs.sharding import SHARDED, marks_of

    folder = RunFolder(arguments.run)
    steps = [step for step in SHARDED if marks_of(folder, step)]
    if not steps:
        raise StoreError(f"{arguments.run} has no shards; make some with `sae-traits extract RUN --shard I/N`")
    context = Context.open(arguments.run, STEPS, extra_tasks=extra_tasks(), part="merge")
    with context.writing():
        for step in steps:
            if not all(context.steps.is_current(before) for before in STEPS[step]):
                break  # they are of a step before that was done anew
            run_steps(context, [step])
    is_annotated = "annotate" in steps and context.steps.is_current("annotate")
    return do_steps(context, arguments, *(("dataset", "cards") if is_annotated else steps[:1]))


def _status_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)


@command(
    "Say which shards of a run are done, running or failed.",
    _status_arguments,
    examples="""\
examples:
  sae-traits status runs/moths
  sae-traits status runs/moths --format json""",
)
def status(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.folder import RunFolder
    from sae_traits.runs.record import Steps
    from sae_traits.runs.shard_status import ShardStatus

    folder = RunFolder(arguments.run)
    steps = Steps(folder.steps, STEPS)
    found = ShardStatus.of(folder, {step for step in STEPS if steps.is_current(step)})
    show(found.to_dict(), found.lines(), arguments)
    return FAILED if any(state.state == "failed" for state in found.shards) else DONE
