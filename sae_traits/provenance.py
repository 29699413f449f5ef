"""What a run says of itself on the cards of its dataset and its SAE; nothing of it names a place on this machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sae_traits.config import READ_WITH_LATENTS, ContrastConfig, DescribeConfig
from sae_traits.describers import Describer, make_describer
from sae_traits.encoding import plan_regions
from sae_traits.extraction import features_of
from sae_traits.images.bioscan import find_bioscan
from sae_traits.images.hub import is_hub_source
from sae_traits.release.facts import Calls, DatasetFacts, LatentPicture, ModelFacts, Source
from sae_traits.release.gallery import N_LOOKED_AT, draw_latents, latents_to_show
from sae_traits.release.results import Results, read_results
from sae_traits.runs.run import Run
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection
from sae_traits.traits.encode import Codes
from sae_traits.traits.latent_pages import latent_pages
from sae_traits.traits.ledger import Ledger
from sae_traits.unlabelled import released_latents

BIOSCAN_ON_THE_HUB = "hf://datasets/bioscan-ml/BIOSCAN-5M"
MOST_REVISIONS = 5
"""Versions of the source that a card names."""


def dataset_facts(
    run: Run, collection: Collection, dictionary: SAE | None, results: Results | None, *, repo_id: str | None
) -> DatasetFacts:
    """What the card of the dataset says beside what its rows show.

    Args:
        run: a run whose traits are finished.
        collection: its images.
        dictionary: its SAE, or the baseline that its regions are of; None where they have no latents.
        results: of its evaluation, if there was one.
        repo_id: where the dataset will be on the Hub.
    """
    config = run.config
    describer = make_describer(config.describe)
    info = features_of(run, collection).info
    collected = run.steps.counts("collect")
    return DatasetFacts(
        backbone=info if repo_id is None else replace(info, backbone=public_name(info.backbone)),
        regions=config.contrast.regions,
        dictionary_metrics=dictionary.config.training.get("metrics", {}) if dictionary else {},
        contrast=_contrast_facts(config.contrast) if dictionary else {},
        latents=_public_latents(config.contrast),
        label_free=config.contrast.label_free,
        use_masks=config.describe.use_masks,
        describer=describer.name,
        describer_model=describer.model,
        prompt=describer.prompt,
        n_problems=collected["n_problems"],
        n_across_splits=collected.get("n_near_identical", {}).get("split", 0),
        command=run.command,
        source=_source(run, collection),
        calls=_calls(run, describer, config.describe),
        seconds=_seconds(run),
        results=results,
        drawn=collection.note is not None,
        repo_id=repo_id,
    )


def model_facts(
    run: Run, collection: Collection, folder: Path, results: Results | None, *, dataset_id: str | None
) -> ModelFacts:
    """What the card of the SAE says beside its own record; its gallery is drawn into the SAE's folder.

    Args:
        run: a run whose traits are finished.
        collection: its images.
        folder: of the SAE whose card it is: that of the run, or a copy.
        results: of the run's evaluation, if there was one.
        dataset_id: where the dataset will be on the Hub.
    """
    return ModelFacts(
        dataset_id=dataset_id,
        dataset_title=run.config.release.title,
        source=_source(run, collection),
        command=run.command,
        seconds=_seconds(run),
        # What the regions of a baseline came to says nothing of the SAE.
        results=results if run.config.contrast.regions == "sae" else None,
        gallery=_gallery(run, collection, folder),
        drawn=collection.note is not None,
    )


def results_of(run: Run) -> Results | None:
    """What was evaluated of the run as it is now; None where a later step made it stale, or there was nothing."""
    return read_results(run.evaluation / "results.json") if "evaluate" in run.steps.records else None


def public_name(name: str) -> str:
    """A Hub id as it is, a file or folder of this machine by its name."""
    return Path(name).name if Path(name).is_absolute() else name


def _source(run: Run, collection: Collection) -> Source:
    name = run.config.collection.source or ""
    is_remote = is_hub_source(name)
    revisions = Counter(record.source_revision for record in collection.images if record.source_revision)
    return Source(
        name=name if is_remote else Path(name).name,
        revisions=tuple(revision for revision, _ in revisions.most_common(MOST_REVISIONS)),
        is_bioscan=name.startswith(BIOSCAN_ON_THE_HUB) if is_remote else find_bioscan(Path(name)) is not None,
    )


def _calls(run: Run, describer: Describer, config: DescribeConfig) -> Calls:
    """Of the calls that the ledger has of this describer; earlier settings of the same run are among them."""
    counts: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    seconds = 0.0
    with Ledger(run.ledger_file) as ledger:
        for entry in ledger:
            if (entry.describer, entry.model, entry.prompt) == (describer.name, describer.model, describer.prompt):
                counts["calls"] += 1
                counts["attempts"] += entry.attempts
                tokens.update(entry.usage)
                seconds += entry.seconds
    has_prices = tokens and (config.prompt_price or config.answer_price)
    paid = tokens["prompt_tokens"] * config.prompt_price + tokens["completion_tokens"] * config.answer_price
    return Calls(
        n_calls=counts["calls"],
        n_attempts=counts["attempts"],
        seconds=seconds,
        tokens={name: n for name, n in sorted(tokens.items()) if n},
        cost=paid / 1e6 if has_prices else None,
    )


def _seconds(run: Run) -> dict[str, float]:
    return {step: record["seconds"] for step, record in run.steps.records.items()}


def _gallery(run: Run, collection: Collection, folder: Path) -> tuple[LatentPicture, ...]:
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
