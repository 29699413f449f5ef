"""Commands that say what a run has found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sae_traits.cli.base import DONE, PARTLY_DONE, add_existing_run, command, do_steps, old_run, show
from sae_traits.config.command_line import (
    add_options,
)
from sae_traits.steps import STEPS

if TYPE_CHECKING:
    pass


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
)
def latents(arguments: argparse.Namespace) -> int:
    from sae_traits.runs.context import Context
    from sae_traits.steps.latents import write_latents

    files = write_latents(Context.open(arguments.run, STEPS), arguments.latent, arguments.strongest)
    names = [str(file) for file in files]
    show(names, names, arguments)
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
