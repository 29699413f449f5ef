"""SAELens: its SAETrainer on its TopK and standard training SAEs."""
# The library is not in the environment of the type checker, which takes this module for it.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import tempfile
from itertools import chain
from typing import Any

import torch
from sae_lens import StandardTrainingSAE, StandardTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file

from .contract import Task, TimedBatches, Trained, answer, canonical

DEFAULT_LEARNING_RATE = SAETrainerConfig.lr


def train(batches: TimedBatches, task: Task) -> Trained:
    """Train with input scaling on, as its guide does; the scale is folded into the weights at the end."""
    measured = batches.first()
    sae = SAETrainer(
        cfg=_trainer_config(task, len(batches), len(measured)),
        sae=_sae(batches, task),
        data_provider=chain(measured, batches),
    ).fit()
    with tempfile.TemporaryDirectory() as folder:
        weights, _ = sae.save_inference_model(folder)
        tensors = load_file(weights)
    x = batches.batch(0)
    with torch.no_grad():
        return canonical(
            task, **{name: tensors[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}, x=x, reconstruction=sae(x)
        )


def _sae(batches: TimedBatches, task: Task) -> Any:
    common: dict[str, Any] = {
        "d_in": batches.d_model,
        "d_sae": task.n_latents,
        "normalize_activations": "expected_average_only_in",
    }
    if task.architecture == "topk":
        # Sparse activations cannot be rescaled by the decoder's norms.
        choice = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
        return TopKTrainingSAE(TopKTrainingSAEConfig(**common, k=task.k, **(choice if task.sparse_activations else {})))
    # Its error is summed over the d components of features scaled to a mean norm of sqrt(d), not their mean.
    scale = batches.d_model**0.5 / float(torch.cat(batches.first()).norm(dim=-1).mean())
    coefficient = task.l1_coefficient * batches.d_model * scale
    return StandardTrainingSAE(StandardTrainingSAEConfig(**common, l1_coefficient=coefficient))


def _trainer_config(task: Task, n_batches: int, n_measured: int) -> Any:
    learning_rate = DEFAULT_LEARNING_RATE if task.learning_rate is None else task.learning_rate
    settings: dict[str, Any] = {
        "total_training_samples": n_batches * task.batch_size,
        "train_batch_size_samples": task.batch_size,
        "lr": learning_rate,
        "lr_end": learning_rate,
        "lr_warm_up_steps": task.warmup_steps,
        "lr_decay_steps": task.decay_steps,
        "n_batches_for_norm_estimate": n_measured,
    }
    if task.dead_after is not None:
        settings["dead_feature_window"] = task.dead_after // task.batch_size  # in steps; dead is what exceeds it
    return SAETrainerConfig(**settings)


if __name__ == "__main__":
    answer(train, "sae-lens")
