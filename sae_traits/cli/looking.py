"""Commands that say what a run has found."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from sae_traits.cli.base import DONE, PARTLY_DONE, add_config, add_existing_run, command, do_steps, old_run, show
from sae_traits.config.command_line import add_options, file_name, given_options
from sae_traits.errors import ConfigError
from sae_traits.steps import check_last_steps, run_steps


def _latents_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    parser.add_argument(
        "latent", type=int, nargs="*", metavar="LATENT", help="Their numbers; by default those of the largest effect."
    )
    parser.add_argument("--strongest", type=int, default=12, metavar="N", help="Images per latent (12).")


@command(
    "Show what latents stand for: statistics and strongest images.",
    _latents_arguments,
    examples="example:\n  sae-traits latents runs/moths 17 230 --strongest 24",
    resumes=False,
)
def latents(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.latents import write_latents

    if arguments.strongest < 1:
        raise ConfigError(f"--strongest is 1 or more, not {arguments.strongest}")
    files = write_latents(old_run(arguments), arguments.latent, arguments.strongest)
    names = [str(file) for file in files]
    show(names, names, arguments)
    return DONE


def _compare_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    parser.add_argument("first", metavar="SPECIES", help="Its name, or a part of it that no other species has.")
    parser.add_argument("second", metavar="OTHER_SPECIES", help="The same of the one to compare it with.")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="Where to draw a region of each latent.")


@command(
    "Compare two species: what each has and the other lacks.",
    _compare_arguments,
    examples="""\
examples:
  sae-traits compare runs/moths "Vanessa atalanta" "Vanessa cardui"
  sae-traits compare runs/moths atalanta cardui --picture atalanta-cardui.png""",
    resumes=False,
)
def compare(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.compare import compare as compare_species
    from sae_traits.steps.compare import draw_compared

    context = old_run(arguments)
    compared = compare_species(context, arguments.first, arguments.second)
    lines = compared.lines()
    if arguments.picture is not None:
        draw_compared(context, compared, arguments.picture)
        lines += ["", f"drawn in {arguments.picture}"]
    show(dataclasses.asdict(compared), lines, arguments)
    return DONE


def _atlas_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source", type=file_name, metavar="RUN|DATASET", help="Folder of a finished run or of a dataset, or Hub id."
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="Folder of the site (RUN/atlas).")
    parser.add_argument("--revision", metavar="REVISION", help="Branch, tag or commit on the Hub.")


@command(
    "Make a static site of a release: photographs with their regions, species side by side, latents, search.",
    _atlas_arguments,
    examples="""\
examples:
  sae-traits atlas runs/moths
  sae-traits atlas hf://datasets/ORG/moth-traits --out moth-atlas --revision v1.0.0

Open DIR/index.html by double click, or put the folder on any web server.""",
    resumes=False,
)
def atlas(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.folder import RunFolder
    from sae_traits.steps.atlas import write_atlas_of_dataset, write_atlas_of_run

    source, out = Path(arguments.source), arguments.out
    if (source / "config.yaml").is_file() and arguments.revision is None:
        built = write_atlas_of_run(old_run(arguments, folder=source), out or RunFolder(source).atlas)
    elif out is None:
        raise ConfigError(
            f"{arguments.source} is no run (it has no config.yaml); of a dataset say where its site goes: --out DIR"
        )
    else:
        built = write_atlas_of_dataset(arguments.source, out, revision=arguments.revision)
    show({**dataclasses.asdict(built), "folder": str(built.folder)}, built.lines(), arguments)
    return DONE


def _name_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    parser.add_argument(
        "names",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="What an atlas exported, or a table (CSV) with the columns latent and name.",
    )
    parser.add_argument(
        "--suggest", action="store_true", help="Ask the describer what latents without a name stand for; name nothing."
    )
    parser.add_argument("--n", type=int, metavar="N", help="With --suggest: latents to ask about (100).")
    add_config(parser)
    add_options(parser, words, "describer")


@command(
    "Name latents: every region of a named latent gets the name as its part.",
    _name_arguments,
    examples="""\
examples:
  sae-traits name runs/moths names.json
  sae-traits name runs/moths names.csv
  sae-traits name runs/moths --suggest --n 50 --base-url http://localhost:8000/v1

Names are kept in RUN/names.json, for later releases of the same SAE; those of another SAE are refused. A name that is
empty takes one back. Parts that the describer said stay as they are. With --suggest the describer proposes names, one
call per latent, which the atlas shows as suggestions until somebody accepts them.""",
)
def name(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.name import name_latents, suggest_latent_names

    if (arguments.names is None) != arguments.suggest:
        raise ConfigError("name needs a file of names, or --suggest")
    if not arguments.suggest and (given_options(arguments) or arguments.config or arguments.n is not None):
        raise ConfigError("options of the describer, and --n, go with --suggest; a file of names asks nobody")
    context = old_run(arguments)
    with context.writing():
        context.steps.fingerprint("annotate")
        if arguments.suggest:
            suggested = suggest_latent_names(context, n_latents=100 if arguments.n is None else arguments.n)
            show({**dataclasses.asdict(suggested), "file": str(suggested.file)}, suggested.lines(), arguments)
            return PARTLY_DONE if suggested.suggestions.n_open else DONE
        check_last_steps(context, ["dataset", "cards"])
        named = name_latents(context, arguments.names)
        run_steps(context, ["dataset", "cards"])
    show({**dataclasses.asdict(named), "file": str(named.file)}, named.lines(), arguments)
    return DONE


def _review_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("action", choices=["sheet", "import"], help="sheet: draw a new sheet; import: read answers.")
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="With import: what raters exported, or filled-in sheet.csv."
    )
    parser.add_argument("--n", type=int, metavar="N", help="With sheet: traits on it, besides controls (40).")
    parser.add_argument("--sample-seed", type=int, metavar="SEED", help="With sheet: seed of the draw (0).")
    parser.add_argument(
        "--beside",
        type=Path,
        action="append",
        metavar="RUN",
        help="With sheet: another run on the same images, such as one with --regions whole; again for more.",
    )
    parser.add_argument(
        "--half-width",
        type=float,
        metavar="POINTS",
        help="With import: of the interval of the mean score that is wanted (0.25).",
    )


@command(
    "Have people review traits: blind sheets for the atlas, and what raters answered.",
    _review_arguments,
    examples="""\
examples:
  sae-traits review sheet runs/moths --n 60 --beside runs/moths-whole
  sae-traits atlas runs/moths
  sae-traits review import runs/moths anna.json ben.json sheet-carla.csv

Raters get the folder RUN/atlas/review alone: the other pages of the atlas show which sentences are the real ones.
What each item is stays in RUN/review. After an import the dataset says in the column `reviewed` what was said of a
trait.""",
)
def review(arguments: argparse.Namespace) -> int:
    given = {name for name in ("n", "sample_seed", "beside", "half_width") if getattr(arguments, name) is not None}
    of_action = {"half_width"} if arguments.action == "import" else {"n", "sample_seed", "beside"}
    if others := sorted(given - of_action):
        raise ConfigError(f"review {arguments.action} has no --{others[0].replace('_', '-')}")
    if bool(arguments.files) != (arguments.action == "import"):
        raise ConfigError("review import needs the files of raters, and review sheet takes none")
    if arguments.half_width is not None and not arguments.half_width > 0:
        raise ConfigError(f"--half-width is more than 0, not {arguments.half_width}")
    if arguments.n is not None and arguments.n < 1:
        raise ConfigError(f"--n is 1 or more, not {arguments.n}")
    if (arguments.sample_seed or 0) < 0:
        raise ConfigError(f"--sample-seed is 0 or more, not {arguments.sample_seed}")
    from sae_traits.steps.review import import_reviews, make_review_sheet

    context = old_run(arguments)
    with context.writing():
        context.steps.fingerprint("annotate")
        if arguments.action == "sheet":
            others = [old_run(arguments, folder=run) for run in arguments.beside or ()]
            n, seed = (40 if arguments.n is None else arguments.n), arguments.sample_seed or 0
            sheet = make_review_sheet(context, others, n_traits=n, seed=seed)
            show({**dataclasses.asdict(sheet), "file": str(sheet.file)}, sheet.lines(), arguments)
            return DONE
        check_last_steps(context, ["dataset", "cards"])
        scores = import_reviews(context, arguments.files, half_width=arguments.half_width or 0.25)
        run_steps(context, ["dataset", "cards"])
    show(dataclasses.asdict(scores), scores.lines(), arguments)
    return DONE


def _faithfulness_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)
    parser.add_argument("--n", type=int, default=100, metavar="N", help="Traits in the sample (100).")
    parser.add_argument("--sample-seed", type=int, default=0, metavar="SEED", help="Seed of the sample (0).")
    add_options(parser, words, "describer")


@command(
    "Test whether the describer looks at the region, by showing it a wrong one.",
    _faithfulness_arguments,
    examples="""\
examples:
  sae-traits faithfulness runs/moths
  sae-traits faithfulness runs/moths --n 300 --base-url http://localhost:8000/v1 --in-flight 32""",
)
def faithfulness(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.faithfulness import faithfulness as measure

    context = old_run(arguments)
    with context.writing():
        scores = measure(context, n_traits=arguments.n, seed=arguments.sample_seed)
    kept = f"\nkept in {context.folder.faithfulness}; sae-traits evaluate {arguments.run} puts them into the report"
    show(scores.to_dict(), [*scores.lines(), kept], arguments)
    return PARTLY_DONE if scores.n_open else DONE


def add_part_files(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the parts of the organisms are."""
    parser.add_argument(
        "--keypoints", type=Path, metavar="FILE", help="Table with image, part, x, y (and visible), or COCO keypoints."
    )
    parser.add_argument(
        "--part-masks", type=Path, metavar="DIR", help="Masks as DIR/IMAGE/PART.png or DIR/PART/IMAGE.png."
    )
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE", help="Table with image, x, y, width, height, or COCO annotations."
    )


def given_part_files(arguments: argparse.Namespace) -> dict[str, Path]:
    """The files that these options name, by option."""
    files = {name: getattr(arguments, name) for name in ("keypoints", "part_masks", "boxes")}
    return {name: path for name, path in files.items() if path is not None}


def _parts_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="Folder of an annotated run.")
    add_part_files(parser)
    parser.add_argument(
        "--baselines",
        nargs="*",
        choices=["random", "k_means", "pca", "nmf"],
        default=["random", "k_means"],
        help="Dictionaries to compare with; fitted where they are not there. Default: random k_means.",
    )


@command(
    "Measure whether regions lie on parts of the organism, beside random directions and k-means.",
    _parts_arguments,
    examples="""\
examples:
  sae-traits parts runs/moths --keypoints landmarks.csv
  sae-traits parts runs/moths --part-masks masks/ --boxes boxes.csv --baselines random k_means pca
  sae-traits parts runs/moths

Masks and boxes of the collection's own table are used, too. Without any truth it says how well a latent's place
repeats in held-out images.""",
)
def parts(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.parts import write_parts

    context = old_run(arguments)
    with context.writing():
        evidence = write_parts(context, given_part_files(arguments), baselines=arguments.baselines)
    kept = f"\nkept in {context.folder.parts}; sae-traits evaluate {arguments.run} puts it into the report"
    show(dataclasses.asdict(evidence), [*evidence.lines(), kept], arguments)
    return DONE


def _evaluate_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)
    add_options(parser, words, "zero_shot")


@command(
    "Score the regions, and test whether traits help a CLIP model.",
    _evaluate_arguments,
    examples="""\
examples:
  sae-traits evaluate runs/moths --clip imageomics/bioclip
  sae-traits evaluate runs/moths --clip bioclip-2/ --text-type taxon --templates openai""",
)
def evaluate(arguments: argparse.Namespace) -> int:
    return do_steps(old_run(arguments), arguments, "evaluate", "dataset", "cards")
