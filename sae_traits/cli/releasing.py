"""Commands that bring SAEs and datasets to others, and from others."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sae_traits.cli.base import DONE, PARTLY_DONE, command, old_run, show
from sae_traits.config.command_line import file_name
from sae_traits.errors import ConfigError, ReleaseError
from sae_traits.vocabulary import EXPORT_FORMATS


def _publish_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="RUN|OUT", help="Folder of a finished run, or of a CLIP that `finetune` trained."
    )
    parser.add_argument("--model-repo", required=True, metavar="ID", help="Hub id of the SAE or CLIP, ORG/NAME.")
    parser.add_argument("--dataset-repo", metavar="ID", help="Hub id of the dataset of a run, ORG/NAME.")
    parser.add_argument("--space", metavar="ID", help="Hub id of a static Space for the atlas, ORG/NAME; none without.")
    parser.add_argument("--private", action="store_true", help="Create the repositories as private ones.")
    parser.add_argument(
        "--gated", choices=["auto", "manual"], help="Readers ask for access: granted at once, or by hand."
    )
    parser.add_argument("--tag", metavar="vX.Y.Z", help="Version of all (the next patch version of what changed).")
    parser.add_argument("--collection", metavar="TITLE", help="Collection to put all into; made if there is none.")
    parser.add_argument(
        "--license",
        metavar="LICENCE",
        help="Licence of a CLIP for its card, as the Hub names it; that of an SAE is said by --sae-license of a run.",
    )
    parser.add_argument("--dry-run", action="store_true", help="List what would be uploaded, and upload nothing.")


@command(
    "Publish the SAE, the dataset and the atlas of a run, or a CLIP that was trained, on the Hugging Face Hub.",
    _publish_arguments,
    examples="""\
examples:
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --dry-run
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --space ORG/moth-atlas
  sae-traits publish runs/moths --model-repo ORG/moth-sae --dataset-repo ORG/moth-traits --tag v1.0.0
  sae-traits publish runs/clip --model-repo ORG/moth-clip --license mit""",
)
def publish(arguments: argparse.Namespace) -> int:
    if not (arguments.folder / "config.yaml").is_file():
        return _publish_clip(arguments)
    from sae_traits.release.publication import Terms
    from sae_traits.steps.publish import publish as publish_run

    if arguments.dataset_repo is None:
        raise ConfigError("a run is published with its dataset; say --dataset-repo ORG/NAME")
    if arguments.license is not None:
        raise ConfigError(
            f"--license is that of a CLIP; say the SAE's with `sae-traits annotate {arguments.folder} --sae-license "
            f"{arguments.license}`"
        )
    terms = Terms(
        model_repo=arguments.model_repo,
        dataset_repo=arguments.dataset_repo,
        space_repo=arguments.space,
        private=arguments.private,
        gated=arguments.gated,
        tag=arguments.tag,
        collection=arguments.collection,
    )
    context = old_run(arguments, folder=arguments.folder)
    with nullcontext() if arguments.dry_run else context.writing():  # so that nothing changes what becomes public
        lines = publish_run(context, terms, dry_run=arguments.dry_run)
    show(lines, lines, arguments)
    return DONE


def _publish_clip(arguments: argparse.Namespace) -> int:
    from sae_traits.contrastive.folder import MODEL, RECORD, is_of_training

    folder: Path = arguments.folder
    if not is_of_training(folder):
        raise ReleaseError(
            f"{folder} is neither a run (it has no config.yaml) nor a folder that `sae-traits finetune` wrote (it has "
            f"no {RECORD} and {MODEL}); name one of these"
        )
    for option, value in (("--dataset-repo", arguments.dataset_repo), ("--space", arguments.space)):
        if value is not None:
            raise ConfigError(f"{folder} is a CLIP, which has no dataset and no atlas; leave out {option}")
    from sae_traits.contrastive.publishing import publish_clip
    from sae_traits.release.publication import ModelTerms

    names = ("model_repo", "private", "gated", "tag", "collection")
    terms = ModelTerms(**{name: getattr(arguments, name) for name in names})
    lines = publish_clip(folder, terms, license=arguments.license, dry_run=arguments.dry_run)
    show(lines, lines, arguments)
    return DONE


def _convert_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source", type=file_name, metavar="SRC", help="Folder, file or Hub id of an SAE; its layout is recognised."
    )
    parser.add_argument("destination", type=Path, metavar="DST", help="A new folder.")
    parser.add_argument(
        "--to",
        choices=["sae-traits", "sae_lens"],
        metavar="LAYOUT",
        default="sae-traits",
        help="Layout: sae-traits or sae_lens (sae-traits).",
    )
    parser.add_argument("--subfolder", default="", metavar="FOLDER", help="Folder of the SAE inside SRC.")


@command(
    "Convert an SAE from another library's format, or to it.",
    _convert_arguments,
    examples="""\
examples:
  sae-traits convert sae.pt saes/papers
  sae-traits convert ORG/SAES saes/layer-10 --subfolder layers.10
  sae-traits convert ORG/SAE exported/ --to sae_lens""",
    resumes=False,
)
def convert(arguments: argparse.Namespace) -> int:
    from sae_traits.sae.formats.export import convert as convert_sae

    sae = convert_sae(arguments.source, arguments.destination, to=arguments.to, subfolder=arguments.subfolder)
    config = sae.config
    line = f"{arguments.destination}: {config.architecture}, {config.d_model} wide, {config.n_latents} latents"
    show({"destination": str(arguments.destination), **config.to_dict()}, [line], arguments)
    return DONE


def _export_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "dataset", type=file_name, metavar="DATASET", help="Folder of a run or of a dataset, or Hub id."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="A new folder.")
    parser.add_argument(
        "--to",
        choices=list(EXPORT_FORMATS),
        metavar="FORMAT",
        required=True,
        help="; ".join(f"{name}: {meaning}" for name, meaning in EXPORT_FORMATS.items()) + ".",
    )
    parser.add_argument("--revision", metavar="REVISION", help="Branch, tag or commit on the Hub.")


@command(
    "Write a released dataset in the format of another community.",
    _export_arguments,
    examples="""\
examples:
  sae-traits export runs/moths exported/moths --to darwin-core
  sae-traits export ORG/moth-traits shards/ --to webdataset --revision v1.0.0""",
    resumes=False,
)
def export(arguments: argparse.Namespace) -> int:
    from sae_traits.release.exports import export as export_dataset

    with _reading_dataset_of_run(arguments):
        written = export_dataset(arguments.dataset, arguments.to, arguments.folder, revision=arguments.revision)
    show({"files": [str(file) for file in written.files], "counts": written.counts}, written.lines(), arguments)
    return DONE


@contextmanager
def _reading_dataset_of_run(arguments: argparse.Namespace) -> Iterator[None]:
    """Read what a run made of its dataset; one that is named by itself is what it is."""
    source = Path(arguments.dataset)
    if arguments.revision is not None or not (source / "config.yaml").is_file():
        yield
        return
    context = old_run(arguments, folder=source)
    context.steps.fingerprint("dataset")
    with context.reading("dataset"):
        yield


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
    show(done.to_dict(), done.lines(), arguments)
    return PARTLY_DONE if done.missing else DONE
