"""Commands about steps that are done in shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from sae_traits.cli.base import DONE, FAILED, command, do_steps, old_run, show
from sae_traits.errors import ConfigError, StoreError
from sae_traits.logging import warn
from sae_traits.steps import ALL_STEPS, run_steps


def _run_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a run.")


@command(
    "Check what shards have made, and join it: then the run is as one process makes it.",
    _run_arguments,
    examples="""\
examples:
  sae-traits merge runs/moths

Steps without shards are left alone. After the shards of `annotate` the dataset and the cards are written.""",
)
def merge(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.folder import RunFolder
    from sae_traits.runs.sharding import SHARDED, FormerShardsError, marks_of

    folder = RunFolder(arguments.run)
    steps = [step for step in SHARDED if marks_of(folder, step)]
    if not steps:
        raise StoreError(f"{arguments.run} has no shards; make some with `sae-traits extract RUN --shard I/N`")
    context = old_run(arguments, part="merge")
    with context.writing():
        for step in steps:
            if not all(context.steps.is_current(before) for before in ALL_STEPS[step]):
                break  # they are of a step before that was done anew
            try:
                run_steps(context, [step])
            except FormerShardsError as error:
                if step == steps[0]:
                    raise
                warn(f"{error}; left alone, as what is before them is merged")
                break
    is_annotated = "annotate" in steps and context.steps.is_current("annotate")
    return do_steps(context, arguments, *(("dataset", "cards") if is_annotated else steps[:1]))


@command(
    "Say which steps of a run are done, which is next, and which shards are done, running or failed.",
    _run_arguments,
    examples="""\
examples:
  sae-traits status runs/moths
  sae-traits status runs/moths --format json""",
)
def status(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.folder import RunFolder
    from sae_traits.runs.shard_status import ShardStatus
    from sae_traits.runs.step_status import RunStatus

    folder = RunFolder(arguments.run)
    of_run = RunStatus.of(folder, ALL_STEPS)
    of_shards = ShardStatus.of(folder, of_run.finished)
    lines = [*of_run.lines(of_shards.to_do(of_run.next, folder.path)), *of_shards.lines()]
    show(of_run.to_dict() | of_shards.to_dict(), lines, arguments)
    return FAILED if any(state.state == "failed" for state in of_shards.shards) else DONE


def _call(words: Sequence[str]) -> int:
    """A command of which `launch` is made; what it prints is no answer of `launch`."""
    from sae_traits.cli import main

    with redirect_stdout(sys.stderr):
        return main(words)


def _launch_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    from sae_traits.engines import ENGINES
    from sae_traits.runs.sharding import SHARDED

    parser.add_argument("step", choices=SHARDED, metavar="STEP", help=f"{', '.join(SHARDED)}.")
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a run, which all shards see.")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="Options of the step, after --.")
    parser.add_argument("--engine", choices=list(ENGINES), default="local", help="What runs the shards (local).")
    parser.add_argument("--shards", type=int, required=True, metavar="N", help="How many shards.")
    parser.add_argument("--gpus-per-shard", type=int, default=0, metavar="G", help="GPUs of each shard (0).")
    parser.add_argument(
        "--engine-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="Of the engine: local at-once; ray address, cpus, retries; slurm any option of sbatch; hf-jobs bucket, "
        "image, flavor, timeout, attempts, run. May be given several times.",
    )
    parser.add_argument("--submit", action="store_true", help="Submit the scripts of slurm or hf-jobs, too.")


@command(
    "Have the shards of a step made: here, by Ray, by Slurm or as Hugging Face Jobs.",
    _launch_arguments,
    examples="""\
examples:
  sae-traits launch extract runs/moths --shards 8 --gpus-per-shard 1
  sae-traits launch annotate runs/moths --engine ray --shards 32 -- --describer server --describer-model MODEL
  sae-traits launch encode runs/moths --engine slurm --shards 64 --engine-option partition=gpu --submit
  sae-traits launch encode moths --engine hf-jobs --shards 8 --engine-option bucket=O/B --engine-option image=I""",
)
def launch(arguments: argparse.Namespace) -> int:
    from sae_traits.engines import WRITES_SCRIPTS, Job
    from sae_traits.engines import launch as launch_job

    if arguments.shards < 1 or arguments.gpus_per_shard < 0:
        raise ConfigError("--shards is 1 or more, and --gpus-per-shard 0 or more")
    if arguments.submit and arguments.engine not in WRITES_SCRIPTS:
        raise ConfigError(f"--submit is for engines that write scripts ({', '.join(WRITES_SCRIPTS)}); leave it out")
    settings = dict(text.partition("=")[::2] for text in arguments.engine_option)
    if wrong := [text for text in arguments.engine_option if "=" not in text]:
        raise ConfigError(f"--engine-option is NAME=VALUE, not {wrong[0]!r}")
    job = Job(
        step=arguments.step,
        run=arguments.run,
        n_shards=arguments.shards,
        call=_call,
        gpus_per_shard=arguments.gpus_per_shard,
        options=tuple(arguments.options),
        settings=settings,
    )
    text = launch_job(job, arguments.engine, submit=arguments.submit)
    show({"run": str(job.run), "step": job.step, "engine": arguments.engine, "text": text}, [text], arguments)
    return DONE


def _plan_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("--specimens", type=int, required=True, metavar="N", help="Images of the collection.")
    parser.add_argument("--gpus", type=int, default=1, metavar="K", help="Workers, as the rates define one (1).")
    parser.add_argument(
        "--rates", default="measured", metavar="FILE", help="YAML file of rates, or measured or paper (measured)."
    )


@command(
    "Say what a collection of any size takes: bytes, hours, price, with the arithmetic.",
    _plan_arguments,
    examples="""\
examples:
  sae-traits plan --specimens 5150850 --gpus 64 --rates paper
  sae-traits plan --specimens 214000000 --gpus 512 --rates my-rates.yaml""",
)
def plan(arguments: argparse.Namespace) -> int:
    from sae_traits.engines.plan import CollectionPlan, Rates

    if arguments.specimens < 1 or arguments.gpus < 1:
        raise ConfigError("--specimens and --gpus are 1 or more")
    planned = CollectionPlan(arguments.specimens, arguments.gpus, Rates.read(arguments.rates))
    show(planned.to_dict(), planned.lines(), arguments)
    return DONE
