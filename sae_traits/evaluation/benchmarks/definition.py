"""Published benchmarks: what they consist of, how they are scored, and what others have scored, one YAML file each.

The images are the user's; nothing is fetched from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from sae_traits.config.benchmark import BenchmarkTaskName, TemplateSet, TextType
from sae_traits.errors import ConfigError

FOLDER = Path(__file__).parent / "published"


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """What somebody reported of a model."""

    model: str
    """As the source calls it."""
    hub: str | None = None
    """Hub id of the checkpoint; None where the source does not say which one it was."""
    version: str | None = None
    """What is known of the checkpoint, or of the protocol that this figure is of."""
    score: float
    """In per cent."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A published benchmark."""

    name: str
    """For --benchmark: the name of its file."""
    title: str
    task: BenchmarkTaskName
    layout: str
    """How the images come."""
    n_images: int | None
    """None where no source says."""
    n_classes: int | None
    split: str
    """Which images are scored, in words."""
    text_type: TextType | None = None
    templates: TemplateSet | None = None
    shots: tuple[int, ...] = ()
    metric: str
    protocol: str
    """How it was scored, in words, and what we do otherwise."""
    fault: str | None = None
    """Of the released code, in which the published scores depart from the metric; --protocol published repeats it."""
    licence: str
    """Of the images, or where it is stated."""
    published: tuple[PublishedScore, ...]

    def score_of(self, hub_id: str) -> PublishedScore | None:
        """The first published score of a checkpoint on the Hub."""
        return next((score for score in self.published if score.hub == hub_id), None)

    def check_counts(self, n_images: int, n_classes: int) -> list[str]:
        """Say in what the images at hand are not those of the benchmark."""
        counted = ((self.n_images, n_images, "images"), (self.n_classes, n_classes, "classes"))
        return [
            f"{self.title} has {expected:,} {what}, these are {found:,}; the published scores are of another set"
            for expected, found, what in counted
            if expected is not None and expected != found
        ]


def benchmark_names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def read_benchmark(name: str) -> Benchmark:
    """Read the definition of a published benchmark.

    Raises:
        ConfigError: there is none of that name.
    """
    import yaml
    from pydantic import TypeAdapter

    names = benchmark_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"--benchmark: there is no {name!r}; {hint}; see sae-traits benchmark --list")
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(Benchmark).validate_python(values | {"name": name})


def list_benchmarks() -> list[Benchmark]:
    """Read all definitions, in the order of their names."""
    return [read_benchmark(name) for name in benchmark_names()]


def lines_of(benchmarks: Sequence[Benchmark]) -> list[str]:
    """Show benchmarks in lines for a terminal."""
    lines: list[str] = []
    for each in benchmarks:
        size = f"{_count(each.n_images)} images, {_count(each.n_classes)} classes"
        lines += [f"{each.name}: {each.title}", f"  {each.task}, {size}; {each.metric}"]
        lines += [f"  licence: {each.licence}"]
        best = sorted(each.published, key=lambda score: -score.score)
        scores = ", ".join(f"{score.model} {score.score:g}" for score in best)
        lines += [f"  published: {scores or 'nothing that we know of'}", ""]
    return [*lines, "sae-traits benchmark TASK --benchmark NAME --images DIR --clip ID compares with them."]


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
