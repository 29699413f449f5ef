"""The step `dataset`: the tables of the released dataset, RUN/dataset/data."""

from __future__ import annotations

from dataclasses import asdict

from sae_traits.config.tree import as_dict
from sae_traits.io import hash_of_file
from sae_traits.runs.context import Context
from sae_traits.runs.names import given_names
from sae_traits.runs.record import Counts
from sae_traits.runs.release import write_run_dataset


def dataset(context: Context) -> None:
    """Write the dataset folder; its card comes with the step `cards`."""
    name = context.dictionary_name

    def work() -> Counts:
        summary = write_run_dataset(context, context.folder.dataset, name=name)
        context.pictures.checkpoint()
        return asdict(summary)

    inputs = {
        "release": {k: v for k, v in as_dict(context.config.release).items() if k != "sae_license"},
        "dictionary": name,
        "rights": context.collection.digest("file", "license", "rights_holder", "source_url", "source_revision"),
    }
    if names := given_names(context):
        inputs["names"] = {str(latent): name for latent, name in names.items()}
    if (captions := context.captions) is not None:
        inputs["captions"] = hash_of_file(captions)
    if (reviews := context.reviews.digest) is not None:
        inputs["reviews"] = reviews
    context.steps.do("dataset", inputs, [context.folder.dataset / "data"], work, kept=[context.folder.pictures])
