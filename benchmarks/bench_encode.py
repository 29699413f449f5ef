"""Sparse encoding beside dense encoding: patches a second and peak memory, at about 100 active latents a patch.

Prints a Markdown table; 2 min on two cores: python benchmarks/bench_encode.py [--rounds 3]

Every measurement is a process of its own, forked from one that has computed nothing, and a round runs every way once.
Memory is the highest resident memory during an encoding less the resident memory before it (VmHWM, cleared before),
which sees all libraries; so this needs Linux.
"""

import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from tables import describe_machine, markdown_table
from torch import Tensor

from sae_traits import SAE, SAEConfig

D_MODEL, N_PATCHES, L0 = 768, 2048, 100
WIDTHS = (6144, 24576)
REPEATS = 3


def make_sae(name: str, n_latents: int) -> SAE:
    """Random weights; of relu with the bias that leaves L0 latents of random features active."""
    k = L0 if name == "topk" else None
    sae = SAE.from_config(SAEConfig(architecture=name, d_model=D_MODEL, n_latents=n_latents, k=k))
    if name == "relu":
        with torch.no_grad():
            sae.b_enc.fill_(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(L0 / n_latents)))
    return sae


def dense(sae: SAE, x: Tensor) -> Tensor:
    """All latents, also the zeros."""
    return sae.encode(x)


def dense_then_nonzero(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes by way of all latents."""
    latents = sae.encode(x)
    places = latents.nonzero()
    return places, latents[places[:, 0], places[:, 1]]


def sparse(sae: SAE, x: Tensor) -> Tensor:
    """Codes."""
    return sae.encode_sparse(x).values


WAYS = {"dense": dense, "dense, then nonzero": dense_then_nonzero, "encode_sparse": sparse}


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (highest) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


@torch.no_grad()
def measure(architecture: str, n_latents: int, way: str) -> dict[str, float]:
    """Seconds of one encoding, the fastest of REPEATS, and the bytes that one needs."""
    sae, encode = make_sae(architecture, n_latents), WAYS[way]
    x = torch.randn(N_PATCHES, D_MODEL, generator=torch.Generator().manual_seed(0))
    encode(sae, x[:64])
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    encode(sae, x)
    peak = resident_bytes("VmHWM") - before
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        encode(sae, x)
        seconds.append(time.perf_counter() - started)
    sample = x[: N_PATCHES // 8]
    return {"seconds": min(seconds), "bytes": peak, "l0": len(sae.encode_sparse(sample).values) / len(sample)}


def main() -> None:
    """Measure all ways in turn, several rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{describe_machine()}, {torch.get_num_threads()} threads; d_model {D_MODEL}, {N_PATCHES} patches; median\n")
    tasks = [(name, width, way) for name in ("relu", "topk") for width in WIDTHS for way in WAYS]
    found: dict[tuple[str, int, str], list[dict[str, float]]] = {task: [] for task in tasks}
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as processes:
        for _ in range(arguments.rounds):
            for task in tasks:
                found[task].append(processes.apply(measure, task))
    rows = []
    for (name, width, way), results in found.items():
        rates = sorted(N_PATCHES / result["seconds"] for result in results)
        megabytes = statistics.median(result["bytes"] for result in results) / 2**20
        speed = f"{statistics.median(rates):,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})"
        rows.append([name, f"{width:,}", f"{results[0]['l0']:.0f}", way, speed, f"{megabytes:.0f}"])
    print(markdown_table(["architecture", "latents", "L0", "way", "patches/s", "peak MiB"], rows))


if __name__ == "__main__":
    main()
