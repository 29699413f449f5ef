"""Train a CLIP under `accelerate launch`: the same as `sae-traits finetune`, on several devices or machines.

Example: accelerate launch --num_processes 4 --mixed_precision bf16 scripts/finetune.py --data runs/moths \
    --model imageomics/bioclip --out runs/clip
"""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
