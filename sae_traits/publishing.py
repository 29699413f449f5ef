"""What of a run becomes public: its cards, its dataset folder, and two repositories on the Hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from sae_traits.encoding import load_dictionary
from sae_traits.errors import ReleaseError
from sae_traits.evaluation.results import Results
from sae_traits.images.pictures import PictureCache
from sae_traits.logging import say
from sae_traits.provenance import gallery_of, provenance_of, results_of
from sae_traits.release.cards import CARD, keep_section, read_card
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import DatasetFacts, DatasetSummary, ModelFacts
from sae_traits.release.model_card import write_model_card
from sae_traits.release.publication import Terms, plan_lines, publish_release, stage_saes, warnings_of
from sae_traits.runs.run import Run
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection
from sae_traits.training import sae_hash
from sae_traits.traits.table import read_latents, read_traits
from sae_traits.unlabelled import released_latents

UNKNOWN_COMMIT = "0" * 40
"""Stands in a dry run for the commit that the SAE will get."""


def write_run_card(
    run: Run, collection: Collection, sae: SAE, folder: Path, results: Results | None, *, terms: Terms | None = None
) -> None:
    """Write the card of a run's SAE, with its figures and gallery, into a folder with that SAE.

    Args:
        run: a run whose traits are finished.
        collection: its images.
        sae: the one in the folder.
        folder: RUN/sae, or a copy.
        results: of the run's evaluation, if there was one.
        terms: where it will be published.
    """
    facts = ModelFacts(
        dataset_id=terms.dataset_repo if terms else None,
        dataset_title=run.config.release.title,
        provenance=provenance_of(run, collection, load_dictionary(run), is_public=terms is not None),
        # What the regions of a baseline came to says nothing of the SAE.
        results=results if run.config.contrast.regions == "sae" else None,
        gallery=gallery_of(run, collection, folder),
    )
    write_model_card(folder, sae.config.to_dict(), repo_id=terms.model_repo if terms else None, facts=facts)


def write_run_dataset(run: Run, collection: Collection, folder: Path, *, name: str | None) -> DatasetSummary:
    """Write the tables of a run's dataset into a folder.

    Args:
        run: a run whose traits are finished.
        collection: its images.
        folder: where to write.
        name: of the dictionary in the column `sae`, as repository@revision.
    """
    with PictureCache(run.folder / "pictures.sqlite") as cache:
        return write_dataset(
            folder,
            collection,
            read_traits(run.traits_file),
            read_latents(run.latents_file),
            sae=name,
            config=run.config.release,
            workers=run.config.features.workers,
            cache=cache,
        )


def write_run_dataset_card(
    run: Run,
    collection: Collection,
    folder: Path,
    summary: DatasetSummary,
    results: Results | None,
    *,
    name: str | None,
    repo_id: str | None,
) -> None:
    """Write the card of a run's dataset into its folder."""
    facts = DatasetFacts(
        title=run.config.release.title,
        sae=name,
        longest_side=run.config.release.longest_side,
        provenance=provenance_of(run, collection, load_dictionary(run), is_public=repo_id is not None),
        results=results,
        repo_id=repo_id,
    )
    write_dataset_card(folder, summary, facts)


def local_name(run: Run, dictionary: SAE | None) -> str | None:
    """What picked the regions, in the column `sae` of a dataset on this machine; None where they have no latents."""
    if (released := released_latents(run.config.contrast)) is not None:
        return released.sae  # whose weights those of this run are
    regions = run.config.contrast.regions
    origin = "local" if regions == "sae" else regions
    return f"{origin}@sha256:{sae_hash(dictionary)}" if dictionary is not None else None


def rewrite_cards(run: Run, collection: Collection, results: Results | None) -> None:
    """Write both cards of a finished run anew, with what its evaluation found."""
    summary = DatasetSummary.from_dict(run.steps.counts("release"))
    name = local_name(run, load_dictionary(run))
    write_run_dataset_card(run, collection, run.dataset, summary, results, name=name, repo_id=None)
    write_run_card(run, collection, SAE.from_pretrained(run.sae), run.sae, results)


def publish(run: Run, terms: Terms, *, dry_run: bool) -> list[str]:
    """Publish the SAE, with the sweep that it is of, then the dataset that names its commit; what happened, as lines.

    Args:
        run: a finished run.
        terms: names of the repositories, and on what conditions.
        dry_run: only say which files would be public; talks to no one.

    Raises:
        StoreError: the run is not finished.
        ReleaseError: the Hub refuses or cannot be reached, or a tag is taken.
    """
    run.steps.fingerprint("release")
    if run.config.contrast.regions != "sae":
        raise ReleaseError(
            f"the dataset of {run.folder} has regions of a baseline (--regions {run.config.contrast.regions}), not of "
            f"the SAE that it would be published with; run `sae-traits annotate {run.folder} --regions sae` first"
        )
    collection, results = Collection.load(run.images_file), results_of(run)
    for warning in warnings_of(collection, embeds_images=run.config.release.images == "embed"):
        say(warning)
    with TemporaryDirectory(prefix="sae-traits-publish-") as temporary:
        model_folder, dataset_folder = Path(temporary, "model"), Path(temporary, "dataset")
        stage_saes(run.sae, model_folder)
        write_run_card(run, collection, SAE.from_pretrained(model_folder), model_folder, results, terms=terms)

        def write_dataset_for(name: str) -> Path:
            summary = write_run_dataset(run, collection, dataset_folder, name=name)
            write_run_dataset_card(
                run, collection, dataset_folder, summary, results, name=name, repo_id=terms.dataset_repo
            )
            if (former := read_card(run.dataset)) is not None:
                card = keep_section(read_card(dataset_folder) or "", former, str(run.dataset / CARD))
                (dataset_folder / CARD).write_text(card, encoding="utf-8")
            return dataset_folder

        if dry_run:
            write_dataset_for(f"{terms.model_repo}@{UNKNOWN_COMMIT}")
            return plan_lines(terms, model_folder, dataset_folder)
        return publish_release(model_folder, write_dataset_for, terms).lines()
