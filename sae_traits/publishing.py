"""What of a run becomes public: its cards, its dataset folder, and two repositories on the Hub."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sae_traits.collections.drawn.world import is_drawn
from sae_traits.extraction import features_of
from sae_traits.progress import say
from sae_traits.release.cards import write_model_card
from sae_traits.release.dataset import write_dataset
from sae_traits.release.facts import DatasetFacts, DatasetSummary
from sae_traits.release.hub import plan_folder, publish_folder
from sae_traits.run import Run
from sae_traits.sae.formats.files import read_settings
from sae_traits.sae.model import CONFIG_FILE, SAE, SAEConfig
from sae_traits.sae.sweep_folder import SWEEP_FILE, read_sweep
from sae_traits.schema import Collection
from sae_traits.traits.describers import make_describer
from sae_traits.traits.table import read_latents, read_traits


def write_card(folder: Path, sae: SAE, *, repo_id: str | None) -> None:
    """Write the card of an SAE, or of the sweep that it is recommended of, into its folder."""
    write_model_card(folder, sae.config.to_dict(), sae.config.training.get("metrics", {}), repo_id=repo_id)


def write_run_dataset(
    run: Run, collection: Collection, sae: SAE, folder: Path, *, name: str, repo_id: str | None
) -> DatasetSummary:
    """Write the dataset of a run into a folder.

    Args:
        run: a run whose traits are finished.
        collection: its specimens.
        sae: its SAE.
        folder: where to write.
        name: of the SAE in the column `sae`, as repository@revision.
        repo_id: where the dataset will be on the Hub.
    """
    describer = make_describer(run.config.describe)
    info = features_of(run, collection).info
    facts = DatasetFacts(
        backbone=info if repo_id is None else replace(info, backbone=_public_name(info.backbone)),
        sae_metrics=sae.config.training.get("metrics", {}),
        contrast=asdict(run.config.contrast),
        describer=describer.name,
        describer_model=describer.model,
        prompt=describer.prompt,
        n_problems=run.steps.counts("collect")["n_problems"],
        command=run.command,
        drawn=is_drawn(collection.root),
        repo_id=repo_id,
    )
    return write_dataset(
        folder,
        collection,
        read_traits(run.traits_file),
        read_latents(run.latents_file),
        sae=name,
        title=run.config.release.title,
        longest_side=run.config.release.longest_side,
        facts=facts,
        workers=run.config.features.workers,
    )


def publish(run: Run, *, model_repo: str, dataset_repo: str, private: bool, dry_run: bool) -> list[str]:
    """Publish the SAE, with the sweep that it is of, then the dataset that names its commit; what happened, as lines.

    Each repository gets one atomic commit; publishing the same again adds none.

    Raises:
        StoreError: the run is not finished.
        ReleaseError: the Hub refuses or cannot be reached.
    """
    run.steps.fingerprint("release")
    collection = Collection.load(run.specimens_file)
    if n_unlicensed := sum(specimen.license is None for specimen in collection.specimens):
        say(
            f"warning: {n_unlicensed} of {len(collection.specimens)} images have no licence in the table; "
            "publish them only if you may redistribute them"
        )
    with TemporaryDirectory(prefix="sae-traits-publish-") as temporary:
        model_folder, dataset_folder = Path(temporary, "model"), Path(temporary, "dataset")
        stage_saes(run.sae, model_folder)
        sae = SAE.from_pretrained(model_folder)
        write_card(model_folder, sae, repo_id=model_repo)
        if dry_run:
            write_run_dataset(run, collection, sae, dataset_folder, name=f"{model_repo}@main", repo_id=dataset_repo)
            return [*_planned("model", model_repo, model_folder), *_planned("dataset", dataset_repo, dataset_folder)]
        model = publish_folder(
            model_folder, model_repo, repo_type="model", private=private, message="Publish an SAE with sae-traits"
        )
        name = f"{model.repo_id}@{model.revision}"
        write_run_dataset(run, collection, sae, dataset_folder, name=name, repo_id=dataset_repo)
        dataset = publish_folder(
            dataset_folder,
            dataset_repo,
            repo_type="dataset",
            private=private,
            message="Publish an image-trait dataset with sae-traits",
        )
    return [
        f"{'published' if done.changed else 'unchanged'} {done.url} at {done.revision}" for done in (model, dataset)
    ] + [
        f'SAE.from_pretrained("{model.repo_id}", revision="{model.revision}")',
        f'load_dataset("{dataset.repo_id}", revision="{dataset.revision}")',
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
    if info is None or (public := _public_name(info.backbone)) == info.backbone:
        return
    # Replaced wherever it stands, because the measures name the backbone as well.
    private, public = (json.dumps(name, ensure_ascii=False)[1:-1] for name in (info.backbone, public))
    for file in [of_one.file for of_one in settings] + ([target / SWEEP_FILE] if sweep else []):
        file.write_text(file.read_text(encoding="utf-8").replace(private, public), encoding="utf-8")


def _public_name(backbone: str) -> str:
    """A Hub id as it is, a local folder by its name."""
    return Path(backbone).name if Path(backbone).is_absolute() else backbone


def _planned(kind: str, repo_id: str, folder: Path) -> list[str]:
    files = plan_folder(folder)
    total = sum(file.size for file in files)
    return [f"{kind} {repo_id}: {len(files)} files, {total:,} bytes (nothing was uploaded)"] + [
        f"  {file.size:>14,}  {file.path}" for file in files
    ]
