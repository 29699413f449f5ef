"""Run by every process of test_processes.py: trains, and writes the learning curve and the weights' sums."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from sae_traits.config import TrainConfig
from sae_traits.sae.trainer import FeatureScale, train_saes

D_MODEL, BATCH_SIZE, N_STEPS = 16, 128, 40
ARCHITECTURES = ("topk", "batch_topk", "jump_relu", "relu")


def batches(start):
    directions = torch.randn(24, D_MODEL, generator=torch.Generator().manual_seed(99))
    for step in range(start, N_STEPS):
        weights = torch.rand(BATCH_SIZE, 24, generator=torch.Generator().manual_seed(step)).pow(8)
        yield weights @ directions


def main(folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    configs = [
        TrainConfig(architecture=name, n_latents=48, k=4, batch_size=BATCH_SIZE, warmup_steps=5, l1_coefficient=0.05)
        for name in ARCHITECTURES
    ]
    saes = train_saes(
        batches,
        configs,
        FeatureScale(mean=torch.zeros(D_MODEL), scale=1.0),
        n_steps=N_STEPS,
        checkpoint=folder / "training.checkpoint",
        data="drawn",
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        results = {
            sae.config.architecture: {
                "loss": sae.config.training["curve"]["loss"],
                "l0": sae.config.training["curve"]["l0"],
                "thresholds": sae.threshold.tolist() if sae.architecture.has_threshold else [],
                "processes": accelerator.num_processes,
            }
            for sae in saes
        }
        (folder / f"{accelerator.num_processes}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
