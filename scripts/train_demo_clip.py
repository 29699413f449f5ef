"""Make the CLIP of the drawn world with which `make demo` ends, in sae_traits/testbench/drawn_clip.

Its README.md is written by hand; this prints the table in it: accuracies on the species of the demo, which the model
has not seen. Example:

    python scripts/train_demo_clip.py --out /tmp/drawn_clip
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from sae_traits.testbench.demo import DRAWN_CLIP

TRIAL_SEEDS = (0, 1, 2)
"""Drawings of the demo's species that the table gives figures for."""


def main(arguments: list[str] | None = None) -> int:
    """Draw, train, save, and measure the model as whoever loads it gets it."""
    parser = argparse.ArgumentParser(description="Make the CLIP of the drawn world with which `make demo` ends.")
    parser.add_argument("--out", type=Path, default=DRAWN_CLIP, help="Folder of the model.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of species, drawings, captions and weights.")
    parser.add_argument("--n-steps", type=int, default=600, help="Steps of training.")
    parser.add_argument("--n-species", type=int, default=2500, help="Species to invent.")
    parser.add_argument("--n-images", type=int, default=2, help="Drawings of each species.")
    parser.add_argument("--workers", type=int, default=2, help="Processes that draw.")
    options = parser.parse_args(arguments)

    from demo_clip.model import halve_weights, input_framing
    from demo_clip.scoring import draw_trial, score
    from demo_clip.sketches import sketch_species
    from demo_clip.training import TrainingSettings, train
    from sae_traits.logging import printing_to_stderr
    from sae_traits.models.clip.model import load_clip

    with printing_to_stderr(), tempfile.TemporaryDirectory() as folder:
        sketches = sketch_species(
            options.seed, options.n_species, options.n_images, input_framing(), workers=options.workers
        )
        started = time.monotonic()
        trained = train(sketches, TrainingSettings(seed=options.seed, n_steps=options.n_steps), Path(folder))
        minutes = (time.monotonic() - started) / 60
        halve_weights(trained.model, options.out)
    clip = load_clip(options.out)
    trials = [score(clip, draw_trial(seed), seed=seed) for seed in TRIAL_SEEDS]
    lines = [
        f"Trained in {minutes:.0f} minutes: {clip.info.n_parameters / 1e6:.1f} million parameters.",
        "",
        "| texts | condition | " + " | ".join(f"drawing {seed}" for seed in TRIAL_SEEDS) + " |",
        "| --- | --- |" + " --- |" * len(TRIAL_SEEDS),
    ]
    for rows in zip(*trials, strict=True):
        lines.append(f"| {rows[0].wording} | {rows[0].condition} | " + " | ".join(str(r.top1) for r in rows) + " |")
    print("\n".join(lines))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
