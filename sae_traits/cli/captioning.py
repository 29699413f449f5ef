"""Commands that caption whole images, and that find what is written about their species."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_traits.cli.base import DONE, PARTLY_DONE, add_existing_run, command, old_run, show
from sae_traits.config.command_line import add_options
from sae_traits.runs.folder import RunFolder
from sae_traits.steps import ALL_STEPS, check_last_steps, run_steps


def _caption_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    add_existing_run(parser)
    parser.add_argument(
        "--context", type=Path, metavar="FILE", help="Species table that settles terms, as `context` writes it."
    )
    parser.add_argument(
        "--examples", type=Path, metavar="FILE", help="Table with the columns class and examples (of captions)."
    )
    parser.add_argument(
        "--estimate", action="store_true", help="Say how many calls there are and what they cost, and stop."
    )
    of_regions = ("show", "prompt", "images-per-description", "name-species")
    add_options(parser, words, "describer", without=of_regions)


@command(
    "Write one caption per image, and put the captions into the dataset.",
    _caption_arguments,
    examples="""\
examples:
  sae-traits caption runs/moths --describer server --describer-model MODEL --base-url http://localhost:8000/v1
  sae-traits caption runs/moths --context species.csv --examples examples.csv --estimate

Captions that were cut off, are too long, name another species, or whose class has no examples are not released; they
are in RUN/traits/captions_quarantined.csv. The describer is that of the run unless another is named.""",
)
def caption(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.context import Context
    from sae_traits.steps.caption import caption as caption_images
    from sae_traits.steps.caption import estimate_captions

    context = old_run(arguments)
    tables = {"species_table": arguments.context, "examples": arguments.examples}
    if arguments.estimate:
        with context.writing():
            found = estimate_captions(context, **tables)
        show(found.to_dict(), found.lines(), arguments)
        return DONE
    with context.writing():
        shown_in = ["dataset", "cards"] if context.steps.is_current("annotate") else []
        check_last_steps(context, shown_in)  # before every image is asked about
        counts = caption_images(context, **tables)
        # The traits are those of the run's own describer, which this command may not have used.
        run_steps(Context.open(arguments.run, ALL_STEPS), shown_in)
    show({"run": str(arguments.run), **counts}, _lines(context.folder, counts), arguments)
    return PARTLY_DONE if counts["n_open"] else DONE


def _lines(folder: RunFolder, counts: Mapping[str, Any]) -> list[str]:
    lines = [f"captions  {counts['n_captions']:,} in {folder.captions}"]
    if n := counts["n_quarantined"]:
        flags = ", ".join(f"{flag} {n_images:,}" for flag, n_images in counts["flags"].items() if n_images)
        lines.append(f"          {n:,} images have none that is released ({flags}), see {folder.captions_quarantine}")
    if n := counts["n_without_context"]:
        lines.append(f"          the species table has no text on the species of {n:,} images")
    if n := counts["n_open"]:
        lines.append(f"          {n:,} images are asked about by the same command, given again")
    return lines


def _context_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="Dump of a MediaWiki (.xml, .xml.bz2), or table with species and text.",
    )
    parser.add_argument(
        "--species", type=Path, required=True, metavar="RUN|FILE", help="Run, or table with species (and kingdom)."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV file to write.")


@command(
    "Make the species table for captions from a dump of a MediaWiki, or from a table.",
    _context_arguments,
    examples="""\
examples:
  sae-traits context enwiki-pages-articles.xml.bz2 --species runs/moths --out species.csv
  sae-traits context flora.csv --species wanted.csv --out species.csv

Nothing is fetched. Sections that describe form are taken, or the beginning of the page; redirects and disambiguation
pages are followed, and FILE says how each text was found, or why there is none.""",
    resumes=False,
)
def context(arguments: argparse.Namespace) -> int:
    from sae_traits.steps.context import write_species_table

    table = write_species_table(arguments.source, species=arguments.species, out=arguments.out)
    show([dataclasses.asdict(row) for row in table.rows], table.lines(), arguments)
    return DONE
