"""Ask a CLIP model whether a run's traits help it: the same as `sae-traits evaluate`.

Example: python scripts/evaluate_zero_shot.py runs/moths --clip imageomics/bioclip
"""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
