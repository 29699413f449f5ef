"""What the pipeline does on a GPU: DINOv2-base, sparse encoding, SAE training, photographs, fine-tuning of CLIPs.

    python benchmarks/gpu.py                          without a CUDA GPU it says so and measures nothing
    python benchmarks/gpu.py --device cpu --tiny      the same code on a CPU, much smaller: does it run?

The backbone and the CLIPs have random weights, made here. Prints a Markdown table; less than ten minutes on a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_finetuning
import numpy as np
import torch
from bench_extraction import PREPROCESSOR, make_photographs
from measured_device import MeasuredDevice, Precision
from tables import describe_machine, markdown_table
from torch import Tensor
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model

from sae_traits.config import ReLU, TopK, TrainConfig
from sae_traits.config.features import VisionModel
from sae_traits.features.backbone import Backbone, load_backbone
from sae_traits.features.loading import prepared_batches
from sae_traits.features.source import ImageSource
from sae_traits.features.stream import PatchStream, moments
from sae_traits.logging import say
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.model import SAE, SAEConfig
from sae_traits.sae.sparse_encoding import SparseCodes
from sae_traits.sae.trainer import FeatureScale, train_saes
from sae_traits.schema import Collection

ACTIVE_LATENTS = 100
"""The firing threshold of the encoding lets about so many latents of a patch through."""
DISTINCT_BATCHES = 8
WARMUP_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the problem is."""

    model: dict[str, Any]
    """Of Dinov2Config; nothing is DINOv2-base."""
    side: int
    """Of the model's input, in pixels."""
    layer: int
    image_batch_size: int
    repeats: int
    """Batches of images that are timed."""
    n_latents: int
    k: int
    batch_size: int
    n_steps: int
    """Training steps that are timed; hundreds, or the learning curve waits for the device at every one of them."""
    n_photographs: int
    photographs_at_once: int
    passes: int
    """Over the photographs, when training streams from them."""
    encode_bytes: int
    """Transient memory of the sparse encoding, beside its default of 64 MB."""


FULL = Size(
    model={},
    side=224,
    layer=11,
    image_batch_size=256,
    repeats=20,
    n_latents=24576,
    k=32,
    batch_size=16384,
    n_steps=500,
    n_photographs=1024,
    photographs_at_once=64,
    passes=8,
    encode_bytes=4 * 2**30,
)
TINY = Size(
    model={"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2},
    side=56,
    layer=2,
    image_batch_size=4,
    repeats=2,
    n_latents=256,
    k=4,
    batch_size=64,
    n_steps=4,
    n_photographs=8,
    photographs_at_once=4,
    passes=8,
    encode_bytes=2**20,
)


@dataclass(frozen=True)
class Bench(MeasuredDevice):
    """Where and how large, and what was found."""

    size: Size
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """What, the figure, and the peak of memory."""

    def add(self, what: str, work: Callable[[], str]) -> None:
        """Measure one figure; where memory does not suffice the row says so, and the next one is measured."""
        say(what)
        self.forget_peak()
        try:
            figure, memory = work(), self.peak()
        except torch.OutOfMemoryError:
            figure, memory = "out of memory", ""
        self.rows.append((what, figure, memory))
        gc.collect()
        self.empty()


def make_model(folder: Path, size: Size) -> Path:
    """DINOv2 with random weights."""
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(image_size=size.side, **size.model)).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": size.side * 8 // 7}, "crop_size": {"height": size.side, "width": size.side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | sizes))
    return folder


def load(folder: Path, bench: Bench, precision: Precision) -> Backbone:
    """The model as the pipeline loads it."""
    compute_dtype = "float32" if precision == "fp32" else "bfloat16"
    model = VisionModel(model=str(folder), layer=bench.size.layer, compute_dtype=compute_dtype)
    return load_backbone(model, device=str(bench.device))


def images_to_codes(bench: Bench, model: Path) -> None:
    """Images a second through the backbone, and on to sparse codes; and what half precision changes."""
    size = bench.size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(size.image_batch_size, 3, size.side, size.side, generator=generator).to(bench.device)
    encoders: dict[Precision, Backbone] = {"bf16": load(model, bench, "bf16"), "fp32": load(model, bench, "fp32")}
    sample = encoders["fp32"].encode(pixels[:1])[0]
    sae = random_sae(sample, size.n_latents)
    threshold = threshold_of(sae, sample)

    def features(precision: Precision) -> Tensor:
        return encoders[precision].encode(pixels).flatten(0, 1)

    def codes(of: Precision, max_bytes: int = size.encode_bytes) -> SparseCodes:
        return sae.encode_sparse(features(of), threshold, max_bytes=max_bytes)

    def rate(work: Callable[[], object]) -> str:
        return f"{len(pixels) / bench.seconds(work, size.repeats):,.0f} images/s"

    for precision in encoders:
        bench.add(f"forward, {precision}", lambda p=precision: rate(lambda: features(p)))
        for max_bytes in (64 * 2**20, size.encode_bytes):
            what = f"forward + sparse encode, {precision}, {max_bytes / 2**20:,.0f} MB for encoding"
            bench.add(what, lambda p=precision, m=max_bytes: rate(lambda: codes(p, m)))

    def difference() -> str:
        exact = features("fp32")
        error = (features("bf16") - exact).square().mean().sqrt() / exact.std()
        return f"RMS difference {float(error):.2%} of their standard deviation"

    def l0() -> str:
        exact = codes("fp32")
        return f"{len(exact.latents) / (len(exact.offsets) - 1):.0f}"

    bench.add("L0 of these codes", l0)
    bench.add("features, bf16 against fp32", difference)
    bench.add("fired set of features, bf16 against fp32", lambda: f"IoU {overlap(codes('bf16'), codes('fp32')):.6f}")


def random_sae(features: Tensor, n_latents: int) -> SAE:
    """A ReLU SAE with random directions, centred on the features `[n, d_model]`."""
    config = SAEConfig(architecture="relu", d_model=features.shape[1], n_latents=n_latents)
    sae = SAE.from_config(config).to(features.device)
    with torch.no_grad():
        sae.b_dec.copy_(features.mean(0))
    return sae.eval().requires_grad_(False)


def threshold_of(sae: SAE, features: Tensor) -> float:
    """What about ACTIVE_LATENTS latents a patch exceed, on a sample of features `[n, d_model]`.

    It lies between two values, so that no rounding crosses it.
    """
    latents = sae.encode(features).flatten()
    return float(latents.topk(ACTIVE_LATENTS * len(features) + 1, sorted=True).values[-2:].mean())


def overlap(one: SparseCodes, other: SparseCodes) -> float:
    """Places that fired in both, over places that fired in either."""
    first, second = (codes.rows() * codes.n_latents + codes.latents for codes in (one, other))
    shared = int(torch.isin(first, second).sum())
    return shared / (len(first) + len(second) - shared)


def drawn_batches(bench: Bench, d_model: int) -> list[Tensor]:
    """Sums of a few random directions with noise, on the device `[batch_size, d_model]` each."""
    generator = torch.Generator(bench.device).manual_seed(0)
    options: dict[str, Any] = {"generator": generator, "device": bench.device}
    n = bench.size.batch_size
    directions = functional.normalize(torch.randn(4 * d_model, d_model, **options), dim=1)
    batches = []
    for _ in range(DISTINCT_BATCHES):
        chosen = torch.randint(len(directions), (n, 20), **options)
        strength = torch.rand(n, 20, **options)
        sums = functional.embedding_bag(chosen, directions, per_sample_weights=strength, mode="sum")
        batches.append(sums + 0.02 * torch.randn(n, d_model, **options))
    return batches


def training(bench: Bench, d_model: int) -> None:
    """Patches a second of `train_saes` on features that lie on the device, and what half precision changes."""
    *batches, held_out = drawn_batches(bench, d_model)

    def figure(architecture: str, precision: Precision) -> str:
        rate, sae = train_on_device(bench, batches, architecture, precision)
        metrics = measure_sae(sae.to(bench.device), [held_out])
        return f"{rate:,.0f} patches/s; explained variance {metrics.explained_variance:.4f}, L0 {metrics.l0:.1f}"

    cells: tuple[tuple[str, Precision], ...] = (("topk", "bf16"), ("relu", "bf16"), ("topk", "fp32"))
    for architecture, precision in cells:
        bench.add(f"training {architecture}, {precision}", lambda a=architecture, p=precision: figure(a, p))


def train_on_device(bench: Bench, batches: list[Tensor], architecture: Any, precision: Precision) -> tuple[float, SAE]:
    """Patches a second of the steps after the warm-up, and the SAE.

    The clock looks when a batch is asked for, so it sees whole steps; one batch more is trained on than is timed.
    """
    size, stamps = bench.size, []
    n_steps = WARMUP_STEPS + size.n_steps + 1

    def clocked(start: int) -> Iterator[Tensor]:
        for step in range(start, n_steps):
            if step in (WARMUP_STEPS, WARMUP_STEPS + size.n_steps):
                bench.wait()
                stamps.append(time.perf_counter())
            yield batches[step % len(batches)]

    config = TrainConfig(
        architecture=TopK(k=size.k) if architecture == "topk" else ReLU(),
        n_latents=size.n_latents,
        n_patches=n_steps * size.batch_size,
        batch_size=size.batch_size,
        warmup_steps=WARMUP_STEPS,
        initialisation="random",  # centroids are found on the CPU, and before the first step
    )
    mean = batches[0].mean(0)
    scale = FeatureScale(mean=mean.cpu(), scale=float((batches[0] - mean).square().mean().sqrt()))
    sae = train_for(bench, clocked, config, scale, n_steps, precision)
    first, last = stamps
    return size.n_steps * size.batch_size / (last - first), sae


def train_for(
    bench: Bench,
    batches: Callable[[int], Iterator[Tensor]],
    config: TrainConfig,
    scale: FeatureScale,
    n_steps: int,
    precision: Precision,
) -> SAE:
    """`train_saes` without a checkpoint on the way."""
    with tempfile.TemporaryDirectory() as folder:
        (sae,) = train_saes(
            batches,
            [config],
            scale,
            n_steps=n_steps,
            checkpoint=Path(folder, "checkpoint.pt"),
            data="benchmark",
            accelerator=bench.accelerator(precision),
            seconds_between_checkpoints=float("inf"),
        )
    return sae


def workers_that_fit(bench: Bench) -> int:
    """Processes that read photographs: one a core, as far as their batches fit into the machine's shared memory.

    Each prepares two batches ahead and works on a third; a container often has 64 MB, and who exceeds it is killed.
    """
    cores = len(os.sched_getaffinity(0))
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return cores
    a_batch = bench.size.photographs_at_once * 3 * bench.size.side**2 * torch.float32.itemsize
    return min(cores, shutil.disk_usage(shared).free // (3 * a_batch))


def from_photographs(bench: Bench, model: Path, photographs: Collection) -> None:
    """Reading JPEGs alone, then training an SAE straight from them: read, resize, forward, shuffle, train."""
    size, workers = bench.size, workers_that_fit(bench)
    rows = np.arange(len(photographs.images))
    backbone = load(model, bench, "bf16")

    def reading() -> str:
        started = time.perf_counter()
        batches = prepared_batches(
            photographs, rows.tolist(), backbone.prepare, batch_size=size.photographs_at_once, workers=workers
        )
        n_read = sum(len(batch) for batch in batches)
        return f"{n_read / (time.perf_counter() - started):,.0f} images/s"

    source = ImageSource(
        photographs,
        backbone,
        image_batch_size=size.photographs_at_once,
        workers=workers,
        storage_dtype="bfloat16",
    )
    n_patches = int(source.patch_counts().sum())
    n_steps = size.passes * n_patches // size.batch_size

    def training_from_them() -> str:
        found = moments(source, rows, max_images=2 * size.photographs_at_once)
        scale = FeatureScale(mean=found.mean.float(), scale=(found.mean_squared_deviation / source.info.d_model) ** 0.5)
        config = TrainConfig(
            architecture=TopK(k=size.k),
            n_latents=size.n_latents,
            batch_size=size.batch_size,
            warmup_steps=WARMUP_STEPS,
            initialisation="random",
        )

        def batches(start: int) -> Iterator[Tensor]:
            stream = PatchStream(
                source,
                rows,
                n_patches=n_steps * size.batch_size,
                batch_size=size.batch_size,
                start=start,
                # A quarter of the photographs meet in the buffer: if all did, they would be read once only.
                buffer_bytes=n_patches * source.info.d_model * torch.bfloat16.itemsize // 4,
                device=bench.device,
            )
            return iter(stream)

        bench.forget_peak()
        bench.wait()
        started = time.perf_counter()
        train_for(bench, batches, config, scale, n_steps, "bf16")
        bench.wait()
        seconds = time.perf_counter() - started
        images = size.passes * len(rows) / seconds
        return f"{images:,.0f} images/s, {n_steps * size.batch_size / seconds:,.0f} patches/s"

    bench.add(f"reading and resizing 1024 x 768 JPEGs, {workers} processes, start included", reading)
    bench.add("training from photographs, bf16, start included", training_from_them)


def print_table(bench: Bench) -> None:
    """What has been measured, in Markdown."""
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    size = bench.size
    print(f"{name}; {describe_machine()}")
    print(
        f"{size.side} px, batches of {size.image_batch_size} images; {size.n_latents:,} latents, k {size.k}, "
        f"batches of {size.batch_size:,} patches\n"
    )
    print(markdown_table(["what", name, "peak memory"], bench.rows), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all, and print the table: also what was found until something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="A tiny problem: does it run?")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing was measured.")
        return
    bench = Bench(torch.device(arguments.device), TINY if arguments.tiny else FULL)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = make_model(Path(folder, "backbone"), bench.size)
            images_to_codes(bench, model)
            training(bench, bench.size.model.get("hidden_size", Dinov2Config().hidden_size))
            photographs = make_photographs(Path(folder, "photographs"), bench.size.n_photographs)
            from_photographs(bench, model, photographs)
            gpu_finetuning.measure(bench, bench.add, gpu_finetuning.TINY if arguments.tiny else gpu_finetuning.FULL)
        finally:
            print_table(bench)


if __name__ == "__main__":
    main()
