"""The step `collect`: read the images and their labels into RUN/images.parquet."""

from __future__ import annotations

from sae_traits import images
from sae_traits.runs.context import Context
from sae_traits.runs.lock import is_read_only
from sae_traits.runs.record import Counts


def collect(context: Context) -> None:
    """Read the collection; what of it cannot be used is written to RUN/problems.csv, with the reason."""
    config, folder = context.config.collection, context.folder
    listing = images.list_source(config)

    def work() -> Counts:
        collection = images.read_collection(config, listing=listing, workers=context.config.features.workers)
        collection.save(folder.images)
        collection.save_problems(folder.problems)
        images.say_problems(collection.problems, f"all are in {folder.problems}")
        return collection.counts()

    if context.has_moved and context.steps.replaces and not is_read_only(folder.path):
        folder.images.unlink(missing_ok=True)  # it says where the images were
    inputs = {"source": images.fingerprint(config, listing)}
    context.steps.do("collect", inputs, [folder.images, folder.problems], work)
    context.check_masks()
