"""`python -m sae_traits.cli`."""

import sys

from sae_traits.cli import main

sys.exit(main())
