"""What a run says of itself on the cards of its dataset and its SAE; nothing of it names a place on this machine."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sae_traits.config import READ_WITH_LATENTS, ContrastConfig
from sae_traits.describers import make_describer
from sae_traits.encoding import plan_regions
from sae_traits.evaluation.results import Results, read_results
from sae_traits.extraction import features_of
from sae_traits.release.facts import LatentPicture, Provenance, calls_of, public_name, source_of
from sae_traits.release.gallery import N_LOOKED_AT, draw_latents, latents_to_show
from sae_traits.runs.run import Run
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection
from sae_traits.testbench.drawn.world import is_drawn
from sae_traits.traits.encode import Codes
from sae_traits.traits.latent_pages import latent_pages
from sae_traits.unlabelled import released_latents

_IN_WORDS = {
    "image": "Unlike theirs, the contrast counts each individual once and is tested.",
    "paper": "Latents were chosen by their Algorithm 1; nothing was tested, so no trait is significant.",
}


def provenance_of(run: Run, collection: Collection, dictionary: SAE | None, *, is_public: bool) -> Provenance:
    """How a run was made.

    Args:
        run: a run whose traits are finished.
        collection: its images.
        dictionary: its SAE, or the baseline that its regions are of; None where they have no latents.
        is_public: whether it is for the Hub, where local names mean nothing.
    """
    config = run.config
    describer = make_describer(config.describe)
    info = features_of(run, collection).info
    collected = run.steps.counts("collect")
    return Provenance(
        backbone=replace(info, backbone=public_name(info.backbone)) if is_public else info,
        regions=config.contrast.regions,
        dictionary_metrics=dictionary.config.training.get("metrics", {}) if dictionary else {},
        contrast=_contrast_facts(config.contrast) if dictionary else {},
        contrast_in_words=_IN_WORDS[config.contrast.contrast] if dictionary else "",
        latents=_public_latents(config.contrast),
        label_free=config.contrast.label_free,
        use_masks=config.describe.use_masks,
        describer=describer.name,
        describer_model=describer.model,
        prompt=describer.prompt,
        n_problems=collected["n_problems"],
        n_across_splits=collected.get("n_near_identical", {}).get("split", 0),
        command=run.command,
        source=source_of(run.config.collection.source or "", collection),
        calls=calls_of(
            run.ledger_file,
            describer,
            prompt_price=config.describe.prompt_price,
            answer_price=config.describe.answer_price,
        ),
        seconds={step: record["seconds"] for step, record in run.steps.records.items()},
        drawn=is_drawn(collection.root),
    )


def results_of(run: Run) -> Results | None:
    """What was evaluated of the run as it is now; None where a later step made it stale, or there was nothing."""
    return read_results(run.evaluation / "results.json") if "evaluate" in run.steps.records else None


def gallery_of(run: Run, collection: Collection, folder: Path) -> tuple[LatentPicture, ...]:
    """Pictures of latents, where images may be embedded and the codes are those of the SAE."""
    config, choices, pages = run.config, [], []
    if config.release.images == "embed" and config.contrast.regions == "sae":
        source = features_of(run, collection)
        chosen = plan_regions(run, collection, source).chosen
        choices = latents_to_show(chosen)
        pages = latent_pages(
            Codes.open(run.codes),
            chosen,
            collection,
            source.info,
            latents=[choice.latent for choice in choices],
            n_strongest=N_LOOKED_AT,
        )
    return draw_latents(pages, choices, collection, folder)


def _contrast_facts(config: ContrastConfig) -> dict[str, Any]:
    """The options that were read, without naming a place on this machine."""
    if config.latents is None:
        return asdict(config)
    return {name: getattr(config, name) for name in READ_WITH_LATENTS} | {"latents": public_name(config.latents)}


def _public_latents(config: ContrastConfig) -> str | None:
    """The dataset of --latents: its commit on the Hub, or the name of a folder and a hash of what is used of it."""
    released = released_latents(config)
    if released is None:
        return None
    if released.revision is not None:
        return released.name
    return f"{Path(released.name).name} (sha256:{released.digest[:16]})"
