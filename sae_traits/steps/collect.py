"""The step `collect`: read the images and their labels into RUN/images.parquet."""

from __future__ import annotations

from sae_traits import images
from sae_traits.io import write_csv
from sae_traits.logging import say
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts
from sae_traits.schema import Collection

N_PROBLEMS_SHOWN = 5


def collect(context: Context) -> None:
    """Read the collection; what of it cannot be used is written to RUN/problems.csv, with the reason.

    Raises:
        CollectionError: it cannot be used.
    """
    config = context.config.collection
    listing = images.list_source(config)

    def work() -> Counts:
        workers = context.config.features.workers
        return _keep(context, images.read_collection(config, listing=listing, workers=workers))

    inputs = {"source": images.fingerprint(config, listing)}
    context.steps.do("collect", inputs, [context.folder.images, context.folder.problems], work)


def _keep(context: Context, collection: Collection) -> Counts:
    collection.save(context.folder.images)
    problems = [(problem.file, problem.reason) for problem in collection.problems]
    problems += [(pair.file, str(pair)) for pair in collection.near_identical]
    write_csv(context.folder.problems, ["file", "reason"], problems)
    for problem in collection.problems[:N_PROBLEMS_SHOWN]:
        say(f"left out {problem.file}: {problem.reason}")
    if len(collection.problems) > N_PROBLEMS_SHOWN:
        say(f"… and {len(collection.problems) - N_PROBLEMS_SHOWN} more; all are in {context.folder.problems}")
    return {
        "n_images": len(collection.images),
        "n_individuals": len({record.individual_id for record in collection.images}),
        "n_species": len({record.taxon.species for record in collection.images} - {None}),
        "n_problems": len(collection.problems),
        "n_near_identical": {
            differ: sum(pair.differ == differ for pair in collection.near_identical) for differ in ("split", "species")
        },
    }
