"""`python -m sae_traits`, and `accelerate launch -m sae_traits train RUN`."""

import sys

from sae_traits.cli import main

if __name__ == "__main__":
    sys.exit(main())
