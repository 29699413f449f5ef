"""Commands that make a run, or a step of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sae_traits.cli.base import (
    add_config,
    add_existing_run,
    add_part,
    add_source,
    command,
    do_part,
    do_steps,
    estimated,
    new_run,
    old_run,
    wanted_run,
)
from sae_traits.config.command_line import add_options, file_name, given_options, options_of_file
from sae_traits.config.run import RunConfig
from sae_traits.config.train import AdoptedSAE
from sae_traits.config.tree import UNSET, branches_of, build, leaves_of
from sae_traits.errors import ConfigError

TWO_CORES = 0.1
"""TFLOP/s that two CPU cores sustain in training and extraction (docs/benchmarks.md); what `run --estimate` assumes."""


def _run_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_source(parser)
    parser.add_argument("--estimate", action="store_true", help="Read the images, say what the run takes, and stop.")
    parser.add_argument(
        "--teraflops", type=float, metavar="N", help=f"For the estimate: speed in TFLOP/s ({TWO_CORES})."
    )
    add_options(parser, words, *branches_of(RunConfig))


@command(
    "Everything: features, SAE, traits, report and dataset.",
    _run_arguments,
    examples="""\
examples:
  sae-traits run photographs/ --out runs/moths
  sae-traits run metadata.csv --out runs/moths --backbone texture
  sae-traits run photographs/ --out runs/moths --sae ORG/SAE
  sae-traits run --config run.yaml --out runs/moths
  sae-traits run bioscan5m/ --config bioscan-traits.yaml --estimate --teraflops 100""",
)
def run(arguments: argparse.Namespace) -> int:
    speed = arguments.teraflops
    if speed is not None and (speed <= 0 or not arguments.estimate):
        raise ConfigError("--teraflops is a positive speed, for --estimate; leave it out, or give both")
    context = new_run(arguments)
    if not arguments.estimate:
        return do_steps(context, arguments)
    from sae_traits.steps.estimate import estimate_run

    return estimated(context, arguments, partial(estimate_run, teraflops=speed or TWO_CORES), "collect")


def _collect_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_source(parser)
    add_options(parser, words, *branches_of(RunConfig))


@command(
    "Read the images and their labels, before steps in shards or several processes.",
    _collect_arguments,
    examples="""\
examples:
  sae-traits collect photographs/ --out runs/moths --backbone facebook/dinov2-base
  sae-traits extract runs/moths --shard 3/8""",
)
def collect(arguments: argparse.Namespace) -> int:
    return do_steps(new_run(arguments), arguments, "collect")


def _extract_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_source(parser)
    add_part(parser)
    parser.add_argument("--estimate", action="store_true", help="Say how many bytes the features take, and stop.")
    add_options(parser, words, "collection", "features")


@command(
    "Read a collection and extract patch features.",
    _extract_arguments,
    examples="""\
examples:
  sae-traits extract photographs/ --out runs/moths --backbone facebook/dinov2-base
  sae-traits extract photographs/ --out runs/moths --estimate""",
)
def extract(arguments: argparse.Namespace) -> int:
    if arguments.prepare or arguments.shard:
        if arguments.source is None:
            raise ConfigError("say of which run: sae-traits extract RUN --shard I/N, after `sae-traits collect`")
        return do_part(Path(arguments.source), "extract", arguments)
    if not arguments.estimate:
        return do_steps(new_run(arguments), arguments, "collect", "extract")
    _, config = wanted_run(arguments)
    if config.features.stream:
        raise ConfigError(
            "with --stream no features are written, so there is nothing to estimate; leave out one of them"
        )
    from sae_traits.steps.estimate import estimate_features

    return estimated(new_run(arguments), arguments, estimate_features, "collect")


def _train_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)
    add_options(parser, words, "train")


@command(
    "Train an SAE on the features of a run, or adopt one (--sae).",
    _train_arguments,
    examples="""\
examples:
  sae-traits train runs/moths --architecture topk --k 32 --n-latents 6144
  sae-traits train runs/moths --sweep "k=8,16,32 seed=0,1"
  accelerate launch -m sae_traits train runs/moths --n-patches 100000000""",
)
def train(arguments: argparse.Namespace) -> int:
    given = given_options(arguments).get("train", {})
    # A sweep or an SAE of an earlier command must not override what this one says, nor the place of another SAE.
    forgotten = []
    if given.get("sae") not in (None, UNSET):
        forgotten = [{"train": {"kind": "adopted", "revision": None, "subfolder": ""}}]
    elif not set(given) <= set(leaves_of(AdoptedSAE)):
        forgotten = [{"train": {"kind": "new", "sweep": None}}]
    return do_steps(old_run(arguments, *forgotten), arguments, "train")


def _encode_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)
    add_part(parser)
    add_options(parser, words, "regions")


@command(
    "Find where the latents of a run's SAE fire in each image.",
    _encode_arguments,
    examples="""\
examples:
  sae-traits encode runs/moths
  sae-traits encode runs/moths --prepare
  sae-traits encode runs/moths --shard 3/8""",
)
def encode(arguments: argparse.Namespace) -> int:
    if arguments.prepare or arguments.shard:
        return do_part(arguments.run, "encode", arguments)
    return do_steps(old_run(arguments), arguments, "encode")


def _annotate_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)
    add_part(parser)
    parser.add_argument(
        "--estimate", action="store_true", help="Say how many calls there are and what they cost, and stop."
    )
    add_options(parser, words, "regions", "describer", "release")


@command(
    "Choose and describe the traits of each image, and write the dataset.",
    _annotate_arguments,
    examples="""\
examples:
  sae-traits annotate runs/moths --describer measured --traits-per-image 3
  sae-traits annotate runs/moths --describer server --describer-model MODEL --base-url http://localhost:8000/v1
  sae-traits annotate runs/moths --regions pca""",
)
def annotate(arguments: argparse.Namespace) -> int:
    regions = given_options(arguments).get("regions")
    contrast = regions.get("contrast") if isinstance(regions, dict) else None
    # A commit of an earlier dataset is none of this one.
    is_other = isinstance(contrast, dict) and "latents" in contrast
    forgotten = [{"regions": {"contrast": {"kind": "released", "revision": None}}}] if is_other else []
    if arguments.prepare or arguments.shard:
        return do_part(arguments.run, "annotate", arguments, *forgotten)
    context = old_run(arguments, *forgotten)
    if not arguments.estimate:
        return do_steps(context, arguments, "encode", "annotate", "dataset", "cards")
    from sae_traits.steps.estimate import estimate_descriptions

    return estimated(context, arguments, estimate_descriptions, "encode")


PREDICTED = {"train": "adopted", "regions": "sae", "contrast": "released"}
"""The SAE says which features, the dataset which latents."""


def _predict_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source", type=file_name, metavar="PHOTOGRAPHS", help="Folder of images, or table with a column file."
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_PHOTOGRAPHS).")
    parser.add_argument(
        "--backbone",
        dest="--backbone",  # as other options, which `given_options` reads
        default=argparse.SUPPRESS,
        type=file_name,
        metavar="FOLDER",
        help="Where the weights of the SAE's vision model lie, if not where the SAE says; others are refused.",
    )
    add_config(parser)
    sections = ("features", "train", "regions", "describer", "release")
    decided = ("backbone", "backbone-revision", "layer", "second-layer", "image-size", "framing", "compute-dtype")
    labels = ("name-species", "images-per-description", "label-free")
    add_options(parser, words, *sections, pinned=PREDICTED, without=(*decided, *labels))


@command(
    "Describe new photographs without labels, with the latents of a dataset.",
    _predict_arguments,
    examples="""\
examples:
  sae-traits predict photographs/ --latents ORG/TRAITS --out runs/new
  sae-traits predict photographs/ --latents runs/moths/dataset --out runs/new
  sae-traits predict photographs/ --latents ORG/TRAITS --backbone models/vit --out runs/new

The SAE is the one that the dataset names, at the same commit, or that lies beside the dataset in its run, unless --sae
says where a copy of it is. It says itself which backbone and preprocessing it needs. RUN is a run like any other:
`annotate RUN` describes it anew.""",
)
def predict(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.predict import pinned_options

    unlabelled = {"collection": {"source": arguments.source, "labels": False}}
    config = build(RunConfig, options_of_file(arguments.config), given_options(arguments), unlabelled)
    return do_steps(new_run(arguments, unlabelled, pinned_options(config)), arguments)
