"""The steps of a run in order. A step whose output is complete and whose inputs have not changed is skipped (`run`)."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

import sae_traits
from sae_traits import collections
from sae_traits.collections.drawn import draw_collection
from sae_traits.collections.drawn.world import is_drawn
from sae_traits.config import FeaturesConfig, read_config, resolve
from sae_traits.errors import StoreError
from sae_traits.evaluation import drawn_truth
from sae_traits.evaluation.clip import CLIP, load_clip
from sae_traits.evaluation.demo_clip import DRAWN_CLIP, refuse_unless_drawn
from sae_traits.evaluation.embedding import embed_collection
from sae_traits.evaluation.figures import draw_bars
from sae_traits.evaluation.localisation import score_on_masks
from sae_traits.evaluation.report import draw_gallery, report_sections, write_report
from sae_traits.evaluation.zero_shot import evaluate_zero_shot
from sae_traits.evaluation.zero_shot_results import ZeroShotResults, report_lines
from sae_traits.features.backbone import Backbone, choose_device, load_backbone, restore_backbone
from sae_traits.features.extract import extract
from sae_traits.features.store import FeatureStore, hash_of_file
from sae_traits.features.stream import PatchStream, moments
from sae_traits.progress import say
from sae_traits.publishing import write_card, write_run_dataset
from sae_traits.run import Run
from sae_traits.sae.extractor import check_features
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.model import SAE
from sae_traits.sae.trainer import FeatureScale, n_steps_for, record_metrics, train_sae
from sae_traits.schema import Collection, Trait
from sae_traits.traits.annotate import describe_candidates, export_traits, plan_annotation
from sae_traits.traits.describers import make_describer
from sae_traits.traits.encode import Codes, encode_collection, firing_thresholds
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_traits

MEASURED_PATCHES = 200_000
"""The SAE is measured on at most this many held-out patches."""


def extract_features(run: Run, accelerator: Accelerator | None = None) -> None:
    """Read the collection, then extract the features of every specimen (all processes take part)."""
    accelerator = accelerator or Accelerator()
    config = run.config
    if accelerator.is_main_process:
        run.steps.do(
            "collect",
            {"source": collections.fingerprint(config.collection)},
            run.specimens_file.is_file,
            lambda: _collect(run),
        )
    accelerator.wait_for_everyone()
    collection = Collection.load(run.specimens_file)
    backbone = _backbone(run)
    inputs = {
        "images": _digest(collection, "specimen_id", "sha256", "width", "height"),
        "backbone": backbone.info.to_dict(),
        "dtype": config.features.dtype,
    }

    def work() -> dict[str, Any]:
        store = extract(
            collection,
            backbone,
            run.activations,
            dtype=config.features.dtype,
            image_batch_size=config.features.image_batch_size,
            workers=config.features.workers,
        )
        return {"n_patches": store.n_patches, "d_model": store.info.d_model}

    def is_complete() -> bool:
        return _opens(FeatureStore.open, run.activations)

    run.steps.do("extract", inputs, is_complete, work, keep_record=accelerator.is_main_process)
    accelerator.wait_for_everyone()


def _opens(opener: Callable[[Path], Any], folder: Path) -> bool:
    """Whether a folder's index and all of its files are there."""
    try:
        opener(folder)
    except StoreError as error:
        if folder.exists():
            say(str(error))
        return False
    return True


def _digest(collection: Collection, *fields: str) -> str:
    """Hash of some fields of all specimens, in order."""
    digest = hashlib.sha256()
    for specimen in collection.specimens:
        digest.update(repr([getattr(specimen, field) for field in fields]).encode())
    return digest.hexdigest()


def _collect(run: Run) -> dict[str, Any]:
    collection = collections.read_collection(run.config.collection, workers=run.config.features.workers)
    collection.save(run.specimens_file)
    with run.problems_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "reason"])
        writer.writerows((problem.file, problem.reason) for problem in collection.problems)
    for problem in collection.problems[:5]:
        say(f"left out {problem.file}: {problem.reason}")
    if len(collection.problems) > 5:
        say(f"… and {len(collection.problems) - 5} more; all are in {run.problems_file}")
    return {
        "n_specimens": len(collection.specimens),
        "n_species": len({s.species for s in collection.specimens}),
        "n_problems": len(collection.problems),
    }


def _backbone(run: Run) -> Backbone:
    """The configured backbone; with --sae and nothing said about features, the one that the SAE was trained on."""
    features = run.config.features
    if run.config.train.sae is None:
        return load_backbone(features)
    sae = SAE.from_pretrained(run.config.train.sae)
    default = FeaturesConfig()
    names = ("backbone", "revision", "layer", "framing")
    if sae.config.backbone is not None and all(getattr(features, n) == getattr(default, n) for n in names):
        return restore_backbone(sae.config.backbone, device=features.device)
    backbone = load_backbone(features)
    check_features(sae, backbone.info)
    return backbone


def train(run: Run, accelerator: Accelerator | None = None) -> None:
    """Train the SAE of a run on its training specimens (all processes take part), or adopt the one of --sae."""
    accelerator = accelerator or Accelerator()
    config = run.config.train
    collection = Collection.load(run.specimens_file)
    inputs: dict[str, Any] = {
        "extract": run.steps.fingerprint("extract"),
        "training": _rows(collection, "train").tolist(),
        "train": asdict(config),
    }
    adopted = SAE.from_pretrained(config.sae) if config.sae is not None else None
    if adopted is not None:
        inputs["sae"] = sae_hash(adopted)

    def work() -> dict[str, Any]:
        store = FeatureStore.open(run.activations)
        if adopted is not None:
            check_features(adopted, store.info)
            sae = adopted
            if sae.config.backbone is None:  # another library's checkpoint: from now on it says what it reads
                sae.config = replace(sae.config, backbone=store.info)
        else:
            sae = _train_new(run, store, collection, accelerator)
        metrics = measure_sae(sae.to(accelerator.device), _held_out(store, collection)).to_dict()
        record_metrics(sae, metrics)
        if accelerator.is_main_process:
            sae.cpu().save_pretrained(run.sae)
            run.checkpoint_file.unlink(missing_ok=True)
        return metrics

    run.steps.do("train", inputs, (run.sae / "config.json").is_file, work, keep_record=accelerator.is_main_process)
    accelerator.wait_for_everyone()


def _train_new(run: Run, store: FeatureStore, collection: Collection, accelerator: Accelerator) -> SAE:
    config = run.config.train
    rows = _rows(collection, "train")
    found = moments(store, rows)
    n_steps = n_steps_for(config)

    def batches(start: int) -> Iterator[Tensor]:
        n_patches = n_steps * config.batch_size
        return iter(
            PatchStream(store, rows, n_patches=n_patches, batch_size=config.batch_size, seed=config.seed, start=start)
        )

    training = {
        "n_specimens": len(rows),
        "n_patches": n_steps * config.batch_size,
        "settings": {k: v for k, v in asdict(config).items() if k != "sae"},
    }
    return train_sae(
        batches,
        config,
        FeatureScale(
            mean=found.mean.float(), scale=max((found.mean_squared_deviation / store.info.d_model) ** 0.5, 1e-12)
        ),
        n_steps=n_steps,
        checkpoint=run.checkpoint_file,
        data=f"{store.fingerprint} {hashlib.sha256(rows.tobytes()).hexdigest()} {n_steps}",
        accelerator=accelerator,
        backbone=store.info,
        training=training,
    )


def _held_out(store: FeatureStore, collection: Collection) -> Iterator[Tensor]:
    """Features of a sample of validation specimens, of test or training specimens where there are no others."""
    rows = next(rows for split in ("validation", "test", "train") if len(rows := _rows(collection, split)))
    n_sampled = max(1, MEASURED_PATCHES // (store.info.rows * store.info.columns))
    sample = np.random.default_rng(0).permutation(rows)[:n_sampled]
    chosen = np.zeros(len(collection.specimens), dtype=bool)
    chosen[sample] = True
    for shard in store.shards():
        own = np.repeat(chosen[shard.specimens], np.diff(shard.offsets))
        yield shard.features[torch.from_numpy(own)]


def _rows(collection: Collection, split: str) -> NDArray[np.int64]:
    return np.array([row for row, s in enumerate(collection.specimens) if s.split == split], dtype=np.int64)


def sae_hash(sae: SAE) -> str:
    """Hash of an SAE's weights and architecture: its revision, where it has none on the Hub."""
    digest = hashlib.sha256(f"{sae.config.architecture} {sae.config.k} {sae.config.subtract_decoder_bias}".encode())
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def annotate_run(run: Run) -> None:
    """Encode the specimens, choose latents, describe their regions, and write the dataset."""
    config = run.config
    collection = Collection.load(run.specimens_file)
    store = FeatureStore.open(run.activations)
    sae = SAE.from_pretrained(run.sae, device=choose_device(config.features.device))
    firing = (
        {"threshold": config.contrast.firing_threshold}
        if config.contrast.contrast == "paper"
        else {"quantile": config.contrast.firing_quantile}
    )

    def encode() -> dict[str, Any]:
        if config.contrast.contrast == "paper":
            thresholds = np.full(sae.config.n_latents, config.contrast.firing_threshold, dtype=np.float32)
        else:
            training = np.array([s.split == "train" for s in collection.specimens])
            thresholds = firing_thresholds(sae, store, training, config.contrast.firing_quantile)
        codes = encode_collection(sae, store, thresholds, run.codes)
        return {"n_latents_used": int(np.isfinite(codes.thresholds).sum()), "n_parts": len(codes.parts)}

    inputs = {"train": run.steps.fingerprint("train"), **firing}
    run.steps.do("encode", inputs, lambda: _opens(Codes.open, run.codes), encode)

    describer = make_describer(run.config.describe)

    def annotate() -> dict[str, Any]:
        plan = plan_annotation(collection, Codes.open(run.codes), store.info, config.contrast)
        with Ledger(run.ledger_file) as ledger:
            describe_candidates(plan, describer, ledger, workers=config.describe.describe_workers)
            annotation = export_traits(
                plan, describer, ledger, traits_file=run.traits_file, latents_file=run.latents_file
            )
        return asdict(annotation)

    inputs = {
        "encode": run.steps.fingerprint("encode"),
        "contrast": asdict(config.contrast),
        "describer": [describer.name, describer.model, describer.prompt],
        "labels": _digest(collection, "taxon", "split", "mm_per_pixel"),
    }
    run.steps.do("annotate", inputs, lambda: run.traits_file.is_file() and run.latents_file.is_file(), annotate)


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
        "rights": _digest(collection, "file", "license", "rights_holder", "source_url"),
    }
    cards = run.dataset / "README.md", run.sae / "README.md"
    run.steps.do("release", inputs, lambda: all(card.is_file() for card in cards), work)


def evaluate_run(run: Run) -> None:
    """Score the regions, ask the CLIP model of --clip whether the traits help it, and write the report."""
    _evaluate(run, _clip(run))


def _evaluate(run: Run, clip: CLIP | None) -> None:
    collection = Collection.load(run.specimens_file)

    def work() -> dict[str, Any]:
        info = FeatureStore.open(run.activations).info
        traits = list(read_traits(run.traits_file))
        on_animal = score_on_masks(collection, traits, info)
        drawn = drawn_truth.score(collection, traits, info) if is_drawn(collection.root) else None
        zero_shot = _zero_shot(run, collection, traits, clip) if clip else None
        results = {
            "sae": run.steps.counts("train"),
            "traits": run.steps.counts("annotate"),
            "on_animal": on_animal.to_dict() if on_animal else None,
            "drawn": drawn.to_dict() if drawn else None,
            "zero_shot": {"clip": clip.info.to_dict(), **zero_shot.to_dict()} if clip and zero_shot else None,
        }
        n_drawn = draw_gallery(collection, traits, run.evaluation / "figures" / "regions.png")
        sections = report_sections(
            results,
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
    rows = np.sort(np.concatenate([_rows(collection, "validation"), _rows(collection, "test")]))
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
    release_run(run)
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
