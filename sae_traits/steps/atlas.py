"""The atlas of a run, or of a dataset alone: a static site to look at."""

from __future__ import annotations

from pathlib import Path

from sae_traits.atlas import Built, build_atlas
from sae_traits.release.loading import dataset_folder
from sae_traits.runs.context import Context

FILES = ["README.md", "data/images/*", "data/latents/*"]
"""Of a dataset on the Hub, what an atlas reads."""
_HUB = "hf://datasets/"


def write_atlas_of_run(context: Context, out: Path) -> Built:
    """Write the atlas of a finished run, with what was evaluated of it and what it took."""
    context.steps.fingerprint("dataset")
    with context.reading("dataset", "evaluate"):
        return build_atlas(
            context.folder.dataset,
            out,
            results=context.results,
            costs=_costs(context),
            suggestions=context.suggested_names,
            sheet=next(reversed(context.reviews.sheets), None),
            workers=context.config.features.workers,
        )


def write_atlas_of_dataset(source: str, out: Path, *, revision: str | None, workers: int = 2) -> Built:
    """Write the atlas of a dataset: a folder, `org/name` on the Hub, or `hf://datasets/org/name`."""
    dataset = dataset_folder(source.removeprefix(_HUB), revision, files=FILES)
    return build_atlas(dataset, out, workers=workers)


def _costs(context: Context) -> list[tuple[str, str]]:
    """What the run took, as names and values."""
    calls, records = context.calls, context.steps.records
    costs = [("describer", f"{context.describer.name}, {context.describer.model}")]
    costs.append(("calls", f"{calls.n_calls:,}, sent {calls.n_attempts:,} times"))
    costs += [(name.replace("_", " "), f"{n:,}") for name, n in calls.tokens.items()]
    if calls.cost is not None:
        costs.append(("cost at the given prices", f"{calls.cost:,.2f}"))
    costs += [(f"step {step}", _duration(records[step]["seconds"])) for step in context.order if step in records]
    return costs


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
