"""What a command line may say: one parser a command, options made from the dataclasses of `config`, and examples."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Container
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from sae_traits.config import READ_WITH_LATENTS, SECTIONS, DescribeConfig, ReleaseConfig, section_of
from sae_traits.config.layers import read_config, recipe_file

USAGE = 2
"""Exit code of a command line that cannot be used."""

EXAMPLES = {
    "run": """\
examples:
  sae-traits run photographs/ --out runs/moths
  sae-traits run metadata.csv --out runs/moths --backbone texture
  sae-traits run photographs/ --out runs/moths --sae ORG/SAE
  sae-traits run --config run.yaml --out runs/moths
  sae-traits run bioscan5m/ --config bioscan-traits.yaml --estimate --teraflops 100""",
    "extract": """\
examples:
  sae-traits extract photographs/ --out runs/moths --backbone facebook/dinov2-base
  sae-traits extract photographs/ --out runs/moths --estimate""",
    "train": """\
examples:
  sae-traits train runs/moths --architecture topk --k 32 --n-latents 6144
  sae-traits train runs/moths --sweep "k=8,16,32 seed=0,1"
  accelerate launch scripts/train_sae.py runs/moths --n-patches 100000000""",
    "annotate": "example:\n  sae-traits annotate runs/moths --describer measured --traits-per-image 3",
    "describe": """\
examples:
  sae-traits describe photographs/ --latents ORG/TRAITS --out runs/new
  sae-traits describe photographs/ --latents runs/moths/dataset --sae runs/moths/sae --out runs/new

The SAE is the one that the dataset names, at the same commit, unless --sae says where a copy of it is. It says itself
which backbone and preprocessing it needs. RUN is a run like any other: `annotate RUN` describes it anew.""",
    "latents": "example:\n  sae-traits latents runs/moths 17 230 --strongest 24",
    "controls": """\
examples:
  sae-traits controls runs/moths
  sae-traits controls runs/moths --n 300 --base-url http://localhost:8000/v1 --in-flight 32""",
    "evaluate": """\
examples:
  sae-traits evaluate runs/moths --clip imageomics/bioclip
  sae-traits evaluate runs/moths --clip bioclip-2/ --text-type taxon --templates openai""",
    "convert": """\
examples:
  sae-traits convert sae.pt saes/papers
  sae-traits convert ORG/SAE exported/ --to sae_lens""",
    "publish": """\
examples:
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --dry-run
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --private
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --tag v1.0.0""",
    "export": """\
examples:
  sae-traits export runs/moths exported/moths --to darwin-core
  sae-traits export ORG/moth-traits shards/ --to webdataset --revision v1.0.0""",
    "rehydrate": """\
examples:
  sae-traits rehydrate ORG/moth-traits moths/ --revision v1.0.0
  sae-traits rehydrate ORG/moth-traits moths/ --photographs originals/

What cannot be fetched, or is no longer the same image, is left out with its rows and listed in OUT.missing.csv.""",
    "demo": "example:\n  sae-traits demo --out runs/demo",
}


DESCRIBE_OPTIONS = {
    *("dtype", "stream", "image_batch_size", "workers", "device", "sae", "sae_revision", *READ_WITH_LATENTS),
    *(DescribeConfig.__dataclass_fields__.keys() - {"name_species", "images_per_description"}),
    *ReleaseConfig.__dataclass_fields__,
}
"""What `describe` reads: the SAE says which features, the dataset which latents, and no one which species."""


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error as one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_command(commands: Any, name: str, function: Callable[[Any], int], description: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=description,
        description=description,
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(function=function)
    if name != "publish":
        parser.add_argument("--format", choices=["text", "json"], default="text", help="What stdout carries (text).")
    return parser


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="Image folder (Genus_species/…) or table with file and species."
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_SOURCE).")
    parser.add_argument("--config", type=Path, metavar="YAML", help="Options from a file, or a recipe by its name.")


def add_existing_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a run that `extract` or `run` made.")
    parser.add_argument("--config", type=Path, metavar="YAML", help="Options from a file, or a recipe by its name.")


def add_options(parser: argparse.ArgumentParser, *sections: str, only: Container[str] | None = None) -> None:
    """Options for all fields of some sections, or for `only` some of them; SOURCE is an argument of its own."""
    names = [field.name for section in sections for field in dataclasses.fields(SECTIONS[section])]
    names = [name for name in names if only is None or name in only]
    parser.set_defaults(option_names=names, sections=sections)
    for section_name in sections:
        section = SECTIONS[section_name]
        group = parser.add_argument_group(f"{section_name}", (section.__doc__ or "").strip())
        hints = get_type_hints(section)
        for field in dataclasses.fields(section):
            if field.name not in names or field.name == "source":
                continue
            default = "" if field.default in (None, ()) else f" ({field.default})"
            hint = hints[field.name]
            if hint is bool:
                group.add_argument(
                    f"--{field.name.replace('_', '-')}",
                    dest=field.name,
                    action=argparse.BooleanOptionalAction,
                    default=argparse.SUPPRESS,
                    help=field.metadata["help"],
                )
                continue
            group.add_argument(
                f"--{field.name.replace('_', '-')}",
                dest=field.name,
                default=argparse.SUPPRESS,
                choices=get_args(hint) if get_origin(hint) is Literal else None,
                type=_comma_separated if get_origin(hint) is tuple else str,
                metavar=None if get_origin(hint) is Literal else field.name.rsplit("_", 1)[-1].upper(),
                help=(field.metadata["help"] + default).replace("%", "%%"),
            )


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def refuse_unknown(arguments: argparse.Namespace, unknown: list[str]) -> int:
    """Say on stderr what a command line has that the command does not know, and what may have been meant."""
    command = f"sae-traits {arguments.command}" if arguments.command else "sae-traits"
    names = {*vars(arguments), *getattr(arguments, "option_names", ())}
    known = [f"--{name.replace('_', '-')}" for name in names]
    meant = get_close_matches(unknown[0].partition("=")[0], known, n=1)
    hint = f"did you mean {meant[0]}? " if meant else ""
    sys.stderr.write(f"{command}: there is no {unknown[0]} here; {hint}See {command} --help\n")
    return USAGE


def options_of_file(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the file of --config says; the name of a recipe will do, where there is no file of that name."""
    path: Path | None = arguments.config
    if path is None:
        return {}
    recipe = recipe_file(path.name)
    is_recipe = not path.exists() and path == Path(path.name) and recipe.is_file()
    return read_config(recipe if is_recipe else path)


def options_given(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the options on the command line say, by section; `none` unsets an option that has no default."""
    sections: dict[str, dict[str, Any]] = {}
    for name in arguments.option_names:
        if (value := getattr(arguments, name, None)) is not None:
            section = section_of(name)
            may_be_none = SECTIONS[section].__dataclass_fields__[name].default is None
            sections.setdefault(section, {})[name] = None if value == "none" and may_be_none else value
    return sections
