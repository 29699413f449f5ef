"""Publishing a CLIP that was trained further, with its card."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from sae_traits.contrastive.card import write_clip_card
from sae_traits.contrastive.folder import MODEL
from sae_traits.contrastive.record import TrainingRecord
from sae_traits.io import copy_folder_to_write
from sae_traits.logging import warn
from sae_traits.release.cards import read_card
from sae_traits.release.folder_plan import plan_folder, refuse_secrets
from sae_traits.release.image_terms import terms_warning
from sae_traits.release.publication import ModelTerms, plan_lines, publish_model


def publish_clip(out: Path, terms: ModelTerms, *, license: str | None, dry_run: bool) -> list[str]:
    """Publish the CLIP that `finetune` wrote into a folder; what happened, as lines.

    A dry run only says which files would be public, and talks to no one.

    Raises:
        ReleaseError: training has not finished, its files are not as they were written or hold what should not become
            public, what was uploaded is not what came back, or the Hub refuses or cannot be reached.
    """
    record = TrainingRecord.load(out)
    if license is None:
        warn("warning: the CLIP has no licence; say one with --license, which the terms of its base model allow")
    elif warning := terms_warning(license, record.licenses):
        warn(f"warning: {warning}")
    plan_folder(out / MODEL)
    with TemporaryDirectory(prefix="sae-traits-publish-") as temporary:
        folder = Path(temporary, MODEL)
        copy_folder_to_write(out / MODEL, folder)
        record.check(folder)
        write_clip_card(folder, record, repo_id=terms.model_repo, license=license, existing=read_card(folder))
        if dry_run:
            return plan_lines(terms, [("model", terms.model_repo, folder)])
        refuse_secrets(folder, plan_folder(folder))
        published, collection_url = publish_model(folder, terms)
    return [
        published.line(),
        *([f"collection {collection_url}"] if collection_url else []),
        f'load_clip("{published.repo_id}", revision="{published.tag}")',
    ]
