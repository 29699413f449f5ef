"""What all commands share: how one is registered, which run it works on, and how it prints."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from sae_traits import __version__
from sae_traits.config.command_line import Parser, file_name, given_options, options_of_file
from sae_traits.config.layers import read_config
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import build
from sae_traits.errors import CollectionError, ConfigError, ReleaseError
from sae_traits.io import json_text
from sae_traits.steps import ALL_STEPS, STEPS, run_steps
from sae_traits.testbench import extra_tasks

if TYPE_CHECKING:
    from sae_traits.runs.context import Context
    from sae_traits.runs.sharding import Part


DONE, FAILED, PARTLY_DONE = 0, 1, 3
Function = Callable[[argparse.Namespace], int]
AddArguments = Callable[[argparse.ArgumentParser, Sequence[str]], None]


@dataclass(frozen=True)
class Command:
    """One command: what it is for, what may be said, and the function that does it."""

    help: str
    add_arguments: AddArguments
    function: Function
    examples: str
    resumes: bool
    """Whether the same command goes on where it stopped; else it begins anew."""


COMMANDS: dict[str, Command] = {}
_WHAT = "From species-labelled images to a sparse autoencoder,\nan image-trait dataset and a report."
KINDS_OF_COMMANDS = {
    "to begin with": ("demo", "run", "doctor"),
    "to look at a run": ("atlas", "latents", "compare", "name", "review"),
    "to use one": ("predict", "export", "publish", "rehydrate"),
    "to ask how good it is": ("evaluate", "parts", "faithfulness", "ablate", "benchmark"),
    "a run step by step": ("collect", "extract", "train", "encode", "annotate"),
    "captions, and models trained on them": ("caption", "context", "finetune", "convert"),
    "on many machines": ("plan", "launch", "status", "merge"),
    "for shells and programs": ("completion", "schema"),
}
"""What commands are for -> commands, in the order of --help."""


def command(
    help: str, add_arguments: AddArguments, *, examples: str, resumes: bool = True
) -> Callable[[Function], Function]:
    """Register a function as the command of its name."""

    def register(function: Function) -> Function:
        COMMANDS[function.__name__] = Command(help, add_arguments, function, examples, resumes)
        return function

    return register


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        type=file_name,
        metavar="SOURCE",
        help="Image folder (Genus_species/…) or table with file and species.",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_SOURCE).")
    add_config(parser)


def add_existing_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a run that `extract` or `run` made.")
    add_config(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="YAML", help="File of options, or the name of a recipe.")


def wanted_run(arguments: argparse.Namespace, *decided: dict[str, Any]) -> tuple[Path, RunConfig]:
    """The folder and the configuration of a run, with all that the file says, for this step and later ones.

    No option can change what is `decided`.
    """
    source = {"collection": {"source": arguments.source}} if arguments.source is not None else {}
    layers = [options_of_file(arguments.config), source, given_options(arguments), *decided]
    config = build(RunConfig, *layers)
    if config.collection.source is None:
        raise ConfigError(
            "say which images: sae-traits run SOURCE, or `source` in the section `collection` of --config"
        )
    out = arguments.out or Path("runs") / Path(config.collection.source).resolve().stem
    if (out / "config.yaml").is_file():  # a CLIP that this run was evaluated with stays
        config = build(RunConfig, {"zero_shot": read_config(out / "config.yaml").get("zero_shot")}, *layers)
    return out, config


def new_run(arguments: argparse.Namespace, *decided: dict[str, Any]) -> Context:
    """The run that `wanted_run` describes, its folder made."""
    from sae_traits.runs.context import Context  # loads torch

    return Context.create(*wanted_run(arguments, *decided), ALL_STEPS, extra_tasks=extra_tasks())


def old_run(
    arguments: argparse.Namespace, *forgotten: dict[str, Any], folder: Path | None = None, part: Part = None
) -> Context:
    """An existing run; of the file only what this command is about, since other steps are done already.

    Args:
        forgotten: what of the run's own configuration does not hold for this command.
        folder: of the run; the argument RUN where it is not given.
        part: what is done of a step that is done in shards.
    """
    from sae_traits.runs.context import Context

    sections = getattr(arguments, "sections", ())
    file = options_of_file(getattr(arguments, "config", None))
    file = {name: values for name, values in file.items() if name in sections}
    layers = (*forgotten, file, given_options(arguments))
    return Context.open(folder or arguments.run, ALL_STEPS, *layers, extra_tasks=extra_tasks(), part=part)


def show(values: Any, lines: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print values for scripts (--format json), or lines for people."""
    print(json_text(values).rstrip() if arguments.format == "json" else "\n".join(lines))


def add_part(parser: argparse.ArgumentParser) -> None:
    """Options of a step that can be done in shards."""
    parts = parser.add_argument_group("shards", "A part of the step, of a RUN whose images are collected.")
    either = parts.add_mutually_exclusive_group()
    either.add_argument("--prepare", action="store_true", help="Make what all shards share, once, and stop.")
    either.add_argument("--shard", metavar="I/N", help="Make one of N shards, 1/N to N/N, and stop; see `merge`.")


def do_part(folder: Path, step: str, arguments: argparse.Namespace, *forgotten: dict[str, Any]) -> int:
    """Prepare the shards of a step, or make one of them; the options of `--prepare` are kept for all of them."""
    from sae_traits.runs.sharding import Shard

    part = "prepare" if arguments.prepare else Shard.parse(arguments.shard)
    for name, reason in (
        ("estimate", "an estimate is of the whole step"),
        ("out", "a shard is part of the run itself"),
    ):
        if getattr(arguments, name, None):
            raise ConfigError(f"--{name} does not go with --prepare and --shard: {reason}; leave one of them out")
    context = old_run(arguments, *forgotten, folder=folder, part=part)
    if part == "prepare":
        with context.writing():
            context.save_config()
            run_steps(context, [step])
    else:
        run_steps(context, [step])
    name = f"{step} {part}"
    show({"run": str(folder), "step": step, "part": str(part)}, [f"{name} of {folder}: done"], arguments)
    return DONE


def do_steps(context: Context, arguments: argparse.Namespace, *steps: str) -> int:
    """Do some steps, keep the configuration, and print what the run made; 3 when something is left to do."""
    from sae_traits.runs.summary import Summary

    with context.writing():
        if not steps:
            from sae_traits.steps.check import check

            check(context)
        try:
            run_steps(context, steps or STEPS)
        except (CollectionError, ReleaseError):
            if context.folder.images.is_file():
                context.collection.check_images_are_there(str(context.folder.path))
            raise
        if context.is_main_process:
            context.save_config()
    if not context.is_main_process:  # the others do not wait for what it does alone
        return DONE
    summary = Summary.of(context)
    show(summary.to_dict(), summary.lines(), arguments)
    return PARTLY_DONE if summary.is_unfinished else DONE


def estimated(context: Context, arguments: argparse.Namespace, estimate: Callable[[Context], Any], *steps: str) -> int:
    """Do the steps that an estimate needs, and print it; a run that has gone on since `collect` stays as it is."""
    context.steps.replaces = set(context.steps.records) <= {"collect"}
    with context.writing():
        run_steps(context, steps)
        found = estimate(context)
    show(found.to_dict(), found.lines(), arguments)
    return DONE


def build_parser(words: Sequence[str], *, all_options: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; options are added to the one that `words` names, or to all of them."""
    parser = Parser(
        prog="sae-traits",
        description="\n\n".join([_WHAT, *(_listed(kind, names) for kind, names in KINDS_OF_COMMANDS.items())]),
        epilog="sae-traits COMMAND --help explains one command with an example.\nTry `sae-traits demo` first.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sae-traits {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, each in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=each.help,  # for completions
            description=each.help,
            epilog=each.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.set_defaults(parser=one)
        if all_options or name in words:
            one.add_argument(
                "--format",
                choices=["text", "json"],
                default="text",
                help="What is printed: text for people, json for scripts. Default: text.",
            )
            each.add_arguments(one, words)
    return parser


def _listed(kind: str, names: Sequence[str]) -> str:
    """A heading, and below it commands with what each is for."""
    width, indent = get_terminal_size().columns - 2, " " * 17
    lines = [
        textwrap.fill(COMMANDS[name].help, width, initial_indent=f"    {name:<13}", subsequent_indent=indent)
        for name in names
    ]
    return "\n".join([f"{kind}:", *lines])
