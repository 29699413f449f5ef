"""dictionary_learning: its trainSAE with the TopK and the standard trainer."""
# The library is not in the environment of the type checker, which takes this module for it.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from .contract import Task, TimedBatches, Trained, answer, canonical
from .torchvision_operators import declare_missing_operators

declare_missing_operators()

from dictionary_learning.dictionary import AutoEncoder  # noqa: E402
from dictionary_learning.trainers.standard import StandardTrainer  # noqa: E402
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer  # noqa: E402
from dictionary_learning.training import trainSAE  # noqa: E402


class TopKTrainerWithEarlierRevival(TopKTrainer):
    """The TopK trainer with a shorter wait than its fixed ten million patches before a latent counts as dead."""

    def __init__(self, *, dead_after: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.dead_feature_threshold = dead_after


def train(batches: TimedBatches, task: Task) -> Trained:
    """Train with input scaling on, as its demonstration does; the scale is folded into the weights at the end."""
    with tempfile.TemporaryDirectory() as folder:
        trainSAE(
            data=batches,
            trainer_configs=[_trainer_config(batches, task)],
            steps=len(batches),
            save_dir=folder,
            normalize_activations=True,
            device="cpu",
        )
        file = Path(folder, "trainer_0", "ae.pt")
        is_topk = task.architecture == "topk"
        sae = AutoEncoderTopK.from_pretrained(file) if is_topk else AutoEncoder.from_pretrained(file)
    x = batches.batch(0)
    with torch.no_grad():
        return canonical(
            task,
            W_enc=sae.encoder.weight.T,
            b_enc=sae.encoder.bias,
            W_dec=sae.decoder.weight.T,
            b_dec=sae.b_dec if is_topk else sae.bias,
            x=x,
            reconstruction=sae(x),
        )


def _trainer_config(batches: TimedBatches, task: Task) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "steps": len(batches),
        "activation_dim": batches.d_model,
        "dict_size": task.n_latents,
        "layer": 0,
        "lm_name": "none",
        "warmup_steps": task.warmup_steps,
        "decay_start": len(batches) - task.decay_steps if task.decay_steps else None,
        "seed": task.seed,
        "device": "cpu",
    }
    if task.learning_rate is not None:
        settings["lr"] = task.learning_rate
    if task.architecture == "topk":
        settings |= {"trainer": TopKTrainer, "k": task.k}
        if task.dead_after is not None:
            settings |= {"trainer": TopKTrainerWithEarlierRevival, "dead_after": task.dead_after}
        return settings
    # Its error is summed over the d components of features scaled to a mean squared norm of one, not their mean.
    scale = 1 / float(torch.cat(batches.first()).square().sum(1).mean().sqrt())
    return settings | {
        "trainer": StandardTrainer,
        "l1_penalty": task.l1_coefficient * batches.d_model * scale,
        "sparsity_warmup_steps": task.warmup_steps,
    }


if __name__ == "__main__":
    answer(train, "dictionary-learning")
