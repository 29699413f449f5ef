"""What of a run becomes public: the tables of its dataset, and both cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sae_traits.config import AdoptedSAE, PaperContrast, ReleasedLatents, SpecimenContrast
from sae_traits.config.command_line import command_of
from sae_traits.config.regions import RegionsOfLatents
from sae_traits.config.tree import as_dict, with_public_names
from sae_traits.evaluation.evidence import StoredTraits
from sae_traits.evaluation.review.scores import reviewed_traits, score_review
from sae_traits.evaluation.review.sheets import content_of
from sae_traits.evaluation.species_tallies import tally_traits
from sae_traits.logging import duration
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import (
    Captions,
    DatasetFacts,
    DatasetSummary,
    LatentPicture,
    ModelFacts,
    Provenance,
    source_of,
)
from sae_traits.release.gallery import draw_latents, latents_to_show
from sae_traits.release.image_terms import Licenses
from sae_traits.release.model_card import write_model_card
from sae_traits.release.publication import Terms, published_backbone
from sae_traits.runs.background import known_background
from sae_traits.runs.context import Context
from sae_traits.runs.names import given_names
from sae_traits.sae.model import SAE
from sae_traits.schema import BackboneInfo, ChosenLatent, Trait
from sae_traits.traits.firing_shares import with_held_out_shares
from sae_traits.traits.latent_names import named_latents, named_traits
from sae_traits.traits.table import read_captions, read_latents, read_traits
from sae_traits.traits.untold_species import significance_in_words

_IN_WORDS = {
    SpecimenContrast: "Unlike theirs, the contrast counts each individual once and is tested.",
    PaperContrast: "Latents were chosen by their Algorithm 1, which counts patches: `f_species` and `f_reference` are "
    "a latent's shares of all firings in the species and in its genus, the species included, and `effect` is the "
    "logarithm of their ratio. Nothing was tested, so no trait is significant.",
    ReleasedLatents: "Nothing was contrasted: the latents are those of a dataset that was released before.",
}


def write_run_dataset(context: Context, folder: Path, *, name: str | None) -> DatasetSummary:
    """Write the tables of an annotated run's dataset into a folder.

    The column `sae` has the `name` of the dictionary, as repository@revision; None where regions have no latents.
    """
    latents = read_latents(context.folder.chosen_latents)
    if context.config.regions.has_latents and context.released_latents is None:
        latents = with_held_out_shares(latents, context.firing_shares)
    return write_dataset(
        folder,
        context.collection,
        released_traits(context),
        named_latents(latents, _names(context, latents)),
        () if (captions := context.captions) is None else read_captions(captions),
        sae=name,
        config=context.config.release,
        workers=context.config.features.workers,
        cache=context.pictures,
    )


def released_traits(context: Context) -> Iterator[Trait]:
    """Yield the traits of a run with the names that people gave, and with what they said of them on blind sheets.

    A review is of a sentence and a region: where one of the two has changed since, it does not hold any more.
    """
    traits = named_traits(read_traits(context.folder.traits), names_of_latents(context))
    reviewed = reviewed_traits(context.reviews.answered())
    if not reviewed:
        return traits
    return (replace(trait, reviewed=reviewed.get((trait.trait_id, content_of(trait)))) for trait in traits)


def names_of_latents(context: Context) -> dict[int, str]:
    """The names of the latents that the traits of a run use."""
    return _names(context, read_latents(context.folder.chosen_latents))


def _names(context: Context, latents: Iterable[ChosenLatent]) -> dict[int, str]:
    """Names of latents; those of a dataset that was released before bring theirs."""
    return {one.latent: one.name for one in latents if one.name} | dict(given_names(context))


def write_dataset_card_of(
    context: Context,
    folder: Path,
    summary: DatasetSummary,
    *,
    name: str | None,
    repo_id: str | None = None,
    space_id: str | None = None,
) -> None:
    """Write the card of a run's dataset into the folder with its tables.

    Where it will be published is `repo_id`, and where its atlas will be `space_id`.
    """
    release = context.config.release
    facts = DatasetFacts(
        title=release.title,
        sae=name,
        longest_side=release.longest_side,
        provenance=provenance_of(context, is_public=repo_id is not None),
        results=context.results,
        review=tuple(score_review(answered).lines(is_public=True)) if (answered := context.reviews.answered()) else (),
        repo_id=repo_id,
        captions=captions_of(context),
        space_id=space_id,
    )
    write_dataset_card(folder, summary, facts)


def captions_of(context: Context) -> Captions | None:
    """How the captions were made; None where there are none."""
    counts = context.steps.counts("caption")
    return Captions(**{field.name: counts[field.name] for field in fields(Captions)}) if counts else None


def write_model_card_of(context: Context, folder: Path, terms: Terms | None = None) -> None:
    """Write the card of an annotated run's SAE, with its figures and gallery, into RUN/sae or a copy of it."""
    facts = ModelFacts(
        dataset_id=terms.dataset_repo if terms else None,
        dataset_title=context.config.release.title,
        license=context.config.release.sae_license,
        licenses=training_licenses(context),
        provenance=provenance_of(context, is_public=terms is not None),
        # What the regions of a baseline came to says nothing of the SAE.
        results=context.results if context.config.regions.kind == "sae" else None,
        gallery=gallery_of(context, folder),
    )
    config = SAE.from_pretrained(folder).config.to_dict()
    write_model_card(folder, config, repo_id=terms.model_repo if terms else None, facts=facts)


def training_licenses(context: Context) -> Licenses:
    """The licences of the images that the SAE was trained on; none of one that was trained elsewhere."""
    if isinstance(context.config.train, AdoptedSAE):
        return {}
    images = context.collection.images
    return dict(Counter(image.license for image in images if image.split == "train").most_common())


def provenance_of(context: Context, *, is_public: bool) -> Provenance:
    """How a run was made; where it is for the Hub, nothing of it names a place on this machine."""
    config, describer, regions = context.config, context.describer, context.config.regions
    info, collected = context.features.info, context.steps.counts("collect")
    dictionary = context.dictionary
    contrast = regions.contrast if isinstance(regions, RegionsOfLatents) else None
    return Provenance(
        backbone=published_backbone(info) if is_public else info,
        regions=regions.kind,
        dictionary_metrics=dictionary.config.training.get("metrics", {}) if dictionary else {},
        contrast=_options(regions, info) if dictionary else {},
        contrast_in_words=_IN_WORDS[type(contrast)] if contrast is not None else "",
        latents=context.released_latents.public_name if context.released_latents else None,
        label_free=regions.label_free,
        use_masks=config.describer.use_masks,
        describer=describer.name,
        describer_model=describer.model,
        prompt=describer.prompt,
        n_problems=collected["n_problems"],
        n_across_splits=collected["n_near_identical"]["split"],
        background=known_background(context),
        significance=tuple(significance_in_words(context.steps.counts("annotate"))),
        command=command_of(config),
        source=source_of(config.collection.source or "", context.collection),
        calls=context.calls,
        seconds={step: record["seconds"] for step, record in context.steps.records.items() if step != "cards"},
        note=context.collection.note,
    )


def _options(regions: Any, info: BackboneInfo) -> dict[str, Any]:
    """The options of the regions and their contrast, by name, and what follows from the number of patches."""
    values = as_dict(with_public_names(regions))
    contrast = values.pop("contrast")
    if isinstance(regions.contrast, SpecimenContrast):
        contrast["firing_quantile"] = regions.contrast.quantile_for(info.rows * info.columns)
    values.pop("kind")
    return {"contrast": contrast.pop("kind"), **contrast, **values}


def gallery_of(context: Context, folder: Path) -> tuple[LatentPicture, ...]:
    """Pictures of latents, where images may be embedded and the regions are those of the SAE."""
    choices: list[ChosenLatent] = []
    traits = StoredTraits(context.folder.traits)
    if context.config.release.images == "embed" and context.config.regions.kind == "sae":
        latents = with_held_out_shares(read_latents(context.folder.chosen_latents), context.firing_shares)
        choices = latents_to_show(tally_traits(context.collection, traits, latents))
    return draw_latents(context.collection, traits, choices, context.open_picture, folder)


def costs_of(context: Context) -> list[tuple[str, str]]:
    """What the run took, as names and values."""
    calls, records = context.calls, context.steps.records
    costs = [("describer", f"{context.describer.name}, {context.describer.model}")]
    costs.append(("calls", f"{calls.n_calls:,}, sent {calls.n_attempts:,} times"))
    costs += [(name.replace("_", " "), f"{n:,}") for name, n in calls.tokens.items()]
    if calls.cost is not None:
        costs.append(("cost at the given prices", f"{calls.cost:,.2f}"))
    costs += [(f"step {step}", duration(records[step]["seconds"])) for step in context.order if step in records]
    return costs
