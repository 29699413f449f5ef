"""The command that needs no run: benchmarks of images with any labels."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from sae_traits.cli.base import DONE, command, show
from sae_traits.config.benchmark import BENCHMARK_TASKS, BenchmarkConfig
from sae_traits.config.command_line import comma_separated, file_name
from sae_traits.config.tree import build, choices_of, flag_of, hints
from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.definition import lines_of, list_benchmarks
from sae_traits.logging import say

_FILES = (
    *("images", "clip", "embeddings", "traits", "taxa", "captions", "against", "attributes", "references"),
    *("other_traits", "regions", "keypoints", "part_masks", "boxes", "out"),
)
_REPEATED = "clip"
_TASKS = "\n".join(f"  {name:12} {asked}" for name, asked in BENCHMARK_TASKS.items())


def _benchmark_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    parser.add_argument("task", nargs="?", choices=list(BENCHMARK_TASKS), metavar="TASK", help="What is asked.")
    parser.add_argument("--list", action="store_true", help="Show the published benchmarks that are known.")
    for field in dataclasses.fields(BenchmarkConfig):
        if field.name == _REPEATED:
            more: dict[str, Any] = {"action": "append", "type": file_name}
        else:
            more = {"choices": choices_of(hints(BenchmarkConfig)[field.name]) or None}
            more |= {"type": file_name} if field.name in _FILES else {}
            more |= {"type": comma_separated} if isinstance(field.default, tuple) else {}
        default = "" if field.default in (None, ()) else f" Default: {_shown(field.default)}."
        parser.add_argument(
            f"--{flag_of(field)}",
            dest=f"--{flag_of(field)}",
            default=argparse.SUPPRESS,
            metavar=field.metadata["metavar"] or ("N" if isinstance(field.default, int) else None),
            help=(field.metadata["help"] + default).replace("%", "%%"),
            **more,
        )


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


@command(
    "Score models on images with any labels; needs no run.",
    _benchmark_arguments,
    examples=f"""\
tasks:
{_TASKS}

examples:
  sae-traits benchmark zero-shot --images photographs/ --clip imageomics/bioclip --clip imageomics/bioclip-2
  sae-traits benchmark zero-shot --images photographs/ --clip imageomics/bioclip --traits ORG/bioscan-traits
  sae-traits benchmark zero-shot --benchmark meta_album_insects --images INS_Mini/ --clip imageomics/bioclip
  sae-traits benchmark few-shot --images labels.csv --embeddings features.npz
  sae-traits benchmark --list""",
)
def benchmark(arguments: argparse.Namespace) -> int:
    if arguments.list:
        benchmarks = list_benchmarks()
        show([dataclasses.asdict(each) for each in benchmarks], lines_of(benchmarks), arguments)
        return DONE
    if arguments.task is None:
        raise ConfigError(f"say which task: {', '.join(BENCHMARK_TASKS)}; sae-traits benchmark --help explains them")
    given = {name[2:].replace("-", "_"): value for name, value in vars(arguments).items() if name.startswith("--")}
    say(f"{arguments.task}: getting ready")  # what it needs takes a while to load
    from sae_traits.steps.benchmark import run_benchmark

    results = run_benchmark(arguments.task, build(BenchmarkConfig, given))
    if arguments.format == "json":
        print(results.to_json(), end="")
    else:
        show(None, results.lines(), arguments)
    return DONE
