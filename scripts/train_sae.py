"""Train an SAE under `accelerate launch`: the same as `sae-traits train`, on several devices or machines.

Example: accelerate launch --num_processes 4 scripts/train_sae.py runs/moths --n-latents 24576
"""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
