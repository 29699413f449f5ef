"""The steps of a run in order. A step whose output is complete and whose inputs have not changed is skipped (`run`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sae_traits.config.layers import read_config, recipe_file, resolve
from sae_traits.describers import make_describer
from sae_traits.encoding import check_regions, encode, load_dictionary, plan_regions
from sae_traits.errors import ConfigError
from sae_traits.evaluation.embedding import embed_collection
from sae_traits.evaluation.figures import draw_bars
from sae_traits.evaluation.localisation import score_on_masks
from sae_traits.evaluation.report import draw_gallery, report_sections, write_report
from sae_traits.evaluation.results import read_results
from sae_traits.evaluation.species_traits import species_lines
from sae_traits.evaluation.zero_shot import evaluate_zero_shot
from sae_traits.evaluation.zero_shot_results import ZeroShotResults, report_lines
from sae_traits.extraction import digest, extract_features, features_of, rows_of
from sae_traits.features.source import FeatureSource
from sae_traits.io import hash_of_file, write_text
from sae_traits.models.clip.model import CLIP, load_clip
from sae_traits.publishing import (
    local_name,
    rewrite_cards,
    write_run_card,
    write_run_dataset,
    write_run_dataset_card,
)
from sae_traits.runs.run import Run
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection, Trait
from sae_traits.testbench.demo import RECIPE, prepare_demo
from sae_traits.testbench.truth import DrawnTruth, score
from sae_traits.training import train
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.encode import Codes
from sae_traits.traits.estimate import AnnotationEstimate, estimate_annotation
from sae_traits.traits.faithfulness import Controls, run_controls
from sae_traits.traits.latent_pages import latent_pages, write_latent_pages
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.quality import assess_quality
from sae_traits.traits.table import read_traits
from sae_traits.unlabelled import check_latents

MOST_SHOWN = 20
"""Latents that are shown where none is asked for."""


def annotate_run(run: Run) -> None:
    """Encode the images, choose latents, describe their regions, and write the dataset.

    Where a describer stopped before it gave a single trait there is nothing to write a dataset of yet.
    """
    collection = Collection.load(run.images_file)
    _check_masks(run, collection)
    source = features_of(run, collection)
    encode(run, collection, source)
    _describe(run, collection, source)
    counts = run.steps.counts("annotate")
    if counts["n_traits"] or not counts["n_open"]:
        release_run(run)


def estimate_descriptions(run: Run) -> AnnotationEstimate:
    """Encode the images and choose latents, and say what describing their regions would cost."""
    collection = Collection.load(run.images_file)
    _check_masks(run, collection)
    source = features_of(run, collection)
    encode(run, collection, source)
    plan = plan_regions(run, collection, source)
    with Ledger(run.ledger_file) as ledger:
        return estimate_annotation(plan, make_describer(run.config.describe), ledger, run.config.describe)


def write_latents_of(run: Run, latents: Sequence[int], n_strongest: int) -> list[Path]:
    """Write what is known of some latents of an annotated run into RUN/latents; the files.

    Args:
        run: its codes are complete.
        latents: which; none takes the MOST_SHOWN latents that describe a species with the largest effect.
        n_strongest: images a latent.
    """
    run.steps.fingerprint("encode")
    if run.dictionary is None:
        raise ConfigError(
            f"the regions of {run.folder} are of --regions {run.config.contrast.regions}, which has no latents; "
            "annotate with other --regions first"
        )
    collection = Collection.load(run.images_file)
    source = features_of(run, collection)
    codes, info = Codes.open(run.codes), source.info
    chosen = plan_regions(run, collection, source).chosen
    if not latents:
        effects = sorted((-one.contrast.effect, latent) for own in chosen.values() for latent, one in own.items())
        latents = list(dict.fromkeys(latent for _, latent in effects))[:MOST_SHOWN]
    pages = latent_pages(codes, chosen, collection, info, latents=latents, n_strongest=n_strongest)
    return write_latent_pages(pages, collection, run.folder / "latents")


def control_descriptions(run: Run, *, n_traits: int, seed: int) -> Controls:
    """Ask about a sample of traits again, with other regions; the scores, kept in RUN/traits/controls.json.

    Raises:
        ConfigError: the descriptions are of whole images, or of several images, or another describer's.
    """
    config = run.config.describe
    annotation = run.steps.fingerprint("annotate")
    if config.prompt == "whole":
        raise ConfigError("controls show another region, and --prompt whole shows none; annotate with --prompt region")
    with Ledger(run.controls_ledger_file) as ledger:
        controls = run_controls(
            read_traits(run.traits_file),
            Collection.load(run.images_file),
            make_describer(config),
            ledger,
            n_traits=n_traits,
            seed=seed,
            workers=config.describe_workers,
            use_masks=config.use_masks,
        )
    values = {"annotate": annotation, "seed": seed, **controls.to_dict()}
    write_text(run.controls_file, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return controls


def _controls(run: Run) -> Controls | None:
    """The scores of the controls, if there are any of the present annotation."""
    if not run.controls_file.is_file():
        return None
    values = json.loads(run.controls_file.read_text(encoding="utf-8"))
    return Controls.from_dict(values) if values["annotate"] == run.steps.fingerprint("annotate") else None


def _describe(run: Run, collection: Collection, source: FeatureSource) -> None:
    config = run.config
    describer = make_describer(config.describe)

    def work() -> dict[str, Any]:
        plan = plan_regions(run, collection, source)
        with Ledger(run.ledger_file) as ledger:
            use_masks = config.describe.use_masks
            workers = config.describe.describe_workers
            describe_candidates(plan, describer, ledger, workers=workers, use_masks=use_masks)
            annotation = export_traits(
                plan,
                describer,
                ledger,
                traits_file=run.traits_file,
                latents_file=run.latents_file,
                use_masks=use_masks,
            )
        return asdict(annotation)

    inputs = {
        "encode": run.steps.fingerprint("encode"),
        "contrast": asdict(config.contrast),
        "describer": [describer.name, describer.model, describer.prompt, describer.settings],
        "images_per_description": describer.images_per_description,
        "labels": digest(collection, "taxon", "split", "mm_per_pixel"),
        "masks": run.steps.fingerprint("collect") if config.describe.use_masks else None,
    }
    run.steps.do("annotate", inputs, lambda: run.traits_file.is_file() and run.latents_file.is_file(), work)


def _check_masks(run: Run, collection: Collection) -> None:
    """Raise a ConfigError where masks are to be used and no image has one."""
    if run.config.describe.use_masks and not any(record.mask_file for record in collection.images):
        raise ConfigError(
            "--use-masks, but no image of the collection has a mask; name their files in the column mask_file of a "
            "table, or leave out --use-masks"
        )


def release_run(run: Run) -> None:
    """Write the dataset folder and the SAE's card."""
    collection = Collection.load(run.images_file)
    sae, dictionary = SAE.from_pretrained(run.sae), load_dictionary(run)
    name = local_name(run, dictionary)

    def work() -> dict[str, Any]:
        write_run_card(run, collection, sae, run.sae, None)  # an evaluation writes the cards again
        found = write_run_dataset(run, collection, run.dataset, name=name)
        write_run_dataset_card(run, collection, run.dataset, found, None, name=name, repo_id=None)
        return asdict(found)

    inputs = {
        "annotate": run.steps.fingerprint("annotate"),
        "release": asdict(run.config.release),
        "command": run.command,
        "rights": digest(collection, "file", "license", "rights_holder", "source_url", "source_revision"),
    }
    cards = run.dataset / "README.md", run.sae / "README.md"
    run.steps.do("release", inputs, lambda: all(card.is_file() for card in cards), work)


def evaluate_run(run: Run) -> None:
    """Score the regions, ask the CLIP model of --clip whether the traits help it, and write the report."""
    _evaluate(run, _clip(run))


def _evaluate(run: Run, clip: CLIP | None) -> None:
    collection = Collection.load(run.images_file)
    controls = _controls(run)

    def work() -> dict[str, Any]:
        info = features_of(run, collection).info
        traits = list(read_traits(run.traits_file))
        on_animal = score_on_masks(collection, traits, info)
        is_scored = collection.note is not None and run.config.collection.labels
        drawn = score(collection, traits, info) if is_scored else None
        zero_shot = _zero_shot(run, collection, traits, clip) if clip else None
        with Ledger(run.ledger_file) as ledger:
            quality = assess_quality(traits, ledger, collection, make_describer(run.config.describe), controls)
        results = {
            "sae": run.steps.counts("train"),
            "regions": run.config.contrast.regions,
            "traits": run.steps.counts("annotate"),
            "on_animal": on_animal.to_dict() if on_animal else None,
            "quality": quality.to_dict(),
            "drawn": asdict(drawn) if drawn else None,
            "zero_shot": {"clip": clip.info.to_dict(), **zero_shot.to_dict()} if clip and zero_shot else None,
        }
        n_drawn = draw_gallery(collection, traits, run.evaluation / "figures" / "regions.png")
        sections = report_sections(
            results,
            species=species_lines(collection, traits),
            quality=quality.lines(),
            drawn=DrawnTruth().lines(drawn) if drawn else [],
            zero_shot=report_lines(zero_shot) if zero_shot else [],
            n_regions_drawn=n_drawn,
        )
        write_report(run.evaluation, run.config.release.title, results, sections)
        rewrite_cards(run, collection, read_results(run.evaluation / "results.json"))
        return {"n_regions_drawn": n_drawn, "zero_shot": zero_shot is not None}

    inputs = {
        "release": run.steps.fingerprint("release"),
        "masks": run.steps.fingerprint("collect"),
        "controls": controls.to_dict() if controls else None,
        "zero_shot": asdict(run.config.zero_shot),
        "clip": clip.info.to_dict() if clip else None,
        "common_names": _content_hash(run.config.zero_shot.common_names),
    }
    run.steps.do("evaluate", inputs, (run.evaluation / "results.json").is_file, work)


def _clip(run: Run) -> CLIP | None:
    """The CLIP model of the configuration, if there is one."""
    config = run.config.zero_shot
    if config.clip is None:
        return None
    return load_clip(
        config.clip, revision=config.clip_revision, framing=config.clip_framing, device=run.config.features.device
    )


def _zero_shot(run: Run, collection: Collection, traits: Sequence[Trait], clip: CLIP) -> ZeroShotResults:
    """Embed the validation and test images (kept on disk), and run the protocol."""
    rows = np.sort(np.concatenate([rows_of(collection, "validation"), rows_of(collection, "test")]))
    images = embed_collection(
        clip,
        collection,
        rows.tolist(),
        cache=run.folder / "embeddings",
        batch_size=run.config.features.image_batch_size,
        workers=run.config.features.workers,
    )
    results = evaluate_zero_shot(
        clip, images=images, rows=rows, collection=collection, traits=traits, config=run.config.zero_shot
    )
    draw_bars(results, run.evaluation / "figures" / "zero_shot.png")
    return results


def run_all(run: Run) -> None:
    """All steps; a model for regions or evaluation that cannot be used is known before the long ones."""
    clip = _clip(run)
    check_regions(run.config)
    check_latents(run.config)
    extract_features(run)
    _check_masks(run, Collection.load(run.images_file))  # before the training, not only after it
    train(run)
    annotate_run(run)
    if "release" in run.steps.records:
        _evaluate(run, clip)


def run_demo(folder: Path) -> Run:
    """Draw the drawn world into FOLDER/collection, unless it is there, and run everything on it."""
    run = Run.create(folder, resolve(read_config(recipe_file(RECIPE)), prepare_demo(folder)))
    run_all(run)
    return run


def _content_hash(path: str | None) -> str | None:
    return hash_of_file(Path(path)) if path is not None else None
