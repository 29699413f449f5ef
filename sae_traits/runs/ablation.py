"""An ablation: runs that differ in some options, each in a folder of its own, and their figures side by side."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from sae_traits.config import RunConfig
from sae_traits.config.layers import check_sections, read_yaml
from sae_traits.config.tree import build, nest, public_name
from sae_traits.errors import ConfigError
from sae_traits.evaluation.part_evidence import MEASURES
from sae_traits.evaluation.results import Results
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY
from sae_traits.io import json_text, link_or_copy, write_text
from sae_traits.rendering import MISSING, render
from sae_traits.runs.context import Context

RESULTS_FILE, REPORT_FILE = "results.json", "report.md"
SCHEMA_VERSION = 1
PARTS = ("inside", "pointing", "purity", "held_out_part", "location", "repeats")
"""Measures of part evidence that the table shows, where they could be taken."""

Value = Interval | float
Figures = dict[str, dict[str, Value]]
"""Title of a table -> of a column -> value."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of the options that an ablation varies."""

    shared: Mapping[str, Any]
    """Sections that all cells have in common."""
    options: Mapping[str, Any]
    """What is varied, by the names of the command line."""

    @property
    def config(self) -> RunConfig:
        """The configuration of its run; a ConfigError where the options do not go together."""
        return build(RunConfig, self.shared, nest(RunConfig, self.options))

    @property
    def name(self) -> str:
        """Name of the folder of its run."""
        words = "_".join(f"{name}-{word(value)}" for name, value in self.options.items())
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", words)[:60].strip("-.") or "cell"
        return f"{plain}-{hashlib.sha256(self.key.encode()).hexdigest()[:8]}"

    @property
    def key(self) -> str:
        """What is varied, as text."""
        return json.dumps(dict(self.options), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a cell."""

    name: str
    options: dict[str, Any]
    state: Literal["open", "done", "unfinished", "failed"]
    """Unfinished are those whose describer has not answered all."""
    reason: str | None = None
    """Why it failed."""
    figures: Figures = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Fingerprint of each step -> what it took, wherever it was done."""


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """The cells of a grid, in its order."""

    schema_version: int = SCHEMA_VERSION
    cells: tuple[Outcome, ...]

    @property
    def varied(self) -> list[str]:
        """The options that any cell says."""
        return list(dict.fromkeys(name for cell in self.cells for name in cell.options))

    @property
    def seconds(self) -> tuple[float, float]:
        """What the steps took, and what they would have taken without sharing."""
        once = {key: seconds for cell in self.cells for key, seconds in cell.seconds.items()}
        return sum(once.values()), sum(sum(cell.seconds.values()) for cell in self.cells)

    @property
    def failed(self) -> list[Outcome]:
        """Cells that came to nothing."""
        return [cell for cell in self.cells if cell.state == "failed"]

    def tables(self) -> dict[str, tuple[list[str], list[list[str]]]]:
        """Titles with the columns and rows of each table; every row begins with what its cell varies."""
        varied = self.varied
        found: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            for title, figures in cell.figures.items():
                found.setdefault(title, {}).update(dict.fromkeys(figures))
        return {
            title: (
                [*varied, *columns],
                [
                    [word(cell.options[name]) if name in cell.options else MISSING for name in varied]
                    + [_shown(cell.figures.get(title, {}).get(column)) for column in columns]
                    for cell in self.cells
                    if cell.figures
                ],
            )
            for title, columns in found.items()
        }

    def lines(self) -> list[str]:
        """The tables as text for a terminal, and what failed."""
        lines = []
        for title, (columns, rows) in self.tables().items():
            widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
            lines += [title, *(_aligned(row, widths) for row in (columns, *rows)), ""]
        lines += [f"failed: {cell.name}: {cell.reason}" for cell in self.failed]
        lines += [f"{cell.state}: {cell.name}" for cell in self.cells if cell.state in ("open", "unfinished")]
        once, alone = self.seconds
        return [*lines, f"{len(self.cells)} cells; their steps took {once:,.0f} s, without sharing {alone:,.0f} s"]


def read_grid(path: Path) -> tuple[Cell, ...]:
    """Read which runs are compared: `run` has the sections that they share, `vary` the values of options.

    Every combination of the values is a cell; several mappings below `vary` are several grids, one after the other.

    Raises:
        ConfigError: the file cannot be read or says something else, or an option does not exist.
    """
    values = read_yaml(path)
    if not isinstance(values, dict) or not values.get("vary") or set(values) - {"run", "vary"}:
        raise ConfigError(f"{path} must hold `run:` with the options that all share, and `vary:` with lists of values")
    shared = values.get("run") or {}
    check_sections(path, shared, RunConfig)
    try:
        json.dumps(values["vary"])
    except TypeError as error:
        raise ConfigError(
            f"{path}: `vary` has a date, or something else that is neither text nor number; write it in quotation marks"
        ) from error
    grids = values["vary"] if isinstance(values["vary"], list) else [values["vary"]]
    cells: dict[str, Cell] = {}
    for grid in grids:
        if not isinstance(grid, dict) or not all(isinstance(given, list) and given for given in grid.values()):
            raise ConfigError(f"{path}: `vary` has a list of values per option, such as `k: [8, 16]`, not {grid!r}")
        nest(RunConfig, dict.fromkeys(grid))  # refuses options that do not exist
        for combination in product(*grid.values()):
            cell = Cell(shared=shared, options=dict(zip(grid, combination, strict=True)))
            cells.setdefault(cell.key, cell)
    return tuple(cells.values())


def open_outcome(cell: Cell) -> Outcome:
    """A cell before it is run."""
    return Outcome(name=cell.name, options=dict(cell.options), state="open")


def share_embeddings(context: Context) -> None:
    """Take the image embeddings of another cell, whose files carry hashes of the images and of the model."""
    if context.folder.embeddings.exists():
        return
    for other in context.others:
        for file in sorted((other / context.folder.embeddings.name).rglob("*.safetensors")):
            link_or_copy(file, context.folder.path / file.relative_to(other))


def outcome_of(cell: Cell, context: Context) -> Outcome:
    """What a cell's run found."""
    records, results = context.steps.records, context.results
    return Outcome(
        name=cell.name,
        options=dict(cell.options),
        state="unfinished" if context.steps.counts("annotate").get("n_open") else "done",
        figures={} if results is None else figures_of(results, context.steps.counts("collect")["n_images"]),
        seconds={record["fingerprint"]: record["seconds"] for record in records.values()},
    )


def figures_of(results: Results, n_images: int) -> Figures:
    """The figures of a run's evaluation that an ablation shows."""
    annotation, tasks = results.annotation, results.tasks
    n_traits, n_described = annotation["n_traits"], annotation["n_images"]
    regions: dict[str, Value] = {
        "images with a trait": n_described / n_images,
        "traits per image": n_traits / max(n_described, 1),
        "significant": annotation["n_significant"] / max(n_traits, 1),
    }
    if (localisation := tasks.get("localisation")) is not None:
        regions |= {"on the organism": localisation.on_animal, "at random places": localisation.random}
    if (species := tasks.get("species_traits")) is not None:
        regions["latents to trust"] = species.verdicts.get("trust", 0) / max(species.n_latents, 1)
    if (texts := tasks.get("text_quality")) is not None and texts.shared.n_traits:
        regions["said of another species, too"] = texts.shared.n_shared / texts.shared.n_traits
    figures: Figures = {"Regions": regions}
    if results.sae is not None:
        measures = {"MSE": "mse", "explained variance": "explained_variance", "L0": "l0", "dead latents": "dead_share"}
        figures = {"SAE": {title: results.sae[name] for title, name in measures.items()}} | figures
    if (parts := tasks.get("parts")) is not None:
        own = next(iter(parts.methods.values()))
        figures["Parts"] = {}
        for name, measure in ((name, own.measures[name]) for name in PARTS if name in own.measures):
            figures["Parts"][MEASURES[name]] = measure.value
            if not math.isnan(measure.null):
                figures["Parts"][f"{MEASURES[name]}, by chance"] = measure.null
        figures["Parts"] |= {
            "significant pairs": float(parts.labels.n_significant),
            "with shuffled labels": float(parts.shuffled_labels.n_significant),
        }
    if (zero_shot := results.zero_shot) is not None:
        names = zero_shot.condition(NAME_ONLY).top1
        figures["Do the traits help a CLIP?"] = {
            NAME_ONLY: names,
            NAME_AND_TRAITS: zero_shot.condition(NAME_AND_TRAITS).top1,
            "difference, over species": zero_shot.comparison(NAME_AND_TRAITS).over_species,
        }
    return figures


def write_ablation(folder: Path, ablation: Ablation) -> None:
    """Write results.json and report.md."""
    write_text(folder / RESULTS_FILE, json_text(asdict(ablation)))
    report = render(
        Path(__file__).parent,
        "ablation.md.jinja",
        ablation=ablation,
        once=ablation.seconds[0],
        alone=ablation.seconds[1],
        row=lambda cells: Markup(" | ").join(cells),
    )
    write_text(folder / REPORT_FILE, report)


def word(value: Any) -> str:
    """A value of an option in a few letters; of a variant its kind and what else is said of it."""
    if isinstance(value, Mapping):
        rest = [f"{name} {word(inner)}" for name, inner in value.items() if name != "kind"]
        return " ".join([str(value["kind"]), *rest] if "kind" in value else rest)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "+".join(map(word, value)) or "none"
    return "none" if value is None else public_name(str(value))


def _shown(value: Value | None) -> str:
    if value is None or isinstance(value, Interval):
        return MISSING if value is None else str(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
