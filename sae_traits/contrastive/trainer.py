"""Train a CLIP further, on one process or many, resuming after a kill; what comes out `load_clip` reads."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor

from sae_traits.config.finetune import FinetuneConfig, PairsConfig, ScheduleConfig
from sae_traits.config.tree import as_dict
from sae_traits.contrastive.base_model import merge_low_rank, trainable_model
from sae_traits.contrastive.batches import (
    Loaded,
    Order,
    PairsDataset,
    RandomCrop,
    TextChoice,
    WholeImage,
    check_batch_size,
    load_batches,
)
from sae_traits.contrastive.card import write_clip_card
from sae_traits.contrastive.checkpoint import Curve, load_checkpoint, save_checkpoint
from sae_traits.contrastive.folder import CHECKPOINT, LOGS, MODEL, RECORD
from sae_traits.contrastive.objectives import OBJECTIVES
from sae_traits.contrastive.record import TrainingRecord, hashes_of
from sae_traits.contrastive.samples import Sample, check_species, examine_images, read_samples
from sae_traits.contrastive.texts import CutTexts, count_cut
from sae_traits.contrastive.training_state import Batch, TrainingState, mean_loss
from sae_traits.contrastive.validation import Validation
from sae_traits.contrastive.windows import WindowedOrder
from sae_traits.errors import CheckpointError, ConfigError, ReleaseError, StoreError
from sae_traits.features.accelerator import make_accelerator, tracking
from sae_traits.features.preprocessing import PreparePixels
from sae_traits.io import replacing
from sae_traits.logging import SECONDS_BETWEEN_LINES, duration, say
from sae_traits.models.clip.model import CLIPParts, info_of, read_clip, whole_image
from sae_traits.models.clip.saving import preprocessor_config, save_transformers
from sae_traits.models.clip.tokens import TextTokenizer
from sae_traits.release.cards import marked_section, read_card

POINTS_OF_A_CURVE = 200
"""Steps that the curve keeps; only at these does a training wait for the device."""


@dataclass(frozen=True)
class Finetuned:
    """What a training came to."""

    model: Path
    """Folder that `load_clip` reads."""
    n_steps: int
    n_pairs: int
    """Images with texts to train on."""
    curve: Curve
    """Losses and accuracies on validation images, each with its step."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"model": str(self.model), "n_steps": self.n_steps, "n_pairs": self.n_pairs, "curve": self.curve}

    def lines(self) -> list[str]:
        """For people."""
        losses = [point["loss"] for point in self.curve if "loss" in point]
        right = [point["validation_accuracy"] for point in self.curve if "validation_accuracy" in point]
        lines = [f"{self.n_steps:,} steps on {self.n_pairs:,} images: loss {losses[0]:.3f} -> {losses[-1]:.3f}"]
        if right:
            lines.append(f"validation images right by name alone: {right[0]:.1%} before, {right[-1]:.1%} after")
        return [*lines, str(self.model)]


def new_accelerator(config: FinetuneConfig, out: Path) -> Accelerator:
    """Accelerate as `accelerate launch` set it up; with several heads a step leaves parameters without a gradient.

    Raises:
        ConfigError: it computes in fp16, or there is no such tracker.
    """
    has_heads = config.base.caption_head != "none" or config.pairs.replay is not None
    parallel = DistributedDataParallelKwargs(find_unused_parameters=has_heads)
    accelerator = make_accelerator(config.schedule.tracker, out / LOGS, kwargs_handlers=[parallel])
    if accelerator.mixed_precision == "fp16":
        raise ConfigError("fp16 needs loss scaling, which is not supported; launch with --mixed_precision bf16 or no")
    return accelerator


def finetune(
    config: FinetuneConfig,
    out: Path,
    *,
    accelerator: Accelerator | None = None,
    seconds_between_checkpoints: float = 300.0,
) -> Finetuned:
    """Train as the configuration says, and write OUT/model and OUT/training.json; a tracker may write to OUT/logs.

    A training that was killed goes on from OUT/training.checkpoint when it is called again, with the weights that it
    would have had: bit by bit on a CPU, as long as the number of processes and threads is the same. One that has
    finished is not done again, as long as its files are as they were written.

    Raises:
        ConfigError, CollectionError, ReleaseError, BackboneError: settings, data and model do not go together.
        StoreError: the checkpoint cannot be read or written, or it or the finished model is of another training.
        CheckpointError: training diverged.
    """
    accelerator = accelerator or new_accelerator(config, out)
    parts = read_clip(config.base.model, revision=config.base.model_revision)
    model = trainable_model(parts, config)
    source = _Source(config, parts, accelerator)
    n_steps = source.n_steps
    if (finished := _finished(out, source)) is not None:
        return finished
    state = TrainingState(
        model,
        config.optimiser,
        OBJECTIVES[config.schedule.objective],
        accelerator,
        n_steps=n_steps,
        seed=config.schedule.seed,
        chunk_size=config.schedule.chunk_size,
    )
    # What cannot be saved is refused now, and not when the model has been trained.
    preprocessor_config(parts.preprocessing)
    marked_section(read_card(out / MODEL))
    out.mkdir(parents=True, exist_ok=True)
    key = _key(source)
    start, curve = load_checkpoint(out / CHECKPOINT, key, state)
    log = _Log(state, curve, source.validation, config.schedule)
    with tracking(accelerator, config.schedule.tracker, as_dict(config)):
        if start == 0:
            log.validate(0)
        saved = time.monotonic()
        for step, batch in zip(range(start, n_steps), source.batches(start), strict=False):
            log.note(step, state.step(step, batch))
            if accelerator.is_main_process and time.monotonic() - saved > seconds_between_checkpoints:
                if state.check_finite():  # else the last good one stays, until all processes know that it diverged
                    save_checkpoint(out / CHECKPOINT, step + 1, key, state, log.curve)
                saved = time.monotonic()
    if not state.check_finite():
        raise CheckpointError("training diverged: a weight is not finite; choose a lower --learning-rate")
    if accelerator.is_main_process:
        _save(out, state, source, log.curve)
    accelerator.wait_for_everyone()
    return Finetuned(out / MODEL, n_steps, len(source.samples), log.curve)


class _Source:
    """Batches of a training: its images and texts, and those that are replayed."""

    def __init__(self, config: FinetuneConfig, parts: CLIPParts, accelerator: Accelerator) -> None:
        self.config, self.parts, self.accelerator = config, parts, accelerator
        pairs, schedule = config.pairs, config.schedule
        for name, size in (("batch_size", schedule.batch_size), ("replay_batch_size", pairs.replay_batch_size)):
            if size % accelerator.num_processes:
                raise ConfigError(f"{name} {size} cannot be shared by {accelerator.num_processes} processes equally")
        images = examine_images(pairs)
        self.samples = read_samples(pairs, images=images)
        self.groups = self._groups()
        self.cut_texts = _say_what_is_cut(self.samples, pairs, parts.tokenizer) if accelerator.is_main_process else {}
        self.order = self._order()
        self.n_steps = max(1, round(schedule.epochs * self.order.steps_per_epoch))
        self.prepare = PreparePixels(whole_image(info_of(parts)))
        self.validation = Validation(read_samples(pairs, "validation", images), self.prepare, parts.tokenizer)
        self.replayed: list[Sample] = []
        if pairs.replay is not None:
            self.replayed = read_samples(_of_replay(pairs, pairs.replay))
            check_batch_size(pairs.replay_batch_size, len(self.replayed), "--replay-batch-size")

    def _order(self) -> Order | WindowedOrder:
        pairs, size, seed = self.config.pairs, self.config.schedule.batch_size, self.config.schedule.seed
        if pairs.stream:
            pictures = [sample.picture for sample in self.samples if sample.picture is not None]
            return WindowedOrder(pictures, size, seed, self.accelerator.num_processes)
        species = self.groups.numpy() if pairs.sampling != "all" else None
        return Order(len(self.samples), size, seed, pairs.sampling, species)

    def _groups(self) -> Tensor:
        """Species of each sample as a number; a sample without one is a group of its own."""
        pairs = self.config.pairs
        if pairs.sampling != "all":
            check_species(self.samples, pairs.data, f"--sampling {pairs.sampling}")
        if self.config.schedule.objective == "multi_positive":
            check_species(self.samples, pairs.data, "--objective multi_positive")
        names = [sample.species or f"\0{number}" for number, sample in enumerate(self.samples)]
        return torch.from_numpy(np.unique(names, return_inverse=True)[1].astype(np.int64))

    def batches(self, start: int) -> Iterator[Batch]:
        """This process's share of every step from `start` on."""
        pairs, seed = self.config.pairs, self.config.schedule.seed
        choice = TextChoice(pairs.text_types, pairs.text_weights, pairs.text_per)
        own = self._load(self.samples, self.order, choice, seed, start)
        replayed: Iterator[Loaded | None] = repeat(None)
        if self.replayed:
            order = Order(len(self.replayed), pairs.replay_batch_size, seed)
            replayed = self._load(self.replayed, order, TextChoice(("caption",)), seed + 1, start)
        is_headed = self.config.base.caption_head != "none"
        for step, loaded, more in zip(range(start, self.n_steps), own, replayed, strict=False):
            parts = [loaded] if more is None else [loaded, more]
            yield Batch(
                pixels=torch.cat([part.pixels for part in parts]),
                token_ids=self.parts.tokenizer.ids([text for part in parts for text in part.texts]),
                groups=self.groups[loaded.rows],
                head="caption" if is_headed and self._type_of(choice, step) == "caption" else "taxonomy",
                n_replayed=0 if more is None else len(more.texts),
            )

    def _type_of(self, choice: TextChoice, step: int) -> str | None:
        return choice.of_step(step) if choice.per == "batch" else choice.types[0]

    def _load(
        self, samples: Sequence[Sample], order: Order | WindowedOrder, choice: TextChoice, seed: int, start: int
    ) -> Iterator[Loaded]:
        info, share = self.prepare.info, self.config.pairs.min_crop
        crop = RandomCrop(info.framing.size[0], info.mean, info.std, share) if share < 1 else WholeImage(self.prepare)
        process, pictures = self.accelerator.process_index, None
        if isinstance(order, WindowedOrder):
            pictures = order.read(process, start, self.n_steps)
        return load_batches(
            PairsDataset(samples, crop, choice, seed),
            order,
            start,
            self.n_steps,
            process=process,
            n_processes=self.accelerator.num_processes,
            workers=self.config.pairs.workers,
            pictures=pictures,
        )


def _say_what_is_cut(samples: Sequence[Sample], pairs: PairsConfig, tokenizer: TextTokenizer) -> dict[str, CutTexts]:
    """Count the texts that the model reads only in part, and say how many there are."""
    length = tokenizer.context_length
    cut = count_cut([sample.texts for sample in samples], pairs.text_types, tokenizer.count, length)
    if cut:
        listed = ", ".join(f"{kind} {of.n_cut:,} of {of.n_texts:,}" for kind, of in cut.items())
        say(f"texts of more than {length} tokens are cut there: {listed}")
    return cut


def _of_replay(pairs: PairsConfig, replay: str) -> PairsConfig:
    return PairsConfig(data=replay, text_types=("caption",), without_text="drop", workers=pairs.workers)


def _what_is_trained(source: _Source) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings that change results; model, data and precision."""
    settings = as_dict(source.config)
    settings["pairs"] = {name: value for name, value in settings["pairs"].items() if name != "workers"}
    digest = hashlib.sha256()
    for sample in (*source.samples, *source.replayed):
        digest.update(json.dumps([sample.name, sample.species, sample.texts]).encode())
        if sample.picture is not None:
            digest.update(repr(sample.picture).encode())
    facts = {"model": source.parts.files.revision, "data": digest.hexdigest()}
    return settings, facts | {"precision": source.accelerator.mixed_precision}


def _fingerprint(source: _Source) -> str:
    """What a finished model belongs to, with whatever number of processes and threads it was trained."""
    return hashlib.sha256(json.dumps(_what_is_trained(source), sort_keys=True).encode()).hexdigest()


def _key(source: _Source) -> str:
    """What a checkpoint belongs to: also processes and threads, so that it goes on with the same bits."""
    settings, facts = _what_is_trained(source)
    n_threads = torch.get_num_threads() if source.accelerator.device.type == "cpu" else 0
    facts |= {"processes": source.accelerator.num_processes, "threads": n_threads}
    return json.dumps([settings, facts], sort_keys=True)


def _finished(out: Path, source: _Source) -> Finetuned | None:
    """The training that has finished in a folder; None where there is none, or its files are not as it wrote them.

    Raises:
        StoreError: it is another training.
    """
    if not (out / RECORD).is_file() or (out / CHECKPOINT).exists():
        return None
    try:
        record = TrainingRecord.load(out)
        if record.fingerprint != _fingerprint(source):
            raise StoreError(
                f"{out} has a finished training of other settings, data or model, or of an earlier version; choose "
                f"another --out, or delete {out / RECORD} to train anew in its place"
            )
        record.check(out / MODEL)
    except ReleaseError as error:
        what, _, _ = str(error).partition("; ")  # what to do is being done
        say(f"finetune: {what}, so the model is trained again")
        return None
    say("finetune: complete and its inputs have not changed, skipped")
    return Finetuned(out / MODEL, record.n_steps, record.n_pairs, record.curve)


def _save(out: Path, state: TrainingState, source: _Source, curve: Curve) -> None:
    """Write OUT/model with its card, and OUT/training.json; the checkpoint is no longer needed."""
    model, parts, existing = merge_low_rank(state.best), source.parts, read_card(out / MODEL)
    with replacing(out / MODEL) as folder:
        save_transformers(model.clip, model.others(), parts.preprocessing, parts.files, folder)
        record = TrainingRecord(
            config=source.config,
            base=parts.files.name,
            base_revision=parts.files.revision,
            n_pairs=len(source.samples),
            n_steps=source.n_steps,
            licenses=dict(Counter(one.license for one in (*source.samples, *source.replayed)).most_common()),
            cut_texts=source.cut_texts,
            curve=curve,
            files=hashes_of(folder),
            fingerprint=_fingerprint(source),
        )
        write_clip_card(folder, record, repo_id=None, existing=existing)
    record.save(out)
    (out / CHECKPOINT).unlink(missing_ok=True)


class _Log:
    """The curve of a training, and its progress."""

    def __init__(self, state: TrainingState, curve: Curve, validation: Validation, schedule: ScheduleConfig) -> None:
        self.state, self.curve, self.n_steps, self.validation = state, curve, state.n_steps, validation
        self._batch_size, n = schedule.batch_size, schedule.evaluations
        self._evaluated_after = {round(state.n_steps * part / n) for part in range(1, n + 1)}
        self._started = self._said = time.monotonic()
        self._n_done = 0

    def note(self, step: int, loss: Tensor) -> None:
        """Say and keep the loss of a step, if it is time to, and classify the validation images where it is due."""
        self._n_done += 1
        last = step + 1 == self.n_steps
        if last or step % max(1, self.n_steps // POINTS_OF_A_CURVE) == 0:
            # Decided by the step alone, because all processes must take part.
            point = {"step": step + 1, "loss": mean_loss(loss, self.state.accelerator)}
            self.curve.append(point | {"learning_rate": self.state.learning_rate(step)})
            self._track(step, {"loss": point["loss"]})
            if math.isnan(point["loss"]):
                raise CheckpointError(
                    f"training diverged: the loss of step {step + 1} is not finite; choose a lower --learning-rate"
                )
            self._say(step, point["loss"], last=last)
        if step + 1 in self._evaluated_after:
            self.validate(step + 1)

    def validate(self, n_steps: int) -> None:
        """Classify the validation images after so many steps, in the main process."""
        accelerator = self.state.accelerator
        if not (self._evaluated_after and self.validation):
            return
        if accelerator.is_main_process:
            accuracy = self.validation.accuracy(self.state.best)
            self.curve.append({"step": n_steps, "validation_accuracy": accuracy})
            self._track(n_steps - 1, {"validation_accuracy": accuracy})
            of = f"{len(self.validation.samples)} images of {len(self.validation.species)} species"
            say(f"validation after step {n_steps}: {accuracy:.1%} right of {of}")
        accelerator.wait_for_everyone()

    def _track(self, step: int, values: dict[str, float]) -> None:
        if self.state.accelerator.trackers:
            self.state.accelerator.log(values, step=step + 1)

    def _say(self, step: int, loss: float, *, last: bool) -> None:
        now = time.monotonic()
        if not self.state.accelerator.is_main_process or (not last and now - self._said < SECONDS_BETWEEN_LINES):
            return
        self._said = now
        rate = self._n_done / max(now - self._started, 1e-9)
        left = (self.n_steps - step - 1) / rate
        say(
            f"finetune: step {step + 1} of {self.n_steps}, loss {loss:.4f}, {rate * self._batch_size:,.1f} images/s, "
            f"{duration(left)} left"
        )
