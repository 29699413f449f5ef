"""The steps of a run in order. A step whose output is complete and whose inputs have not changed is skipped (`run`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import sae_traits
from sae_traits.collections.drawn import draw_collection
from sae_traits.collections.drawn.world import is_drawn
from sae_traits.config import read_config, resolve
from sae_traits.evaluation import drawn_truth
from sae_traits.evaluation.clip import CLIP, load_clip
from sae_traits.evaluation.demo_clip import DRAWN_CLIP, refuse_unless_drawn
from sae_traits.evaluation.embedding import embed_collection
from sae_traits.evaluation.figures import draw_bars
from sae_traits.evaluation.localisation import score_on_masks
from sae_traits.evaluation.report import draw_gallery, report_sections, write_report
from sae_traits.evaluation.zero_shot import evaluate_zero_shot
from sae_traits.evaluation.zero_shot_results import ZeroShotResults, report_lines
from sae_traits.extraction import digest, extract_features, features_of, rows_of
from sae_traits.features.backbone import choose_device
from sae_traits.features.source import FeatureSource
from sae_traits.features.store import hash_of_file
from sae_traits.progress import say
from sae_traits.publishing import write_card, write_run_dataset
from sae_traits.run import Run, opens
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection, Trait
from sae_traits.training import sae_hash, train
from sae_traits.traits.annotate import describe_candidates, export_traits, plan_annotation
from sae_traits.traits.describers import make_describer
from sae_traits.traits.encode import Codes, encode_collection, firing_thresholds
from sae_traits.traits.estimate import AnnotationEstimate, estimate_annotation
from sae_traits.traits.latent_pages import latent_pages, write_latent_pages
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.quality import assess_quality
from sae_traits.traits.table import read_traits

MOST_SHOWN = 20
"""Latents that are shown where none is asked for."""


def annotate_run(run: Run) -> None:
    """Encode the specimens, choose latents, describe their regions, and write the dataset.

    Where a describer stopped before it gave a single trait there is nothing to write a dataset of yet.
    """
    collection = Collection.load(run.specimens_file)
    source = features_of(run, collection)
    _encode(run, collection, source)
    _describe(run, collection, source)
    counts = run.steps.counts("annotate")
    if counts["n_traits"] or not counts["n_open"]:
        release_run(run)


def estimate_descriptions(run: Run) -> AnnotationEstimate:
    """Encode the specimens and choose latents, and say what describing their regions would cost."""
    collection = Collection.load(run.specimens_file)
    source = features_of(run, collection)
    _encode(run, collection, source)
    plan = plan_annotation(collection, Codes.open(run.codes), source.info, run.config.contrast)
    with Ledger(run.ledger_file) as ledger:
        return estimate_annotation(plan, make_describer(run.config.describe), ledger, run.config.describe)


def write_latents_of(run: Run, latents: Sequence[int], n_strongest: int) -> list[Path]:
    """Write what is known of some latents of an annotated run into RUN/latents; the files.

    Args:
        run: its codes are complete.
        latents: which; none takes the MOST_SHOWN latents that describe a species with the largest effect.
        n_strongest: specimens a latent.
    """
    run.steps.fingerprint("encode")
    collection = Collection.load(run.specimens_file)
    codes, info = Codes.open(run.codes), features_of(run, collection).info
    chosen = plan_annotation(collection, codes, info, run.config.contrast).chosen
    if not latents:
        effects = sorted((-one.contrast.effect, latent) for own in chosen.values() for latent, one in own.items())
        latents = list(dict.fromkeys(latent for _, latent in effects))[:MOST_SHOWN]
    pages = latent_pages(codes, chosen, collection, info, latents=latents, n_strongest=n_strongest)
    return write_latent_pages(pages, collection, run.folder / "latents")


def _encode(run: Run, collection: Collection, source: FeatureSource) -> None:
    config = run.config
    is_paper = config.contrast.contrast == "paper"

    def work() -> dict[str, Any]:
        sae = SAE.from_pretrained(run.sae, device=choose_device(config.features.device))
        if is_paper:
            thresholds = np.full(sae.config.n_latents, config.contrast.firing_threshold, dtype=np.float32)
        else:
            training = np.array([s.split == "train" for s in collection.specimens])
            thresholds = firing_thresholds(sae, source, training, config.contrast.firing_quantile)
        codes = encode_collection(sae, source, thresholds, run.codes)
        return {"n_latents_used": int(np.isfinite(codes.thresholds).sum()), "n_parts": len(codes.parts)}

    firing = (
        {"threshold": config.contrast.firing_threshold} if is_paper else {"quantile": config.contrast.firing_quantile}
    )
    inputs = {"train": run.steps.fingerprint("train"), **firing}
    run.steps.do("encode", inputs, lambda: opens(Codes.open, run.codes), work)


def _describe(run: Run, collection: Collection, source: FeatureSource) -> None:
    config = run.config
    describer = make_describer(config.describe)

    def work() -> dict[str, Any]:
        plan = plan_annotation(collection, Codes.open(run.codes), source.info, config.contrast)
        with Ledger(run.ledger_file) as ledger:
            describe_candidates(plan, describer, ledger, workers=config.describe.describe_workers)
            annotation = export_traits(
                plan, describer, ledger, traits_file=run.traits_file, latents_file=run.latents_file
            )
        return asdict(annotation)

    inputs = {
        "encode": run.steps.fingerprint("encode"),
        "contrast": asdict(config.contrast),
        "describer": [describer.name, describer.model, describer.prompt, describer.settings],
        "images_per_description": describer.images_per_description,
        "labels": digest(collection, "taxon", "split", "mm_per_pixel"),
    }
    run.steps.do("annotate", inputs, lambda: run.traits_file.is_file() and run.latents_file.is_file(), work)


def release_run(run: Run) -> None:
    """Write the dataset folder and the SAE's card."""
    collection = Collection.load(run.specimens_file)
    sae = SAE.from_pretrained(run.sae)

    def work() -> dict[str, Any]:
        write_card(run.sae, sae, repo_id=None)
        found = write_run_dataset(run, collection, sae, run.dataset, name=f"local@sha256:{sae_hash(sae)}", repo_id=None)
        return asdict(found)

    inputs = {
        "annotate": run.steps.fingerprint("annotate"),
        "release": asdict(run.config.release),
        "command": run.command,
        "rights": digest(collection, "file", "license", "rights_holder", "source_url"),
    }
    cards = run.dataset / "README.md", run.sae / "README.md"
    run.steps.do("release", inputs, lambda: all(card.is_file() for card in cards), work)


def evaluate_run(run: Run) -> None:
    """Score the regions, ask the CLIP model of --clip whether the traits help it, and write the report."""
    _evaluate(run, _clip(run))


def _evaluate(run: Run, clip: CLIP | None) -> None:
    collection = Collection.load(run.specimens_file)

    def work() -> dict[str, Any]:
        info = features_of(run, collection).info
        traits = list(read_traits(run.traits_file))
        on_animal = score_on_masks(collection, traits, info)
        drawn = drawn_truth.score(collection, traits, info) if is_drawn(collection.root) else None
        zero_shot = _zero_shot(run, collection, traits, clip) if clip else None
        with Ledger(run.ledger_file) as ledger:
            quality = assess_quality(traits, ledger, collection, make_describer(run.config.describe))
        results = {
            "sae": run.steps.counts("train"),
            "traits": run.steps.counts("annotate"),
            "on_animal": on_animal.to_dict() if on_animal else None,
            "quality": quality.to_dict(),
            "drawn": drawn.to_dict() if drawn else None,
            "zero_shot": {"clip": clip.info.to_dict(), **zero_shot.to_dict()} if clip and zero_shot else None,
        }
        n_drawn = draw_gallery(collection, traits, run.evaluation / "figures" / "regions.png")
        sections = report_sections(
            results,
            quality=quality.lines(),
            drawn=drawn.lines() if drawn else [],
            zero_shot=report_lines(zero_shot) if zero_shot else [],
            n_regions_drawn=n_drawn,
        )
        write_report(run.evaluation, run.config.release.title, results, sections)
        return {"n_regions_drawn": n_drawn, "zero_shot": zero_shot is not None}

    inputs = {
        "release": run.steps.fingerprint("release"),
        "masks": run.steps.fingerprint("collect"),
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
    source = Path(run.config.collection.source or "")
    refuse_unless_drawn(Path(config.clip), source if source.is_dir() else source.parent)
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
    """All steps; a CLIP model that cannot be used is known before the long ones."""
    clip = _clip(run)
    extract_features(run)
    train(run)
    annotate_run(run)
    if "release" in run.steps.records:
        _evaluate(run, clip)


def run_demo(folder: Path) -> Run:
    """Draw the drawn world into FOLDER/collection, unless it is there, and run everything on it."""
    collection = folder / "collection"
    if not is_drawn(collection):
        say("drawing specimens of invented species")
        draw_collection(collection)
    recipe = read_config(recipe_file("demo.yaml"))
    given = {"collection": {"source": str(collection)}, "zero_shot": {"clip": str(DRAWN_CLIP)}}
    run = Run.create(folder, resolve(recipe, given))
    run_all(run)
    return run


def recipe_file(name: str) -> Path:
    """A recipe, in the installed package or, in an editable install, at the root of the repository."""
    package = Path(sae_traits.__file__).parent
    folder = package / "recipes"
    return (folder if folder.is_dir() else package.parent / "recipes") / name


def _content_hash(path: str | None) -> str | None:
    return hash_of_file(Path(path)) if path is not None else None
