"""The command line: parse, call one function, print. Exit codes: 0 done, 1 failed, 2 usage, 3 partly done."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from sae_traits import __version__
from sae_traits.config import SECTIONS, TrainConfig, read_config, resolve, section_of
from sae_traits.errors import ConfigError, SaeTraitsError

if TYPE_CHECKING:
    from sae_traits.run import Run

DONE, FAILED, USAGE, PARTLY_DONE = 0, 1, 2, 3

EXAMPLES = {
    "run": """\
examples:
  sae-traits run photographs/ --out runs/moths
  sae-traits run metadata.csv --out runs/moths --backbone texture
  sae-traits run photographs/ --out runs/moths --sae ORG/SAE
  sae-traits run --config run.yaml --out runs/moths""",
    "extract": """\
examples:
  sae-traits extract photographs/ --out runs/moths --backbone facebook/dinov2-base
  sae-traits extract photographs/ --out runs/moths --estimate""",
    "train": """\
examples:
  sae-traits train runs/moths --architecture topk --k 32 --n-latents 6144
  sae-traits train runs/moths --sweep "k=8,16,32 seed=0,1"
  accelerate launch scripts/train_sae.py runs/moths --n-patches 100000000""",
    "annotate": "example:\n  sae-traits annotate runs/moths --describer measured --traits-per-specimen 3",
    "latents": "example:\n  sae-traits latents runs/moths 17 230 --strongest 24",
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
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --private""",
    "demo": "example:\n  sae-traits demo --out runs/demo",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a usage error as one line that says what to do."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return USAGE
    try:
        return arguments.function(arguments)
    except ConfigError as error:
        print(f"sae-traits {arguments.command}: {error}", file=sys.stderr)
        return USAGE
    except SaeTraitsError as error:
        print(f"sae-traits {arguments.command}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # who reads stdout has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        reason = "the disk is full; free some space, and" if error.errno in (ENOSPC, EDQUOT) else f"{error};"
        print(f"sae-traits {arguments.command}: {reason} the same command goes on where it stopped", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return PARTLY_DONE


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options, made from the dataclasses of `config`."""
    parser = Parser(
        prog="sae-traits",
        description="From species-labelled images to a sparse autoencoder, an image-trait dataset and a report.",
        epilog="sae-traits COMMAND --help explains one command with an example. Try `sae-traits demo` first.",
    )
    parser.add_argument("--version", action="version", version=f"sae-traits {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    run = _command(commands, "run", _run, "Everything: features, SAE, traits, dataset and report.")
    _source(run)
    _options(run, *SECTIONS)
    extract = _command(commands, "extract", _extract, "Read a collection and extract patch features.")
    _source(extract)
    extract.add_argument("--estimate", action="store_true", help="Say how many bytes it would write, and stop.")
    _options(extract, "collection", "features")
    train = _command(commands, "train", _train, "Train an SAE on the features of a run, or adopt one (--sae).")
    _existing(train)
    _options(train, "train")
    annotate = _command(commands, "annotate", _annotate, "Choose latents, describe their regions, write the dataset.")
    _existing(annotate)
    annotate.add_argument("--estimate", action="store_true", help="Say what the calls would cost, and ask nothing.")
    _options(annotate, "contrast", "describe", "release")
    latents = _command(commands, "latents", _latents, "Show what latents stand for: statistics, strongest specimens.")
    latents.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    latents.add_argument(
        "latent", type=int, nargs="*", metavar="LATENT", help="Which; by default those of large effect."
    )
    latents.add_argument("--strongest", type=int, default=12, metavar="N", help="Specimens a latent (12).")
    evaluate = _command(commands, "evaluate", _evaluate, "Score the regions, and ask a CLIP model whether traits help.")
    _existing(evaluate)
    _options(evaluate, "zero_shot")
    publish = _command(
        commands, "publish", _publish, "Publish the SAE and the dataset of a run on the Hugging Face Hub."
    )
    publish.add_argument("run", type=Path, metavar="RUN", help="Folder of a finished run.")
    publish.add_argument("--model-repo", required=True, metavar="ID", help="Hub id of the SAE, ORG/NAME.")
    publish.add_argument("--dataset-repo", required=True, metavar="ID", help="Hub id of the dataset, ORG/NAME.")
    publish.add_argument("--private", action="store_true", help="Create the repositories as private ones.")
    publish.add_argument("--dry-run", action="store_true", help="List what would be uploaded, and upload nothing.")
    convert = _command(commands, "convert", _convert, "Bring an SAE of another library into this layout, or out of it.")
    convert.add_argument("source", metavar="SRC", help="Folder, file or Hub id of an SAE; its layout is recognised.")
    convert.add_argument("destination", type=Path, metavar="DST", help="A new folder.")
    convert.add_argument(
        "--to", choices=["sae-traits", "sae_lens"], default="sae-traits", help="Layout of DST (sae-traits)."
    )
    demo = _command(
        commands, "demo", _demo, "Draw invented specimens, run everything on them, score against the truth."
    )
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="RUN", help="Where to write (runs/demo).")
    return parser


def _command(commands: Any, name: str, function: Callable[[Any], int], description: str) -> argparse.ArgumentParser:
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


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="Image folder (Genus_species/…) or table with file and species."
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_SOURCE).")
    parser.add_argument("--config", type=Path, metavar="YAML", help="Options from a file, one section a step.")


def _existing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a run that `extract` or `run` made.")
    parser.add_argument("--config", type=Path, metavar="YAML", help="Options from a file, one section a step.")


def _options(parser: argparse.ArgumentParser, *sections: str) -> None:
    """Options for all fields of some sections; SOURCE is an argument of its own."""
    names = [field.name for section in sections for field in dataclasses.fields(SECTIONS[section])]
    parser.set_defaults(option_names=names, sections=sections)
    for section_name in sections:
        section = SECTIONS[section_name]
        group = parser.add_argument_group(f"{section_name}", (section.__doc__ or "").strip())
        hints = get_type_hints(section)
        for field in dataclasses.fields(section):
            if field.name == "source":
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


def _file(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the file of --config says."""
    return read_config(arguments.config) if arguments.config else {}


def _options_given(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the options on the command line say, by section; `none` unsets an option that has no default."""
    sections: dict[str, dict[str, Any]] = {}
    for name in arguments.option_names:
        if (value := getattr(arguments, name, None)) is not None:
            section = section_of(name)
            may_be_none = SECTIONS[section].__dataclass_fields__[name].default is None
            sections.setdefault(section, {})[name] = None if value == "none" and may_be_none else value
    return sections


def _new_run(arguments: argparse.Namespace) -> Run:
    """A run with all that the file says, for this step and later ones."""
    from sae_traits.run import Run

    layers = [_file(arguments), _options_given(arguments)]
    source = resolve(*layers).collection.source
    if source is None:
        raise ConfigError(
            "say which images: sae-traits run SOURCE, or `source` in the section `collection` of --config"
        )
    out = arguments.out or Path("runs") / Path(source).resolve().stem
    if (out / "config.yaml").is_file():  # a CLIP that this run was evaluated with stays
        layers.insert(0, {"zero_shot": read_config(out / "config.yaml").get("zero_shot", {})})
    return Run.create(out, resolve(*layers))


def _old_run(arguments: argparse.Namespace, *forgotten: dict[str, dict[str, Any]]) -> Run:
    """An existing run; of the file only what this command is about, since other steps are done already.

    Args:
        arguments: those of the command.
        forgotten: what of the run's own configuration does not hold for this command.
    """
    from sae_traits.run import Run

    file = {name: values for name, values in _file(arguments).items() if name in arguments.sections}
    return Run.open(arguments.run, *forgotten, file, _options_given(arguments))


def _print(run: Run, arguments: argparse.Namespace) -> int:
    """Print what a run made, in one of several processes; 3 when something is left to do."""
    from accelerate import PartialState

    from sae_traits.summary import Summary

    summary = Summary.of(run)
    if PartialState().is_main_process:
        if arguments.format == "json":
            print(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
        else:
            print("\n".join(summary.lines()))
    return PARTLY_DONE if summary.unfinished else DONE


def _run(arguments: argparse.Namespace) -> int:
    run = _new_run(arguments)
    _refuse_options_without_effect(_options_given(arguments).get("train", {}), run.config.train)
    from sae_traits import pipeline

    pipeline.run_all(run)
    return _print(run, arguments)


def _extract(arguments: argparse.Namespace) -> int:
    run = _new_run(arguments)
    from sae_traits import extraction

    if arguments.estimate:
        estimate = extraction.estimate_features(run)
        text = json.dumps(dataclasses.asdict(estimate), indent=2)
        print(text if arguments.format == "json" else "\n".join(estimate.lines()))
        return DONE
    extraction.extract_features(run)
    return _print(run, arguments)


def _refuse_options_without_effect(given: dict[str, Any], config: TrainConfig) -> None:
    """Raise a ConfigError for an option on the command line that the chosen training would not read."""
    from sae_traits.sae.sweep import is_read

    if config.sae is not None and (others := [name for name in given if name not in ("sae", "tracker")]):
        raise ConfigError(f"--sae uses an SAE as it is; leave out --{others[0].replace('_', '-')}, or --sae")
    if config.sweep is None and (unread := [name for name in given if not is_read(name, config.architecture)]):
        raise ConfigError(f"--{unread[0].replace('_', '-')} has no effect with --architecture {config.architecture}")


def _train(arguments: argparse.Namespace) -> int:
    given = _options_given(arguments).get("train", {})
    # A sweep or an SAE of an earlier command must not override what this one says.
    forgotten = {name: None for name in ("sae", "sweep") if given and name not in given}
    run = _old_run(arguments, {"train": forgotten})
    _refuse_options_without_effect(given, run.config.train)
    from sae_traits import training

    training.train(run)
    run.save_config()
    return _print(run, arguments)


def _annotate(arguments: argparse.Namespace) -> int:
    run = _old_run(arguments)
    from sae_traits import pipeline

    if arguments.estimate:
        estimate = pipeline.estimate_descriptions(run)
        text = json.dumps(dataclasses.asdict(estimate), indent=2)
        print(text if arguments.format == "json" else "\n".join(estimate.lines()))
        return DONE
    pipeline.annotate_run(run)
    run.save_config()
    return _print(run, arguments)


def _latents(arguments: argparse.Namespace) -> int:
    from sae_traits import pipeline
    from sae_traits.run import Run

    files = pipeline.write_latents_of(Run.open(arguments.run), arguments.latent, arguments.strongest)
    names = [str(file) for file in files]
    print(json.dumps(names, indent=2) if arguments.format == "json" else "\n".join(names))
    return DONE


def _evaluate(arguments: argparse.Namespace) -> int:
    run = _old_run(arguments)
    from sae_traits import pipeline

    pipeline.evaluate_run(run)
    run.save_config()
    return _print(run, arguments)


def _publish(arguments: argparse.Namespace) -> int:
    from sae_traits.publishing import publish
    from sae_traits.run import Run

    run = Run.open(arguments.run)
    lines = publish(
        run,
        model_repo=arguments.model_repo,
        dataset_repo=arguments.dataset_repo,
        private=arguments.private,
        dry_run=arguments.dry_run,
    )
    print("\n".join(lines))
    return DONE


def _convert(arguments: argparse.Namespace) -> int:
    from sae_traits.sae.formats.export import convert

    config = convert(arguments.source, arguments.destination, to=arguments.to).config
    if arguments.format == "json":
        print(json.dumps({"destination": str(arguments.destination), **config.to_dict()}, indent=2))
    else:
        print(f"{arguments.destination}: {config.architecture}, {config.d_model} wide, {config.n_latents} latents")
    return DONE


def _demo(arguments: argparse.Namespace) -> int:
    from sae_traits import pipeline

    run = pipeline.run_demo(arguments.out)
    code = _print(run, arguments)
    if arguments.format == "text":
        from sae_traits.evaluation.report import DRAWN_HEADING, ZERO_SHOT_HEADING, read_section

        for heading in (DRAWN_HEADING, ZERO_SHOT_HEADING):
            print(f"\n{heading}\n\n{read_section(run.evaluation, heading).replace('```', '').strip()}")
        print("\nNow with your own images: sae-traits run photographs/ --out runs/mine")
    return code


if __name__ == "__main__":
    sys.exit(main())
