"""Extract patch features under `accelerate launch`: the same as `sae-traits extract`, on several devices or machines.

Example, after `sae-traits collect photographs/ --out runs/moths`:
    accelerate launch --num_processes 4 scripts/extract_features.py photographs/ --out runs/moths
"""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
