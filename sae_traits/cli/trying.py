"""Commands for the first minutes: the demo, what the machine has, completion in a shell and in an editor."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sae_traits.cli.base import DONE, FAILED, build_parser, command, do_steps, show
from sae_traits.config.command_line import file_name
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import build
from sae_traits.errors import ConfigError
from sae_traits.io import json_text
from sae_traits.steps import ALL_STEPS
from sae_traits.testbench import extra_tasks


def _completion_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish", "tcsh"], help="Which shell.")


@command(
    "Print the script with which a shell completes commands and options.",
    _completion_arguments,
    examples='example:\n  eval "$(sae-traits completion bash)"',
    resumes=False,
)
def completion(arguments: argparse.Namespace) -> int:
    import shtab

    parser = build_parser([], all_options=True)
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for action in (action for one in commands.choices.values() for action in one._actions):
        action.help = "" if action.help == argparse.SUPPRESS else action.help  # options of other variants
        if action.type in (Path, file_name):
            action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]
    script = shtab.complete(parser, shell=arguments.shell)
    show(script, [script], arguments)
    return DONE


def _doctor_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    from sae_traits.runs.machine import TASKS

    parser.add_argument(
        "tasks",
        nargs="*",
        metavar="TASK",
        help=f"Only these, with exit code 1 where something is missing: {', '.join(TASKS)}.",
    )


@command(
    "Say what this machine has (versions, devices, Hub, disk), and what a task lacks.",
    _doctor_arguments,
    examples="examples:\n  sae-traits doctor\n  sae-traits doctor publish describe-vllm",
    resumes=False,
)
def doctor(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.machine import TASKS, examine

    if unknown := sorted(set(arguments.tasks) - set(TASKS)):
        raise ConfigError(f"there is no task {unknown[0]}; there are {', '.join(TASKS)}")
    machine = examine(*arguments.tasks)
    show(asdict(machine), machine.lines(), arguments)
    return FAILED if arguments.tasks and any(machine.missing.values()) else DONE


_CONFIGURATIONS = ("run", "finetune")


def _schema_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "configuration",
        nargs="?",
        choices=_CONFIGURATIONS,
        default="run",
        metavar="COMMAND",
        help=f"Whose --config or --recipe: {' or '.join(_CONFIGURATIONS)} (run).",
    )


@command(
    "Print the JSON schema of the configuration, for editors and other programs.",
    _schema_arguments,
    examples="example:\n  sae-traits schema > run.schema.json",
    resumes=False,
)
def schema(arguments: argparse.Namespace) -> int:
    from sae_traits.config.finetune import FinetuneConfig
    from sae_traits.config.json_schema import json_schema

    root = {"run": RunConfig, "finetune": FinetuneConfig}[arguments.configuration]
    printed = json_schema(root, f"Options of sae-traits {arguments.configuration}")
    show(printed, [json_text(printed).rstrip()], arguments)
    return DONE


def _demo_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="RUN", help="Where to write (runs/demo)."
    )


@command(
    "Draw invented specimens, run everything, score against the truth.",
    _demo_arguments,
    examples="example:\n  sae-traits demo --out runs/demo",
)
def demo(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.context import Context
    from sae_traits.testbench.demo import RECIPE, prepare_demo

    options = prepare_demo(arguments.out)
    config = build(RunConfig, read_config(recipe_file(RECIPE)), options)
    context = Context.create(arguments.out, config, ALL_STEPS, extra_tasks=extra_tasks())
    code = do_steps(context, arguments)
    if arguments.format == "text":
        folder = context.folder
        print(f"\nLook at {folder.evaluation}/figures/regions.png, the report, and the card {folder.dataset}/README.md")
        print("Now with your own images: sae-traits run photographs/ --out runs/mine")
    return code
