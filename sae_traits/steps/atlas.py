"""The atlas of a run, or of a dataset alone: a static site to look at."""

from __future__ import annotations

from pathlib import Path

from sae_traits.atlas import Built, build_atlas
from sae_traits.release.loading import dataset_folder
from sae_traits.runs.context import Context
from sae_traits.runs.names import suggested_names
from sae_traits.runs.release import costs_of

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
            firing=context.known_firing_shares,
            costs=costs_of(context),
            suggestions=suggested_names(context),
            sheet=next(reversed(context.reviews.sheets), None),
            workers=context.config.features.workers,
        )


def write_atlas_of_dataset(source: str, out: Path, *, revision: str | None) -> Built:
    """Write the atlas of a dataset: a folder, `org/name` on the Hub, or `hf://datasets/org/name`."""
    dataset = dataset_folder(source.removeprefix(_HUB), revision, files=FILES)
    return build_atlas(dataset, out)
