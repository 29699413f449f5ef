"""Run by every process of test_processes.py and test_kills.py: trains, and writes the curves and the weights.

`processes_script.py FOLDER`: from batches that all processes have, and again from batches of their own.
`processes_script.py FOLDER SECONDS`: the first alone, with a checkpoint at every step and a delay of SECONDS before it.
"""

import functools
import json
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from train_configs import train_config

from sae_traits.sae.trainer import FeatureScale, train_saes

D_MODEL, BATCH_SIZE, N_STEPS = 16, 128, 40
ARCHITECTURES = ("topk", "batch_topk", "jump_relu", "relu")


def batches(start, delay=0.0):
    directions = torch.randn(24, D_MODEL, generator=torch.Generator().manual_seed(99))
    for step in range(start, N_STEPS):
        time.sleep(delay)
        weights = torch.rand(BATCH_SIZE, 24, generator=torch.Generator().manual_seed(step)).pow(8)
        yield weights @ directions


def shares_of_batches(start, process, n_processes):
    """The rows of the same batches that fall to one process, as if it had made them itself."""
    for batch in batches(start):
        yield batch[process::n_processes]


def train(folder, accelerator, source, **options):
    configs = [
        train_config(name, n_latents=48, k=4, batch_size=BATCH_SIZE, warmup_steps=5, l1_coefficient=0.05)
        for name in ARCHITECTURES
    ]
    return train_saes(
        source,
        configs,
        FeatureScale(mean=torch.zeros(D_MODEL), scale=1.0),
        n_steps=N_STEPS,
        checkpoint=folder / "training.checkpoint",
        data="drawn",
        accelerator=accelerator,
        **options,
    )


def results(saes, accelerator):
    return {
        sae.config.architecture: {
            "loss": sae.config.training["curve"]["loss"],
            "l0": sae.config.training["curve"]["l0"],
            "thresholds": [value for threshold in sae.thresholds for value in threshold.tolist()],
            "processes": accelerator.num_processes,
        }
        for sae in saes
    }


def main(folder: Path, seconds: float | None) -> None:
    accelerator = Accelerator(cpu=True)
    if seconds is not None:
        source = functools.partial(batches, delay=seconds)
        saes = train(folder, accelerator, source, seconds_between_checkpoints=0.0)
        if accelerator.is_main_process:
            torch.save([sae.state_dict() for sae in saes], folder / "weights.pt")
        return
    found = {"common": results(train(folder, accelerator, batches), accelerator)}
    own = functools.partial(shares_of_batches, process=accelerator.process_index, n_processes=accelerator.num_processes)
    found["own"] = results(train(folder, accelerator, own, batches_are_shares=True), accelerator)
    if accelerator.is_main_process:
        (folder / f"{accelerator.num_processes}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else None)
