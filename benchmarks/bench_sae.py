"""Training speed beside three other SAE libraries, each in its own environment and with its own trainer.

    make benchmark-environments && python benchmarks/bench_sae.py [--rounds 3] [--steps 6] [--quick]

Every measurement is a process of its own; a round runs every library once, in an order dealt anew, on the same file of
features. Prints a Markdown table: the median over rounds and the range. About 8 minutes a round on two cores.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from contestants import NAMES, OURS, check_environments, run_task
from peers.contract import PATCHES, Task
from safetensors.torch import save_file
from tables import describe_machine, markdown_table
from torch.nn import functional

DISTINCT_BATCHES = 8
"""The file of features holds so many; after that they come again."""


@dataclass(frozen=True)
class Contestant:
    """A library, with the settings that matter for its speed."""

    name: str
    """Module in `peers`."""
    setting: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the Task."""

    @property
    def label(self) -> str:
        """The first column of the table."""
        return f"{NAMES[self.name]}, {self.setting}" if self.setting else NAMES[self.name]


CONTESTANTS = {
    "topk": (
        Contestant(OURS),
        Contestant(OURS, "dead-latent loss on", {"dead_after": 1}),
        Contestant("sae_lens", "sparse activations", {"sparse_activations": True}),
        Contestant("sae_lens", "dense activations (its default)"),
        Contestant("sae_lens", "sparse, dead-latent loss on", {"sparse_activations": True, "dead_after": 1}),
        Contestant("dictionary_learning"),
        Contestant("dictionary_learning", "dead-latent loss on", {"dead_after": 1}),
        Contestant("overcomplete", "squared error"),
        Contestant("overcomplete", "auxiliary loss", {"dead_after": 1}),
    ),
    "relu": (*(Contestant(name) for name in NAMES), Contestant(OURS, "over 100 steps", {"n_steps": 100})),
}
"""Ours multiplies with the active latents of ReLU alone once they are few, which the first steps do not show.

Dead-latent losses act only once latents have been silent for 200,000 patches (ours) or a million and more, which no
benchmark reaches: each library is measured as it begins, and with the loss on from the start."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the problem is."""

    d_model: int
    n_latents: tuple[int, ...]
    batch_size: int
    k: int


FULL = Size(d_model=768, n_latents=(6144, 24576), batch_size=1024, k=32)
QUICK = Size(d_model=64, n_latents=(256, 512), batch_size=128, k=8)


def draw_features(size: Size) -> torch.Tensor:
    """Sums of a few random directions, with noise, off centre `[n_patches, d_model]`."""
    generator = torch.Generator().manual_seed(0)
    n_patches, n_directions = DISTINCT_BATCHES * size.batch_size, 4 * size.d_model
    directions = functional.normalize(torch.randn(n_directions, size.d_model, generator=generator), dim=1)
    active = torch.rand(n_patches, n_directions, generator=generator) < 20 / n_directions
    strength = torch.rand(n_patches, n_directions, generator=generator) * active
    noise = 0.02 * torch.randn(n_patches, size.d_model, generator=generator)
    return strength @ directions + noise + 0.1 * torch.randn(size.d_model, generator=generator)


def measure(size: Size, patches: Path, *, rounds: int, steps: int) -> tuple[dict[Any, list[float]], dict[str, str]]:
    """Patches a second of every contestant, architecture and width in every round; and the versions."""
    rates: dict[Any, list[float]] = {}
    versions: dict[str, str] = {}
    for number in range(rounds):
        cells = [
            (architecture, contestant, n_latents)
            for architecture, n_latents in product(CONTESTANTS, size.n_latents)
            for contestant in CONTESTANTS[architecture]
        ]
        random.Random(number).shuffle(cells)
        for architecture, contestant, n_latents in cells:
            options = {"n_steps": steps} | contestant.options
            task = Task(
                action="steps",
                patches=str(patches),
                architecture=architecture,
                n_latents=n_latents,
                batch_size=size.batch_size,
                k=size.k,
                warmup_steps=1,
                **options,
            )
            said = run_task(contestant.name, task)
            rate = said["patches_per_second"]
            rates.setdefault((architecture, contestant.label, n_latents), []).append(rate)
            versions |= said["versions"]
            done = f"round {number + 1}: {architecture}, {contestant.label}, {n_latents:,} latents"
            print(f"{done}: {rate:,.0f} patches/s", file=sys.stderr, flush=True)
    return rates, versions


def report(rates: dict[Any, list[float]], size: Size, architecture: str) -> list[str]:
    """The table of one architecture, and how we stand to the best of those others that revive dead latents as we do."""
    contestants = CONTESTANTS[architecture]

    def cell(label: str, n_latents: int) -> str:
        values = rates[architecture, label, n_latents]
        return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"

    rows = [[c.label, *(cell(c.label, width) for width in size.n_latents)] for c in contestants]
    header = [f"{architecture}, patches/s", *(f"{width:,} latents" for width in size.n_latents)]
    lines = ["", markdown_table(header, rows), ""]
    for width in size.n_latents:
        for contestant in (c for c in contestants if c.name == OURS):
            reviving = "dead_after" in contestant.options
            others = [c.label for c in contestants if c.name != OURS and ("dead_after" in c.options) == reviving]
            best = max(others, key=lambda label: statistics.median(rates[architecture, label, width]))
            # Per round, as what else ran on the machine then slowed both.
            rounds = zip(rates[architecture, contestant.label, width], rates[architecture, best, width], strict=True)
            ratios = [ours / other for ours, other in rounds]
            lines.append(
                f"{architecture}, {width:,} latents: {contestant.label} {statistics.median(ratios):.2f} times the best "
                f"other, {best} ({min(ratios):.2f} to {max(ratios):.2f} per round)"
            )
    return lines


def main() -> None:
    """Measure all, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="Steps that are timed, after two that are not.")
    parser.add_argument("--quick", action="store_true", help="A tiny problem: does it run?")
    arguments = parser.parse_args()
    check_environments()
    size = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        patches = Path(folder, "patches.safetensors")
        save_file({PATCHES: draw_features(size)}, patches)
        rates, versions = measure(size, patches, rounds=arguments.rounds, steps=arguments.steps)
    print(f"{describe_machine()}; " + ", ".join(f"{name} {number}" for name, number in sorted(versions.items())))
    print(f"d_model {size.d_model}, batch {size.batch_size}, k {size.k}, {arguments.steps} steps, "
          f"median of {arguments.rounds} rounds (range)")  # fmt: skip
    for architecture in CONTESTANTS:
        print("\n".join(report(rates, size, architecture)))


if __name__ == "__main__":
    main()
