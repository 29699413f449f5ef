"""Make the CLIP of the drawn world with which `make demo` ends; see sae_traits/evaluation/demo_clip.

Example: python scripts/train_demo_clip.py --out /tmp/drawn_clip --cache /tmp/sketches
"""

import argparse
import sys
from pathlib import Path

from sae_traits.testbench.clip import DRAWN_CLIP


def main(arguments: list[str] | None = None) -> int:
    """Parse the options, make the model and print its accuracies."""
    parser = argparse.ArgumentParser(description="Make the CLIP of the drawn world with which `make demo` ends.")
    parser.add_argument("--out", type=Path, default=DRAWN_CLIP, help="Folder of the model.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of species, drawings, captions and weights.")
    parser.add_argument("--n-steps", type=int, default=600, help="Steps of training.")
    parser.add_argument("--n-species", type=int, default=2500, help="Species to invent.")
    parser.add_argument("--n-images", type=int, default=2, help="Drawings of each species.")
    parser.add_argument("--workers", type=int, default=2, help="Processes that draw.")
    parser.add_argument("--cache", type=Path, help="Folder that keeps the drawings between calls.")
    options = parser.parse_args(arguments)

    from sae_traits.testbench.clip.making import TRIAL_SEEDS, Recipe, make_clip
    from sae_traits.testbench.clip.training import TrainingSettings

    settings = TrainingSettings(seed=options.seed, n_steps=options.n_steps)
    recipe = Recipe(settings=settings, n_species=options.n_species, n_images=options.n_images)
    for seed, rows in zip(
        TRIAL_SEEDS, make_clip(options.out, recipe, workers=options.workers, cache=options.cache), strict=True
    ):
        for row in rows:
            print(f"drawing {seed}  {row.wording:<10}{row.condition:<32}{row.top1}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
