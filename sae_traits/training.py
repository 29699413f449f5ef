"""The training step of a run: one SAE or a sweep, on stored features or straight from the images, then the measures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from sae_traits.config import TrainConfig
from sae_traits.errors import CheckpointError, ConfigError
from sae_traits.extraction import features_of, rows_of
from sae_traits.features.extract import check_launch
from sae_traits.features.source import FeatureSource, ImageSource
from sae_traits.features.store import DtypeName, FeatureShard, FeatureStore
from sae_traits.features.stream import ImagePatchStream, PatchStream, moments
from sae_traits.logging import say
from sae_traits.runs.run import Run
from sae_traits.sae.extractor import check_features
from sae_traits.sae.loading import load_folder
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.model import SAE
from sae_traits.sae.monosemanticity import measure_monosemanticity
from sae_traits.sae.stability import mean_stability
from sae_traits.sae.sweep import expand, parse_sweep
from sae_traits.sae.sweep_folder import read_sweep, save_saes
from sae_traits.sae.trainer import FeatureScale, check_together, n_steps_for, record_metrics, train_saes
from sae_traits.schema import Collection

MEASURED_PATCHES = 200_000
"""An SAE is measured on at most this many held-out patches."""
SAMPLE_FOR_MOMENTS = 1000
"""Mean and scale come from so many images where features have to be computed."""


def train(run: Run, accelerator: Accelerator | None = None) -> None:
    """Train the SAE of a run, or a sweep, on its training images (all processes take part), or adopt that of --sae.

    Raises:
        ConfigError: the settings do not go together, or the tracker is not installed.
        CheckpointError: the SAE of --sae does not fit the features.
    """
    config = run.config.train
    accelerator = accelerator or make_accelerator(run)
    collection = Collection.load(run.images_file)
    varied = parse_sweep(config.sweep) if config.sweep is not None else {}
    configs = expand(replace(config, sweep=None, tracker=None), varied)
    check_together(configs, accelerator)
    inputs: dict[str, Any] = {
        "extract": run.steps.fingerprint("extract"),
        "training": rows_of(collection, "train").tolist(),
        "train": [asdict(one) for one in configs],
        "seed_of_order": config.seed,
        "precision": accelerator.mixed_precision,
    }
    source = features_of(run, collection)
    adopted = None
    if config.sae is not None:
        adopted = _adopt(SAE.from_pretrained(config.sae, revision=config.sae_revision), source)
        inputs["sae"] = sae_hash(adopted)

    def work() -> dict[str, Any]:
        saes = [adopted] if adopted is not None else _train_new(run, source, collection, configs, accelerator)
        _measure_together(saes, configs, source, collection, accelerator)
        if not accelerator.is_main_process:
            return {}
        chosen = save_saes(run.sae, saes, configs, varied)
        return {**chosen.config.training["metrics"], "n_saes": len(saes)}

    run.steps.do("train", inputs, lambda: _is_whole(run.sae), work, keep_record=accelerator.is_main_process)
    if accelerator.is_main_process:
        run.checkpoint_file.unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds an SAE that loads, and all those of its sweep."""
    try:
        sweep = read_sweep(folder)
        for subfolder in ("", *(sae.folder for sae in sweep.saes)) if sweep else ("",):
            load_folder(folder / subfolder)
    except CheckpointError as error:
        if folder.exists():
            say(str(error))
        return False
    return folder.is_dir()


def make_accelerator(run: Run) -> Accelerator:
    """The processes and devices, with the tracker of the configuration.

    Raises:
        ConfigError: the tracker is not installed, or several processes were launched that do not know of each other.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    name = run.config.train.tracker
    if name is not None and name not in [str(tracker) for tracker in get_available_trackers()]:
        raise ConfigError(
            f"the tracker {name!r} is not installed; Accelerate knows {', '.join(LOGGER_TYPE_TO_CLASS)}: "
            f"install one of them (pip install {name}), or leave out --tracker"
        )
    accelerator = Accelerator(log_with=name, project_dir=run.folder / "logs") if name is not None else Accelerator()
    check_launch(accelerator.num_processes)
    return accelerator


def sae_hash(sae: SAE) -> str:
    """Hash of an SAE's weights and architecture: its revision, where it has none on the Hub."""
    config = sae.config
    digest = hashlib.sha256(f"{config.architecture} {config.k} {config.subtract_decoder_bias}".encode())
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _adopt(sae: SAE, source: FeatureSource) -> SAE:
    """An SAE that was trained elsewhere; another library's checkpoint says from now on what it reads."""
    check_features(sae, source.info)
    if sae.config.backbone is None:
        sae.config = replace(sae.config, backbone=source.info)
    return sae


def _train_new(
    run: Run,
    source: FeatureSource,
    collection: Collection,
    configs: Sequence[TrainConfig],
    accelerator: Accelerator,
) -> list[SAE]:
    config = run.config.train
    rows = rows_of(collection, "train")
    found = moments(source, rows, at_most=SAMPLE_FOR_MOMENTS if isinstance(source, ImageSource) else None)
    n_steps = n_steps_for(config)

    def batches(start: int) -> Iterator[Tensor]:
        # Closed with the training, also when that fails, so that no thread reads on.
        with closing(
            iter(_stream(source, rows, config, n_steps, start, run.config.features.dtype, accelerator))
        ) as stream:
            yield from stream

    training = {
        "collection": collection.root.name,
        "n_images": len(rows),
        "n_patches": n_steps * config.batch_size,
        "seed_of_order": config.seed,
        "precision": accelerator.mixed_precision,
        "settings": {k: v for k, v in asdict(config).items() if k not in ("sae", "sae_revision", "sweep", "tracker")},
    }
    with _tracking(accelerator, config.tracker, training["settings"]):
        return train_saes(
            batches,
            configs,
            FeatureScale(
                mean=found.mean.float(), scale=max((found.mean_squared_deviation / source.info.d_model) ** 0.5, 1e-12)
            ),
            n_steps=n_steps,
            checkpoint=run.checkpoint_file,
            data=" ".join(
                [
                    source.fingerprint,
                    hashlib.sha256(rows.tobytes()).hexdigest(),
                    f"{n_steps} steps, order {config.seed}, {accelerator.num_processes} processes,",
                    accelerator.mixed_precision,
                ]
            ),
            accelerator=accelerator,
            own_batches=isinstance(source, ImageSource),
            backbone=source.info,
            training=training,
        )


@contextmanager
def _tracking(accelerator: Accelerator, tracker: str | None, settings: Mapping[str, Any]) -> Iterator[None]:
    """What is trained meanwhile is logged, and the log is closed whatever happens.

    `Accelerator.end_training` would end the processes' group too, which is still needed.
    """
    if tracker is None:
        yield
        return
    accelerator.init_trackers("sae-traits", config={name: str(value) for name, value in settings.items()})
    try:
        yield
    finally:
        for one in accelerator.trackers:
            one.finish()


def _stream(
    source: FeatureSource,
    rows: np.ndarray,
    config: TrainConfig,
    n_steps: int,
    start: int,
    dtype: DtypeName,
    accelerator: Accelerator,
) -> PatchStream | ImagePatchStream:
    """Shuffled batches from step `start` on; from images every process computes the features of its own images."""
    if isinstance(source, FeatureStore):
        n_patches, batch_size = n_steps * config.batch_size, config.batch_size
        return PatchStream(
            source,
            rows,
            n_patches=n_patches,
            batch_size=batch_size,
            seed=config.seed,
            start=start,
            device=accelerator.device,
        )
    assert isinstance(source, ImageSource)
    batch_size = config.batch_size // accelerator.num_processes
    return ImagePatchStream(
        source,
        rows[accelerator.process_index :: accelerator.num_processes],
        n_patches=n_steps * batch_size,
        batch_size=batch_size,
        seed=config.seed,
        start=start,
        dtype=dtype,
        device=accelerator.device,
    )


def measure_on_held_out(
    saes: Sequence[SAE], source: FeatureSource, collection: Collection, device: torch.device
) -> list[NDArray[np.bool_]]:
    """Measure SAEs on a sample of the images that are held out, and record that in their configurations.

    Returns:
        Of each SAE which latents fired `[n_latents]`.
    """
    held_out, split = _held_out(source, collection)
    fired = []
    for sae in saes:
        measured = measure_sae(sae.to(device), (shard.features for shard in held_out))
        monosemanticity = measure_monosemanticity(sae, held_out).to_dict()
        record_metrics(sae, {**measured.to_dict(), "monosemanticity": monosemanticity, "measured_on": split})
        fired.append(measured.firing_shares > 0)
        sae.cpu()
    return fired


def _measure_together(
    saes: Sequence[SAE],
    configs: Sequence[TrainConfig],
    source: FeatureSource,
    collection: Collection,
    accelerator: Accelerator,
) -> None:
    """Measure the SAEs of a training: every process some of them, and each SAE whole, as a single process would.

    Where SAEs differ in their seeds alone, `stability` says how alike they have become.
    """
    own = range(accelerator.process_index, len(saes), accelerator.num_processes)
    fired = measure_on_held_out([saes[i] for i in own], source, collection, accelerator.device) if own else []
    found = zip(own, fired, strict=True)
    measured = gather_object([(i, saes[i].config.training["metrics"], live) for i, live in found])
    live_of = {}
    for i, metrics, live in measured:
        record_metrics(saes[i], metrics)
        live_of[i] = live
    settings = _seeds_of_settings([i for i in range(len(saes)) if live_of[i].any()], configs)
    compared = []
    for members in settings[accelerator.process_index :: accelerator.num_processes]:
        alike = mean_stability([saes[i] for i in members], live=[live_of[i] for i in members])
        compared.append((members, alike.to_dict() | {"seeds": [configs[i].seed for i in members]}))
    for members, alike in gather_object(compared):
        for i in members:
            record_metrics(saes[i], {**saes[i].config.training["metrics"], "stability": alike})


def _seeds_of_settings(numbers: Sequence[int], configs: Sequence[TrainConfig]) -> list[list[int]]:
    """Those whose settings differ in the seed alone, together, where there are two or more."""
    together: dict[TrainConfig, list[int]] = {}
    for number in numbers:
        together.setdefault(replace(configs[number], seed=0), []).append(number)
    return [members for members in together.values() if len(members) > 1]


def _held_out(source: FeatureSource, collection: Collection) -> tuple[list[FeatureShard], str]:
    """A sample of held-out images, and their split: validation, or test or train where there is no other."""
    split, rows = next((s, rows) for s in ("validation", "test", "train") if len(rows := rows_of(collection, s)))
    if split == "train":
        say("no images are held out, so the SAE is measured on those that it was trained on")
    n_sampled = max(1, MEASURED_PATCHES // (source.info.rows * source.info.columns))
    sample = np.sort(np.random.default_rng(0).permutation(rows)[:n_sampled])
    return list(source.shards(sample)), split
