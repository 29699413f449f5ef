"""What of a run becomes public: its cards, its dataset folder, and two repositories on the Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from sae_traits.encoding import load_dictionary
from sae_traits.errors import ReleaseError
from sae_traits.logging import say
from sae_traits.provenance import dataset_facts, model_facts, public_name, results_of
from sae_traits.release.cards import CARD, NOTHING_MORE, write_model_card
from sae_traits.release.dataset import write_dataset
from sae_traits.release.facts import DatasetSummary, ModelFacts
from sae_traits.release.merging import keep_own_parts
from sae_traits.release.plan import plan_folder
from sae_traits.release.publication import Terms, publish_release
from sae_traits.release.results import Results
from sae_traits.release.writing import ReleaseSettings, write_dataset_card
from sae_traits.runs.run import Run
from sae_traits.sae.formats.files import read_settings
from sae_traits.sae.model import CONFIG_FILE, SAE, SAEConfig
from sae_traits.sae.sweep_folder import SWEEP_FILE, read_sweep
from sae_traits.schema import Collection
from sae_traits.training import sae_hash
from sae_traits.traits.table import read_latents, read_traits
from sae_traits.unlabelled import released_latents

UNKNOWN_COMMIT = "0" * 40
"""Stands in a dry run for the commit that the SAE will get."""


def write_card(folder: Path, sae: SAE, *, repo_id: str | None, facts: ModelFacts = NOTHING_MORE) -> None:
    """Write the card of an SAE, or of the sweep that it is recommended of, into its folder."""
    metrics = sae.config.training.get("metrics", {})
    write_model_card(folder, sae.config.to_dict(), metrics, repo_id=repo_id, facts=facts)


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
    facts = model_facts(run, collection, folder, results, dataset_id=terms.dataset_repo if terms else None)
    write_card(folder, sae, repo_id=terms.model_repo if terms else None, facts=facts)


def write_run_dataset(
    run: Run, collection: Collection, dictionary: SAE | None, folder: Path, *, name: str | None, repo_id: str | None
) -> DatasetSummary:
    """Write the dataset of a run into a folder.

    Args:
        run: a run whose traits are finished.
        collection: its images.
        dictionary: its SAE, or the baseline that its regions are of; None where they have no latents.
        folder: where to write.
        name: of the dictionary in the column `sae`, as repository@revision.
        repo_id: where the dataset will be on the Hub.
    """
    return write_dataset(
        folder,
        collection,
        read_traits(run.traits_file),
        read_latents(run.latents_file),
        sae=name,
        config=run.config.release,
        facts=dataset_facts(run, collection, dictionary, results_of(run), repo_id=repo_id),
        workers=run.config.features.workers,
    )


def local_name(run: Run, dictionary: SAE | None) -> str | None:
    """What picked the regions, in the column `sae` of a dataset on this machine; None where they have no latents."""
    if (released := released_latents(run.config.contrast)) is not None:
        return released.sae  # whose weights those of this run are
    regions = run.config.contrast.regions
    origin = "local" if regions == "sae" else regions
    return f"{origin}@sha256:{sae_hash(dictionary)}" if dictionary is not None else None


def rewrite_cards(run: Run, collection: Collection, results: Results | None) -> None:
    """Write both cards of a finished run anew, with what its evaluation found; the rest of it stays."""
    dictionary = load_dictionary(run)
    config = run.config.release
    settings = ReleaseSettings(
        images=config.images,
        longest_side=config.longest_side,
        title=config.title,
        sae=local_name(run, dictionary),
        facts=dataset_facts(run, collection, dictionary, results, repo_id=None),
    )
    summary = TypeAdapter(DatasetSummary).validate_python(run.steps.counts("release"))
    write_dataset_card(run.dataset, summary, settings, former=run.dataset)
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
    collection = Collection.load(run.images_file)
    n_unlicensed = sum(record.license is None for record in collection.images)
    if n_unlicensed and run.config.release.images == "embed":
        say(
            f"warning: {n_unlicensed} of {len(collection.images)} images have no licence in the table; "
            "publish them only if you may redistribute them"
        )
    n_without_address = sum(record.source_url is None for record in collection.images)
    if n_without_address and run.config.release.images == "reference":
        say(
            f"warning: {n_without_address} of {len(collection.images)} images have no source_url in the table; "
            "readers cannot fetch them, and need the files (sae-traits rehydrate --photographs)"
        )
    with TemporaryDirectory(prefix="sae-traits-publish-") as temporary:
        model_folder, dataset_folder = Path(temporary, "model"), Path(temporary, "dataset")
        stage_saes(run.sae, model_folder)
        sae = SAE.from_pretrained(model_folder)
        write_run_card(run, collection, sae, model_folder, results_of(run), terms=terms)

        def write_dataset_for(name: str) -> Path:
            write_run_dataset(run, collection, sae, dataset_folder, name=name, repo_id=terms.dataset_repo)
            _keep_own_parts(dataset_folder / CARD, run.dataset / CARD)
            return dataset_folder

        if dry_run:
            write_dataset_for(f"{terms.model_repo}@{UNKNOWN_COMMIT}")
            return _planned(terms, model_folder, dataset_folder)
        done = publish_release(model_folder, write_dataset_for, terms)
    return [
        *(
            f"{'published' if one.changed else 'unchanged'} {one.url} at {one.revision}, tagged {one.tag}"
            for one in (done.model, done.dataset)
        ),
        *([f"collection {done.collection_url}"] if done.collection_url else []),
        f'SAE.from_pretrained("{done.model.repo_id}", revision="{done.model.tag}")',
        f'load_dataset("{done.dataset.repo_id}", revision="{done.dataset.tag}")',
    ]


def stage_saes(source: Path, target: Path) -> None:
    """Copy RUN/sae into a new folder for publishing, without naming the backbone's place on this machine.

    Args:
        source: as `save_saes` wrote it; all of it becomes public.
        target: a new folder.

    Raises:
        ReleaseError: the source is missing, or holds what should not leave this machine.
        CheckpointError: it is not an SAE, or its sweep.json is damaged.
    """
    plan_folder(source)
    shutil.copytree(source, target)
    sweep = read_sweep(target)
    folders = [target, *(target / sae.folder for sae in sweep.saes)] if sweep else [target]
    settings = [read_settings(folder / CONFIG_FILE) for folder in folders]
    info = SAEConfig.from_dict(settings[0].values).backbone
    if info is None or (public := public_name(info.backbone)) == info.backbone:
        return
    # Replaced wherever it stands, because the measures name the backbone as well.
    private, public = (json.dumps(name, ensure_ascii=False)[1:-1] for name in (info.backbone, public))
    for file in [of_one.file for of_one in settings] + ([target / SWEEP_FILE] if sweep else []):
        file.write_text(file.read_text(encoding="utf-8").replace(private, public), encoding="utf-8")


def _keep_own_parts(card: Path, former: Path) -> None:
    """Put what a person wrote into the run's own card into the one that is published."""
    if former.is_file():
        text = card.read_text(encoding="utf-8")
        card.write_text(keep_own_parts(text, former.read_text(encoding="utf-8"), str(former)), encoding="utf-8")


def _planned(terms: Terms, model_folder: Path, dataset_folder: Path) -> list[str]:
    lines = []
    for kind, repo_id, folder in (
        ("model", terms.model_repo, model_folder),
        ("dataset", terms.dataset_repo, dataset_folder),
    ):
        files = plan_folder(folder)
        total = sum(file.size for file in files)
        lines.append(f"{kind} {repo_id}: {len(files)} files, {total:,} bytes (nothing was uploaded)")
        lines += [f"  {file.size:>14,}  {file.path}" for file in files]
    access = [*(["private"] if terms.private else []), *([f"gated ({terms.gated})"] if terms.gated else [])]
    version = terms.tag or "the next patch version, where it changes"
    return [
        *lines,
        f"tag: {version}",
        f"access: {', '.join(access) or 'as the repositories are; new ones are public'}",
    ] + ([f"collection: {terms.collection}"] if terms.collection else [])
