"""Run by test_finetune_kills.py: `finetune_script.py DATA MODEL OUT [stream]`, with a checkpoint at every step."""

import sys
from pathlib import Path

from accelerate import Accelerator
from small_pairs import config_of

from sae_traits.contrastive.trainer import finetune

if __name__ == "__main__":
    data, model, out, *stream = sys.argv[1:]
    config = config_of(
        data,
        model,
        pairs={
            "text_types": ("sci", "taxon", "caption"),
            "text_weights": (1, 1, 2),
            "workers": 2,
            "stream": bool(stream),
            "without_text": "drop",
        },
        schedule={"epochs": 24, "batch_size": 6, "evaluations": 0},
        optimiser={"average_decay": 0.9},
    )
    finetune(config, Path(out), accelerator=Accelerator(cpu=True), seconds_between_checkpoints=0.0)
