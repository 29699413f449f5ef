"""The command line: parse, call one function, print. Exit codes: 0 done, 1 failed, 2 usage, 3 partly done."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits import __version__
from sae_traits.config.command_line import (
    USAGE,
    Parser,
    add_options,
    file_name,
    given_options,
    options_of_file,
    refuse_unknown,
)
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import branches_of, build
from sae_traits.errors import CollectionError, ConfigError, ReleaseError, SaeTraitsError
from sae_traits.logging import printing_to_stderr
from sae_traits.steps import STEPS, run_steps

if TYPE_CHECKING:
    from sae_traits.runs.context import Context

DONE, FAILED, PARTLY_DONE = 0, 1, 3
TWO_CORES = 0.1
"""TFLOP/s that two CPU cores sustain in training and extraction (docs/benchmarks.md); what `run --estimate` assumes."""
Function = Callable[[argparse.Namespace], int]
AddArguments = Callable[[argparse.ArgumentParser, Sequence[str]], None]


@dataclass(frozen=True)
class Command:
    """One command: what it is for, what may be said, and the function that does it."""

    help: str
    add_arguments: AddArguments
    function: Function
    examples: str


COMMANDS: dict[str, Command] = {}


def command(help: str, add_arguments: AddArguments, *, examples: str) -> Callable[[Function], Function]:
    """Register a function as the command of its name."""

    def register(function: Function) -> Function:
        COMMANDS[function.__name__] = Command(help, add_arguments, function, examples)
        return function

    return register


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(words)
    arguments, unknown = parser.parse_known_args(words)
    if arguments.command is None:
        if unknown:
            return refuse_unknown(parser, unknown)
        parser.print_help()
        return USAGE
    if unknown:
        return refuse_unknown(arguments.parser, unknown)
    with printing_to_stderr(), _termination_as_interruption():
        return _run_and_report(arguments)


@contextmanager
def _termination_as_interruption() -> Iterator[None]:
    """Inside the block, SIGTERM does what Ctrl-C does; processes that are forked meanwhile end by it as ever."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    process = os.getpid()

    def interrupt(number: int, _frame: object) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _run_and_report(arguments: argparse.Namespace) -> int:
    """Call the function of a command; every error that has a reason is one line on stderr."""
    name = f"sae-traits {arguments.command}"
    try:
        return COMMANDS[arguments.command].function(arguments)
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return USAGE
    except SaeTraitsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # who reads stdout has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        reason = "the disk is full; free some space, and" if error.errno in (ENOSPC, EDQUOT) else f"{error};"
        print(f"{name}: {reason} the same command goes on where it stopped", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return PARTLY_DONE


def build_parser(words: Sequence[str], *, all_options: bool = False) -> argparse.ArgumentParser:
    """The parser of all commands; options are added to the one that `words` names, or to all of them."""
    parser = Parser(
        prog="sae-traits",
        description="From species-labelled images to a sparse autoencoder, an image-trait dataset and a report.",
        epilog="sae-traits COMMAND --help explains one command with an example. Try `sae-traits demo` first.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sae-traits {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, each in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=each.help,
            description=each.help,
            epilog=each.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        one.set_defaults(parser=one)
        if all_options or name in words:
            one.add_argument("--format", choices=["text", "json"], default="text", help="What stdout carries (text).")
            each.add_arguments(one, words)
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="?",
        type=file_name,
        metavar="SOURCE",
        help="Image folder (Genus_species/…) or table with file and species.",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_SOURCE).")
    _add_config(parser)


def _add_existing_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a run that `extract` or `run` made.")
    _add_config(parser)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="YAML", help="Options from a file, or a recipe by its name.")


def _new_run(arguments: argparse.Namespace, *decided: dict[str, Any]) -> Context:
    """A run with all that the file says, for this step and later ones.

    Args:
        arguments: those of the command.
        decided: what no option can change.
    """
    from sae_traits.runs.context import Context

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
    return Context.create(out, config, STEPS)


def _old_run(arguments: argparse.Namespace, *forgotten: dict[str, Any]) -> Context:
    """An existing run; of the file only what this command is about, since other steps are done already.

    Args:
        arguments: those of the command.
        forgotten: what of the run's own configuration does not hold for this command.
    """
    from sae_traits.runs.context import Context

    sections = getattr(arguments, "sections", ())
    file = {name: values for name, values in options_of_file(arguments.config).items() if name in sections}
    return Context.open(arguments.run, STEPS, *forgotten, file, given_options(arguments))


def _show(values: Any, lines: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print values for scripts (--format json), or lines for people."""
    print(json.dumps(values, indent=2, ensure_ascii=False) if arguments.format == "json" else "\n".join(lines))


def _do(context: Context, arguments: argparse.Namespace, *steps: str) -> int:
    """Do some steps, keep the configuration, and print what the run made; 3 when something is left to do."""
    from sae_traits.runs.summary import Summary

    with context.writing():
        if not steps:
            from sae_traits.steps.check import check

            check(context)
        try:
            run_steps(context, steps or STEPS)
        except (CollectionError, ReleaseError):
            context.check_images_are_there()
            raise
        if context.is_main_process:
            context.save_config()
    summary = Summary.of(context)
    if context.is_main_process:
        _show(summary.to_dict(), summary.lines(), arguments)
    return PARTLY_DONE if summary.is_unfinished else DONE


def _run_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    _add_source(parser)
    parser.add_argument(
        "--estimate", action="store_true", help="Read the collection, say what the rest takes, and stop."
    )
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
    context = _new_run(arguments)
    if not arguments.estimate:
        return _do(context, arguments)
    from sae_traits.steps.estimate import estimate_run

    return _estimated(context, arguments, partial(estimate_run, teraflops=speed or TWO_CORES), "collect")


def _estimated(context: Context, arguments: argparse.Namespace, estimate: Callable[[Context], Any], *steps: str) -> int:
    """Do the steps that an estimate needs, and print it."""
    with context.writing():
        run_steps(context, steps)
        found = estimate(context)
    _show(found.to_dict(), found.lines(), arguments)
    return DONE


def _extract_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    _add_source(parser)
    parser.add_argument("--estimate", action="store_true", help="Say how many bytes it would write, and stop.")
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
    context = _new_run(arguments)
    if not arguments.estimate:
        return _do(context, arguments, "collect", "extract")
    from sae_traits.steps.estimate import estimate_kept_features

    return _estimated(context, arguments, estimate_kept_features, "collect")


def _train_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    _add_existing_run(parser)
    add_options(parser, words, "train")


@command(
    "Train an SAE on the features of a run, or adopt one (--sae).",
    _train_arguments,
    examples="""\
examples:
  sae-traits train runs/moths --architecture topk --k 32 --n-latents 6144
  sae-traits train runs/moths --sweep "k=8,16,32 seed=0,1"
  accelerate launch scripts/train_sae.py runs/moths --n-patches 100000000""",
)
def train(arguments: argparse.Namespace) -> int:
    given = given_options(arguments).get("train", {})
    # A sweep or an SAE of an earlier command must not override what this one says.
    forgotten = [{"train": {"kind": "new", "sweep": None}}] if given and "sae" not in given else []
    return _do(_old_run(arguments, *forgotten), arguments, "train")


def _annotate_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    _add_existing_run(parser)
    parser.add_argument("--estimate", action="store_true", help="Say what the calls would cost, and ask nothing.")
    add_options(parser, words, "regions", "describer", "release")


@command(
    "Choose latents, describe their regions, write the dataset.",
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
    context = _old_run(arguments, *forgotten)
    if not arguments.estimate:
        return _do(context, arguments, "encode", "annotate", "dataset", "cards")
    from sae_traits.steps.estimate import estimate_descriptions

    return _estimated(context, arguments, estimate_descriptions, "encode")


PREDICTED = {"train": "adopted", "regions": "sae", "contrast": "released"}
"""The SAE says which features, the dataset which latents."""


def _predict_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source", type=file_name, metavar="PHOTOGRAPHS", help="Folder of images, flat or nested, or table with file."
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="Folder of the run (runs/NAME_OF_PHOTOGRAPHS).")
    _add_config(parser)
    sections = ("features", "train", "regions", "describer", "release")
    decided = ("backbone", "backbone-revision", "layer", "framing", "compute-dtype")
    labels = ("name-species", "images-per-description", "label-free")
    add_options(parser, words, *sections, pinned=PREDICTED, without=(*decided, *labels))


@command(
    "Describe new photographs without labels, with the latents of a dataset.",
    _predict_arguments,
    examples="""\
examples:
  sae-traits predict photographs/ --latents ORG/TRAITS --out runs/new
  sae-traits predict photographs/ --latents runs/moths/dataset --sae runs/moths/sae --out runs/new

The SAE is the one that the dataset names, at the same commit, unless --sae says where a copy of it is. It says itself
which backbone and preprocessing it needs. RUN is a run like any other: `annotate RUN` describes it anew.""",
)
def predict(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.predict import pinned

    unlabelled = {"collection": {"source": arguments.source, "labels": False}}
    pins = pinned(build(RunConfig, options_of_file(arguments.config), given_options(arguments), unlabelled))
    return _do(_new_run(arguments, unlabelled, pins), arguments)


def _latents_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    parser.add_argument("latent", type=int, nargs="*", metavar="LATENT", help="Which (those of large effect).")
    parser.add_argument("--strongest", type=int, default=12, metavar="N", help="Images per latent (12).")


@command(
    "Show what latents stand for: statistics, strongest images.",
    _latents_arguments,
    examples="example:\n  sae-traits latents runs/moths 17 230 --strongest 24",
)
def latents(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.context import Context
    from sae_traits.steps.latents import write_latents

    files = write_latents(Context.open(arguments.run, STEPS), arguments.latent, arguments.strongest)
    names = [str(file) for file in files]
    _show(names, names, arguments)
    return DONE


def _faithfulness_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    _add_existing_run(parser)
    parser.add_argument("--n", type=int, default=100, metavar="N", help="Traits in the sample (100).")
    parser.add_argument("--sample-seed", type=int, default=0, metavar="SEED", help="Seed of the sample (0).")
    add_options(parser, words, "describer")


@command(
    "Ask about a sample of traits again, with the wrong region: who looks notices.",
    _faithfulness_arguments,
    examples="""\
examples:
  sae-traits faithfulness runs/moths
  sae-traits faithfulness runs/moths --n 300 --base-url http://localhost:8000/v1 --in-flight 32""",
)
def faithfulness(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.faithfulness import faithfulness as measure

    context = _old_run(arguments)
    with context.writing():
        scores = measure(context, n_traits=arguments.n, seed=arguments.sample_seed)
    kept = f"\nkept in {context.folder.faithfulness}; sae-traits evaluate {arguments.run} puts them into the report"
    _show(scores.to_dict(), [*scores.lines(), kept], arguments)
    return PARTLY_DONE if scores.n_open else DONE


def _evaluate_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    _add_existing_run(parser)
    add_options(parser, words, "zero_shot")


@command(
    "Score the regions, and ask a CLIP model whether traits help.",
    _evaluate_arguments,
    examples="""\
examples:
  sae-traits evaluate runs/moths --clip imageomics/bioclip
  sae-traits evaluate runs/moths --clip bioclip-2/ --text-type taxon --templates openai""",
)
def evaluate(arguments: argparse.Namespace) -> int:
    return _do(_old_run(arguments), arguments, "evaluate", "dataset", "cards")


def _publish_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of a finished run.")
    parser.add_argument("--model-repo", required=True, metavar="ID", help="Hub id of the SAE, ORG/NAME.")
    parser.add_argument("--dataset-repo", required=True, metavar="ID", help="Hub id of the dataset, ORG/NAME.")
    parser.add_argument("--private", action="store_true", help="Create the repositories as private ones.")
    parser.add_argument(
        "--gated", choices=["auto", "manual"], help="Readers ask for access: granted at once, or by hand."
    )
    parser.add_argument("--tag", metavar="vX.Y.Z", help="Version of both (the next patch version of what changed).")
    parser.add_argument("--collection", metavar="TITLE", help="Collection to put both into; made if there is none.")
    parser.add_argument("--dry-run", action="store_true", help="List what would be uploaded, and upload nothing.")


@command(
    "Publish the SAE and the dataset of a run on the Hugging Face Hub.",
    _publish_arguments,
    examples="""\
examples:
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --dry-run
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --private
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --tag v1.0.0""",
)
def publish(arguments: argparse.Namespace) -> int:
    from sae_traits.release.publication import Terms
    from sae_traits.runs.context import Context
    from sae_traits.steps.publish import publish as publish_run

    terms = Terms(
        model_repo=arguments.model_repo,
        dataset_repo=arguments.dataset_repo,
        private=arguments.private,
        gated=arguments.gated,
        tag=arguments.tag,
        collection=arguments.collection,
    )
    lines = publish_run(Context.open(arguments.run, STEPS), terms, dry_run=arguments.dry_run)
    _show(lines, lines, arguments)
    return DONE


def _convert_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source", type=file_name, metavar="SRC", help="Folder, file or Hub id of an SAE; its layout is recognised."
    )
    parser.add_argument("destination", type=Path, metavar="DST", help="A new folder.")
    parser.add_argument("--to", choices=["sae-traits", "sae_lens"], default="sae-traits", help="Layout (sae-traits).")
    parser.add_argument("--subfolder", default="", metavar="FOLDER", help="Folder of the SAE inside SRC.")


@command(
    "Bring an SAE of another library into this layout, or out of it.",
    _convert_arguments,
    examples="""\
examples:
  sae-traits convert sae.pt saes/papers
  sae-traits convert ORG/SAES saes/layer-10 --subfolder layers.10
  sae-traits convert ORG/SAE exported/ --to sae_lens""",
)
def convert(arguments: argparse.Namespace) -> int:
    from sae_traits.sae.formats.export import convert as convert_sae

    sae = convert_sae(arguments.source, arguments.destination, to=arguments.to, subfolder=arguments.subfolder)
    config = sae.config
    line = f"{arguments.destination}: {config.architecture}, {config.d_model} wide, {config.n_latents} latents"
    _show({"destination": str(arguments.destination), **config.to_dict()}, [line], arguments)
    return DONE


def _export_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "dataset", type=file_name, metavar="DATASET", help="Folder of a run or of a dataset, or Hub id."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="A new folder.")
    parser.add_argument(
        "--to",
        choices=["darwin-core", "matrix", "coco", "webdataset"],
        required=True,
        help="darwin-core: archive of occurrences with measurements, for GBIF; matrix: species x traits, CSV and "
        "Parquet; coco: regions as COCO JSON with the images; webdataset: shards of image and sentence.",
    )
    parser.add_argument("--revision", metavar="REVISION", help="Branch, tag or commit on the Hub.")


@command(
    "Write a released dataset in the format of another community.",
    _export_arguments,
    examples="""\
examples:
  sae-traits export runs/moths exported/moths --to darwin-core
  sae-traits export ORG/moth-traits shards/ --to webdataset --revision v1.0.0""",
)
def export(arguments: argparse.Namespace) -> int:
    from sae_traits.release.exports import export as export_dataset

    written = export_dataset(arguments.dataset, arguments.to, arguments.folder, revision=arguments.revision)
    _show({"files": [str(file) for file in written.files], "counts": written.counts}, written.lines(), arguments)
    return DONE


def _rehydrate_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "dataset", type=file_name, metavar="DATASET", help="Folder or Hub id of a release by reference."
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="Folder for the dataset with its images.")
    parser.add_argument("--revision", metavar="REVISION", help="Branch, tag or commit of the dataset on the Hub.")
    parser.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help="The original files, in any order; nothing is fetched."
    )
    parser.add_argument("--connections", type=int, default=8, metavar="N", help="Images fetched at a time (8).")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="Threads that encode images (2).")
    parser.add_argument(
        "--allow-private-addresses", action="store_true", help="Fetch also from this machine and from private networks."
    )


@command(
    "Put the images into a dataset that was released without them.",
    _rehydrate_arguments,
    examples="""\
examples:
  sae-traits rehydrate ORG/moth-traits moths/ --revision v1.0.0
  sae-traits rehydrate ORG/moth-traits moths/ --photographs originals/

What cannot be fetched, or is no longer the same image, is left out with its rows and listed in OUT.missing.csv.""",
)
def rehydrate(arguments: argparse.Namespace) -> int:
    from sae_traits.release.loading import dataset_folder
    from sae_traits.release.rehydrate import rehydrate as rehydrate_dataset

    done = rehydrate_dataset(
        dataset_folder(arguments.dataset, arguments.revision),
        arguments.folder,
        photographs=arguments.photographs,
        connections=arguments.connections,
        workers=arguments.workers,
        allow_private_addresses=arguments.allow_private_addresses,
    )
    _show(done.to_dict(), done.lines(), arguments)
    return PARTLY_DONE if done.missing else DONE


def _completion_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="Which shell.")


@command(
    "Print what makes a shell complete commands and options.",
    _completion_arguments,
    examples='example:\n  eval "$(sae-traits completion bash)"',
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
    _show(script, [script], arguments)
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
    from sae_traits.testbench.truth import DrawnTruth

    options = prepare_demo(arguments.out)
    config = build(RunConfig, read_config(recipe_file(RECIPE)), options)
    context = Context.create(arguments.out, config, STEPS, extra_tasks=(DrawnTruth(),))
    code = _do(context, arguments)
    if arguments.format == "text":
        folder = context.folder
        print(f"\nLook at {folder.evaluation}/figures/regions.png, the report, and the card {folder.dataset}/README.md")
        print("Now with your own images: sae-traits run photographs/ --out runs/mine")
    return code


if __name__ == "__main__":
    sys.exit(main())
