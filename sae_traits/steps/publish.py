"""Publishing a finished run: the SAE, with its sweep, the dataset that names its commit, and an atlas of that."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from sae_traits.atlas import build_atlas
from sae_traits.errors import ReleaseError
from sae_traits.logging import warn
from sae_traits.release.cards import CARD, keep_section, read_card, section_of
from sae_traits.release.folder_plan import refuse_secrets_in
from sae_traits.release.hub import RepoType
from sae_traits.release.image_terms import terms_warning
from sae_traits.release.publication import (
    Terms,
    plan_lines,
    publish_release,
    stage_saes,
    warnings_of,
    write_space_card,
)
from sae_traits.runs.context import Context
from sae_traits.runs.release import (
    costs_of,
    training_licenses,
    write_dataset_card_of,
    write_model_card_of,
    write_run_dataset,
)

UNKNOWN_COMMIT = "0" * 40
"""Stands in a dry run for the commit that the SAE will get."""


def publish(context: Context, terms: Terms, *, dry_run: bool) -> list[str]:
    """Publish the SAE, the dataset and the atlas of a finished run on the Hub; what happened, as lines.

    A dry run only says which files would be public, and talks to no one.
    """
    folder, regions = context.folder, context.config.regions
    context.steps.fingerprint("cards")
    context.steps.refuse_other_options(["cards"])
    if regions.kind != "sae":
        raise ReleaseError(
            f"the dataset of {folder.path} has regions of a baseline (--regions {regions.kind}), not of the SAE that "
            f"it would be published with; run `sae-traits annotate {folder.path} --regions sae` first"
        )
    with context.reading("annotate", "caption", "evaluate", "dataset", thorough=True):
        # Before the SAE is public; the tables for the Hub differ in the SAE's name alone.
        refuse_secrets_in(folder.dataset)
        section_of(read_card(folder.dataset) or "", str(folder.dataset / CARD))
        return _publish(context, terms, dry_run=dry_run)


def _publish(context: Context, terms: Terms, *, dry_run: bool) -> list[str]:
    folder, embeds_images = context.folder, context.config.release.images == "embed"
    for warning in warnings_of(context.collection, context.features.info, embeds_images=embeds_images):
        warn(f"warning: {warning}")
    if context.config.release.sae_license is None:
        warn(f"warning: the SAE has no licence; say one with `sae-traits annotate {folder.path} --sae-license mit`")
    elif warning := terms_warning(context.config.release.sae_license, training_licenses(context)):
        warn(f"warning: {warning}")
    with TemporaryDirectory(prefix="sae-traits-publish-") as temporary:
        model_folder, dataset_folder = Path(temporary, "model"), Path(temporary, "dataset")
        stage_saes(folder.sae, model_folder)
        write_model_card_of(context, model_folder, terms)

        def write_dataset_for(name: str) -> Path:
            summary = write_run_dataset(context, dataset_folder, name=name)
            repositories = {"repo_id": terms.dataset_repo, "space_id": terms.space_repo}
            write_dataset_card_of(context, dataset_folder, summary, name=name, **repositories)
            if (former := read_card(folder.dataset)) is not None:
                card = keep_section(read_card(dataset_folder) or "", former, str(folder.dataset / CARD))
                (dataset_folder / CARD).write_text(card, encoding="utf-8")
            return dataset_folder

        def write_site() -> Path:
            site = Path(temporary, "site")
            build_atlas(
                dataset_folder,
                site,
                results=context.results,
                firing=context.known_firing_shares,
                costs=costs_of(context),
                workers=context.config.features.workers,
            )
            return site

        if dry_run:
            write_dataset_for(f"{terms.model_repo}@{UNKNOWN_COMMIT}")
            folders: list[tuple[RepoType, str, Path]] = [("model", terms.model_repo, model_folder)]
            folders.append(("dataset", terms.dataset_repo, dataset_folder))
            if terms.space_repo is not None:
                folders.append(("space", terms.space_repo, site := write_site()))
                write_space_card(site, terms)
            return plan_lines(terms, folders)
        return publish_release(model_folder, write_dataset_for, terms, write_site).lines()
