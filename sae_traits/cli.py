"""The command line: parse, call one function, print. Exit codes: 0 done, 1 failed, 2 usage, 3 partly done."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits import __version__
from sae_traits.config import SECTIONS
from sae_traits.config.command_line import (
    DESCRIBE_OPTIONS,
    USAGE,
    Parser,
    add_command,
    add_existing_run,
    add_options,
    add_source,
    options_given,
    options_of_file,
    refuse_unknown,
)
from sae_traits.config.layers import read_config, resolve
from sae_traits.errors import ConfigError, SaeTraitsError
from sae_traits.logging import printing_to_stderr
from sae_traits.without_effect import refuse_options_without_effect

if TYPE_CHECKING:
    from sae_traits.runs.run import Run

DONE, FAILED, PARTLY_DONE = 0, 1, 3
TWO_CORES = 0.1
"""TFLOP/s that two CPU cores sustain in training and extraction (docs/benchmarks.md); what `run --estimate` assumes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = build_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        return refuse_unknown(arguments, unknown)
    if arguments.command is None:
        parser.print_help()
        return USAGE
    try:
        with printing_to_stderr():
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
    _add_steps(commands)
    _add_looks(commands)
    _add_releases(commands)
    demo = add_command(commands, "demo", _demo, "Draw invented images, run everything, score against the truth.")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="RUN", help="Where to write (runs/demo).")
    return parser


def _add_steps(commands: Any) -> None:
    """Commands that make a run, or a step of it."""
    run = add_command(commands, "run", _run, "Everything: features, SAE, traits, dataset and report.")
    add_source(run)
    run.add_argument("--estimate", action="store_true", help="Read the collection, say what the rest takes, and stop.")
    run.add_argument("--teraflops", type=float, metavar="N", help=f"For the estimate: speed in TFLOP/s ({TWO_CORES}).")
    add_options(run, *SECTIONS)
    extract = add_command(commands, "extract", _extract, "Read a collection and extract patch features.")
    add_source(extract)
    extract.add_argument("--estimate", action="store_true", help="Say how many bytes it would write, and stop.")
    add_options(extract, "collection", "features")
    train = add_command(commands, "train", _train, "Train an SAE on the features of a run, or adopt one (--sae).")
    add_existing_run(train)
    add_options(train, "train")
    annotate = add_command(
        commands, "annotate", _annotate, "Choose latents, describe their regions, write the dataset."
    )
    add_existing_run(annotate)
    annotate.add_argument("--estimate", action="store_true", help="Say what the calls would cost, and ask nothing.")
    add_options(annotate, "contrast", "describe", "release")
    describe = add_command(
        commands, "describe", _describe, "Describe new photographs without labels, with the latents of a dataset."
    )
    describe.add_argument("source", metavar="PHOTOGRAPHS", help="Folder of images, flat or nested, or table with file.")
    describe.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_PHOTOGRAPHS).")
    describe.add_argument("--config", type=Path, metavar="YAML", help="Options from a file, or a recipe by its name.")
    add_options(describe, "features", "train", "contrast", "describe", "release", only=DESCRIBE_OPTIONS)


def _add_looks(commands: Any) -> None:
    """Commands that say what a run has found."""
    latents = add_command(commands, "latents", _latents, "Show what latents stand for: statistics, strongest images.")
    latents.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    latents.add_argument("latent", type=int, nargs="*", metavar="LATENT", help="Which (those of large effect).")
    latents.add_argument("--strongest", type=int, default=12, metavar="N", help="Images a latent (12).")
    controls = add_command(
        commands, "controls", _controls, "Ask about a sample of traits again, with the wrong region: who looks notices."
    )
    add_existing_run(controls)
    controls.add_argument("--n", type=int, default=100, metavar="N", help="Traits in the sample (100).")
    controls.add_argument("--sample-seed", type=int, default=0, metavar="SEED", help="Seed of the sample (0).")
    add_options(controls, "describe")
    evaluate = add_command(
        commands, "evaluate", _evaluate, "Score the regions, and ask a CLIP model whether traits help."
    )
    add_existing_run(evaluate)
    add_options(evaluate, "zero_shot")


def _add_releases(commands: Any) -> None:
    """Commands that bring SAEs and datasets to others, and from others."""
    publish = add_command(
        commands, "publish", _publish, "Publish the SAE and the dataset of a run on the Hugging Face Hub."
    )
    publish.add_argument("run", type=Path, metavar="RUN", help="Folder of a finished run.")
    publish.add_argument("--model-repo", required=True, metavar="ID", help="Hub id of the SAE, ORG/NAME.")
    publish.add_argument("--dataset-repo", required=True, metavar="ID", help="Hub id of the dataset, ORG/NAME.")
    publish.add_argument("--private", action="store_true", help="Create the repositories as private ones.")
    publish.add_argument(
        "--gated", choices=["auto", "manual"], help="Readers ask for access: granted at once, or by hand."
    )
    publish.add_argument("--tag", metavar="vX.Y.Z", help="Version of both (the next patch version of what changed).")
    publish.add_argument("--collection", metavar="TITLE", help="Collection to put both into; made if there is none.")
    publish.add_argument("--dry-run", action="store_true", help="List what would be uploaded, and upload nothing.")
    convert = add_command(
        commands, "convert", _convert, "Bring an SAE of another library into this layout, or out of it."
    )
    convert.add_argument("source", metavar="SRC", help="Folder, file or Hub id of an SAE; its layout is recognised.")
    convert.add_argument("destination", type=Path, metavar="DST", help="A new folder.")
    convert.add_argument("--to", choices=["sae-traits", "sae_lens"], default="sae-traits", help="Layout (sae-traits).")
    export = add_command(commands, "export", _export, "Write a released dataset in the format of another community.")
    export.add_argument("dataset", metavar="DATASET", help="Folder of a run or of a dataset, or Hub id.")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="A new folder.")
    export.add_argument(
        "--to",
        choices=["darwin-core", "matrix", "coco", "webdataset"],
        required=True,
        help="darwin-core: archive of occurrences with measurements, for GBIF; matrix: species x traits, CSV and "
        "Parquet; coco: regions as COCO JSON with the images; webdataset: shards of image and sentence.",
    )
    export.add_argument("--revision", metavar="REVISION", help="Branch, tag or commit on the Hub.")
    rehydrate = add_command(
        commands, "rehydrate", _rehydrate, "Put the images into a dataset that was released without them."
    )
    rehydrate.add_argument("dataset", metavar="DATASET", help="Folder or Hub id of a release by reference.")
    rehydrate.add_argument("folder", type=Path, metavar="OUT", help="Folder for the dataset with its images.")
    rehydrate.add_argument("--revision", help="Branch, tag or commit of the dataset on the Hub.")
    rehydrate.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="The original files, in any order; nothing is fetched."
    )
    rehydrate.add_argument("--connections", type=int, default=8, metavar="N", help="Images fetched at a time (8).")
    rehydrate.add_argument("--workers", type=int, default=2, metavar="N", help="Threads that encode images (2).")


def _new_run(arguments: argparse.Namespace, *decided: dict[str, dict[str, Any]]) -> Run:
    """A run with all that the file says, for this step and later ones.

    Args:
        arguments: those of the command.
        decided: what no option can change.
    """
    from sae_traits.runs.run import Run

    layers = [options_of_file(arguments), options_given(arguments), *decided]
    source = resolve(*layers).collection.source
    if source is None:
        raise ConfigError(
            "say which images: sae-traits run SOURCE, or `source` in the section `collection` of --config"
        )
    out = arguments.out or Path("runs") / Path(source).resolve().stem
    if (out / "config.yaml").is_file():  # a CLIP that this run was evaluated with stays
        layers.insert(0, {"zero_shot": read_config(out / "config.yaml").get("zero_shot", {})})
    config = resolve(*layers)
    refuse_options_without_effect(options_given(arguments), config)  # before the run keeps them
    return Run.create(out, config)


def _old_run(arguments: argparse.Namespace, *forgotten: dict[str, dict[str, Any]]) -> Run:
    """An existing run; of the file only what this command is about, since other steps are done already.

    Args:
        arguments: those of the command.
        forgotten: what of the run's own configuration does not hold for this command.
    """
    from sae_traits.runs.run import Run

    file = {name: values for name, values in options_of_file(arguments).items() if name in arguments.sections}
    run = Run.open(arguments.run, *forgotten, file, options_given(arguments))
    refuse_options_without_effect(options_given(arguments), run.config)
    return run


def _show(values: Any, lines: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print values for scripts (--format json), or lines for people."""
    print(json.dumps(values, indent=2, ensure_ascii=False) if arguments.format == "json" else "\n".join(lines))


def _print(run: Run, arguments: argparse.Namespace) -> int:
    """Print what a run made, in one of several processes; 3 when something is left to do."""
    from accelerate import PartialState

    from sae_traits.summary import Summary

    summary = Summary.of(run)
    if PartialState().is_main_process:
        _show(summary.to_dict(), summary.lines(), arguments)
    return PARTLY_DONE if summary.unfinished else DONE


def _run(arguments: argparse.Namespace) -> int:
    speed = arguments.teraflops
    if speed is not None and (speed <= 0 or not arguments.estimate):
        raise ConfigError("--teraflops is a positive speed, for --estimate; leave it out, or give both")
    run = _new_run(arguments)
    if arguments.estimate:
        from sae_traits.estimate import estimate_run

        estimate = estimate_run(run, teraflops=speed or TWO_CORES)
        _show(estimate.to_dict(), estimate.lines(), arguments)
        return DONE
    from sae_traits import pipeline

    pipeline.run_all(run)
    return _print(run, arguments)


def _extract(arguments: argparse.Namespace) -> int:
    run = _new_run(arguments)
    from sae_traits import extraction

    if arguments.estimate:
        estimate = extraction.estimate_features(run)
        _show(dataclasses.asdict(estimate), estimate.lines(), arguments)
        return DONE
    extraction.extract_features(run)
    return _print(run, arguments)


def _train(arguments: argparse.Namespace) -> int:
    given = options_given(arguments).get("train", {})
    # A sweep or an SAE of an earlier command must not override what this one says.
    forgotten = {name: None for name in ("sae", "sae_revision", "sweep") if given and name not in given}
    run = _old_run(arguments, {"train": forgotten})
    from sae_traits import training

    training.train(run)
    run.save_config()
    return _print(run, arguments)


def _annotate(arguments: argparse.Namespace) -> int:
    given = options_given(arguments).get("contrast", {})
    # A commit of an earlier dataset is none of this one.
    forgotten = {"latents_revision": None} if "latents" in given else {}
    run = _old_run(arguments, {"contrast": forgotten})
    from sae_traits import pipeline

    if arguments.estimate:
        estimate = pipeline.estimate_descriptions(run)
        _show(dataclasses.asdict(estimate), estimate.lines(), arguments)
        return DONE
    pipeline.annotate_run(run)
    run.save_config()
    return _print(run, arguments)


def _describe(arguments: argparse.Namespace) -> int:
    unlabelled = {"collection": {"source": arguments.source, "labels": False}}
    config = resolve(options_of_file(arguments), options_given(arguments), unlabelled)
    from sae_traits import pipeline
    from sae_traits.unlabelled import pinned

    run = _new_run(arguments, unlabelled, pinned(config))
    pipeline.run_all(run)
    return _print(run, arguments)


def _latents(arguments: argparse.Namespace) -> int:
    from sae_traits import pipeline
    from sae_traits.runs.run import Run

    files = pipeline.write_latents_of(Run.open(arguments.run), arguments.latent, arguments.strongest)
    names = [str(file) for file in files]
    _show(names, names, arguments)
    return DONE


def _controls(arguments: argparse.Namespace) -> int:
    run = _old_run(arguments)
    from sae_traits import pipeline

    controls = pipeline.control_descriptions(run, n_traits=arguments.n, seed=arguments.sample_seed)
    kept = f"\nkept in {run.controls_file}; sae-traits evaluate {run.folder} puts them into the report"
    _show(controls.to_dict(), [*controls.lines(), kept], arguments)
    return PARTLY_DONE if controls.n_open else DONE


def _evaluate(arguments: argparse.Namespace) -> int:
    run = _old_run(arguments)
    from sae_traits import pipeline

    pipeline.evaluate_run(run)
    run.save_config()
    return _print(run, arguments)


def _publish(arguments: argparse.Namespace) -> int:
    from sae_traits.publishing import publish
    from sae_traits.release.publication import Terms
    from sae_traits.runs.run import Run

    terms = Terms(
        model_repo=arguments.model_repo,
        dataset_repo=arguments.dataset_repo,
        private=arguments.private,
        gated=arguments.gated,
        tag=arguments.tag,
        collection=arguments.collection,
    )
    lines = publish(Run.open(arguments.run), terms, dry_run=arguments.dry_run)
    print("\n".join(lines))
    return DONE


def _convert(arguments: argparse.Namespace) -> int:
    from sae_traits.sae.formats.export import convert

    config = convert(arguments.source, arguments.destination, to=arguments.to).config
    line = f"{arguments.destination}: {config.architecture}, {config.d_model} wide, {config.n_latents} latents"
    _show({"destination": str(arguments.destination), **config.to_dict()}, [line], arguments)
    return DONE


def _export(arguments: argparse.Namespace) -> int:
    from sae_traits.release.exports import export

    written = export(arguments.dataset, arguments.to, arguments.folder, revision=arguments.revision)
    _show({"files": [str(file) for file in written.files], "counts": written.counts}, written.lines(), arguments)
    return DONE


def _rehydrate(arguments: argparse.Namespace) -> int:
    from sae_traits.release.rehydrate import dataset_folder, rehydrate

    done = rehydrate(
        dataset_folder(arguments.dataset, arguments.revision),
        arguments.folder,
        photographs=arguments.photographs,
        connections=arguments.connections,
        workers=arguments.workers,
    )
    _show(done.to_dict(), done.lines(), arguments)
    return PARTLY_DONE if done.missing else DONE


def _demo(arguments: argparse.Namespace) -> int:
    from sae_traits import pipeline

    run = pipeline.run_demo(arguments.out)
    code = _print(run, arguments)
    if arguments.format == "text":
        from sae_traits.evaluation.report import DRAWN_HEADING, ZERO_SHOT_HEADING, read_section

        for heading in (DRAWN_HEADING, ZERO_SHOT_HEADING):
            print(f"\n{heading}\n\n{read_section(run.evaluation, heading).replace('```', '').strip()}")
        print(f"\nLook at {run.evaluation}/figures/regions.png, the report, and the card {run.dataset}/README.md")
        print("Now with your own images: sae-traits run photographs/ --out runs/mine")
    return code


if __name__ == "__main__":
    sys.exit(main())
