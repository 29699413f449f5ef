"""Publish a run on the Hub: the same as `sae-traits publish`.

Example: python scripts/publish.py runs/moths --model-repo museum/moth-sae --dataset-repo museum/moth-traits --dry-run
"""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main(["publish", *sys.argv[1:]]))
