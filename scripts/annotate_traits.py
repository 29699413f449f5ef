"""Describe the regions of a run's chosen latents: the same as `sae-traits annotate`.

Example: python scripts/annotate_traits.py runs/moths --describer measured
"""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main(["annotate", *sys.argv[1:]]))
