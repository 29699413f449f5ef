"""What the pipeline does on a GPU: DINOv2-base, sparse encoding, SAE training, and training straight from photographs.

    python benchmarks/gpu.py                          without a CUDA GPU it says so and measures nothing
    python benchmarks/gpu.py --device cpu --tiny      the same code on a CPU, much smaller: does it run?

The backbone has random weights, made here. Prints a Markdown table; some minutes on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_extraction import PREPROCESSOR, make_photographs
from measured_device import MeasuredDevice, Precision
from tables import describe_machine, markdown_table
from torch import Tensor
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model

from sae_traits.config import FeaturesConfig, TrainConfig
from sae_traits.features.backbone import Backbone, Prepare, load_backbone
from sae_traits.features.loading import prepared_batches
from sae_traits.features.source import ImageSource
from sae_traits.features.stream import ImagePatchStream, moments
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.model import SAE, SAEConfig
from sae_traits.sae.sparse_encoding import SparseCodes
from sae_traits.sae.trainer import FeatureScale, train_sae
from sae_traits.schema import BackboneInfo, Collection

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
    """Training steps that are timed."""
    n_photographs: int
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
    n_steps=100,
    n_photographs=1024,
    passes=4,
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
    passes=8,
    encode_bytes=2**20,
)


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    figure: str
    memory: str = ""


@dataclass(frozen=True)
class InHalfPrecision:
    """A backbone that computes in bf16; also in the threads that fill a training buffer."""

    backbone: Backbone
    device: torch.device

    @property
    def info(self) -> BackboneInfo:
        """That of the backbone."""
        return self.backbone.info

    @property
    def prepare(self) -> Prepare:
        """That of the backbone."""
        return self.backbone.prepare

    def encode(self, batch: Tensor) -> Tensor:
        """As the backbone does, float32."""
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.backbone.encode(batch)


@dataclass(frozen=True)
class Bench(MeasuredDevice):
    """Where and how large."""

    size: Size


def make_backbone(folder: Path, bench: Bench) -> Backbone:
    """DINOv2 with random weights, as the pipeline loads it."""
    torch.manual_seed(0)
    side = bench.size.side
    Dinov2Model(Dinov2Config(image_size=side, **bench.size.model)).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": side * 8 // 7}, "crop_size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | sizes))
    return load_backbone(FeaturesConfig(backbone=str(folder), layer=bench.size.layer, device=str(bench.device)))


def images_to_codes(bench: Bench, backbone: Backbone) -> list[Row]:
    """Images a second through the backbone, and on to sparse codes; and what half precision changes."""
    size = bench.size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(size.image_batch_size, 3, size.side, size.side, generator=generator).to(bench.device)
    features = {"fp32": backbone.encode(pixels).flatten(0, 1)}
    sae = random_sae(features["fp32"], size.n_latents)
    threshold = threshold_of(sae, features["fp32"][:256])
    rows = []
    codes: dict[str, SparseCodes] = {}
    encoders: dict[Precision, Backbone] = {"bf16": InHalfPrecision(backbone, bench.device), "fp32": backbone}
    for precision, encoder in encoders.items():
        features[precision] = encoder.encode(pixels).flatten(0, 1)
        seconds = bench.seconds(lambda encoder=encoder: encoder.encode(pixels), size.repeats)
        rows.append(Row(f"forward, {precision}", f"{len(pixels) / seconds:,.0f} images/s", bench.peak()))
        for max_bytes in (64 * 2**20, size.encode_bytes):

            def both(encoder: Backbone = encoder, max_bytes: int = max_bytes) -> SparseCodes:
                return sae.encode_sparse(encoder.encode(pixels).flatten(0, 1), threshold, max_bytes=max_bytes)

            with bench.autocast(precision):
                seconds = bench.seconds(both, size.repeats)
                codes[precision] = both()
            what = f"forward + sparse encode, {precision}, {max_bytes / 2**20:,.0f} MB for encoding"
            rows.append(Row(what, f"{len(pixels) / seconds:,.0f} images/s", bench.peak()))
    with bench.autocast("bf16"):
        screened = sae.encode_sparse(features["fp32"], threshold, max_bytes=size.encode_bytes)
    error = (features["bf16"] - features["fp32"]).square().mean().sqrt() / features["fp32"].std()
    rows += [
        Row("L0 of these codes", f"{len(codes['fp32'].latents) / len(features['fp32']):.0f}"),
        Row("features, bf16 against fp32", f"RMS difference {float(error):.2%} of their standard deviation"),
        Row("fired set, bf16 against fp32, features included", f"IoU {overlap(codes['bf16'], codes['fp32']):.4f}"),
        Row("fired set, encoding alone in bf16", f"IoU {overlap(screened, codes['fp32']):.6f}"),
    ]
    return rows


def random_sae(features: Tensor, n_latents: int) -> SAE:
    """A ReLU SAE with random directions, centred on the features `[n, d_model]`."""
    sae = SAE(SAEConfig(architecture="relu", d_model=features.shape[1], n_latents=n_latents)).to(features.device)
    with torch.no_grad():
        sae.b_dec.copy_(features.mean(0))
    return sae.eval().requires_grad_(False)


def threshold_of(sae: SAE, features: Tensor) -> float:
    """What about ACTIVE_LATENTS latents a patch exceed, on a sample of features `[n, d_model]`."""
    latents = sae.encode(features).flatten()
    return float(latents.topk(ACTIVE_LATENTS * len(features), sorted=True).values[-1])


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


def training(bench: Bench, d_model: int) -> list[Row]:
    """Patches a second of `train_sae` on features that lie on the device, and what half precision changes."""
    *batches, held_out = drawn_batches(bench, d_model)
    rows = []
    cells: tuple[tuple[str, Precision], ...] = (("topk", "bf16"), ("relu", "bf16"), ("topk", "fp32"))
    for architecture, precision in cells:
        bench.forget_peak()
        rate, sae = train_on_device(bench, batches, architecture, precision)
        metrics = measure_sae(sae.to(bench.device), [held_out])
        figure = f"{rate:,.0f} patches/s; explained variance {metrics.explained_variance:.4f}, L0 {metrics.l0:.1f}"
        rows.append(Row(f"training {architecture}, {precision}", figure, bench.peak()))
    return rows


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
        architecture=architecture,
        n_latents=size.n_latents,
        k=size.k,
        n_patches=n_steps * size.batch_size,
        batch_size=size.batch_size,
        warmup_steps=WARMUP_STEPS,
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
    """`train_sae` without a checkpoint on the way."""
    with tempfile.TemporaryDirectory() as folder:
        return train_sae(
            batches,
            config,
            scale,
            n_steps=n_steps,
            checkpoint=Path(folder, "checkpoint.pt"),
            data="benchmark",
            accelerator=bench.accelerator(precision),
            seconds_between_checkpoints=float("inf"),
        )


def from_photographs(bench: Bench, backbone: Backbone, photographs: Collection) -> list[Row]:
    """Reading JPEGs alone, then training an SAE straight from them: read, resize, forward, shuffle, train."""
    size, workers = bench.size, len(os.sched_getaffinity(0))
    rows = np.arange(len(photographs.specimens))
    started = time.perf_counter()
    for _ in prepared_batches(
        photographs, rows.tolist(), backbone.prepare, batch_size=size.image_batch_size, workers=workers
    ):
        pass
    reading = len(rows) / (time.perf_counter() - started)
    encoder = InHalfPrecision(backbone, bench.device)
    source = ImageSource(photographs, encoder, image_batch_size=size.image_batch_size, workers=workers)
    found = moments(source, rows, at_most=2 * size.image_batch_size)
    scale = FeatureScale(mean=found.mean.float(), scale=(found.mean_squared_deviation / source.info.d_model) ** 0.5)
    # A quarter of the photographs meet in the buffer: if all did, they would be read in the first pass only.
    buffer_bytes = int(source.patch_counts().sum()) * source.info.d_model * torch.bfloat16.itemsize // 4
    n_images = size.passes * len(rows)
    n_steps = size.passes * int(source.patch_counts().sum()) // size.batch_size
    config = TrainConfig(n_latents=size.n_latents, k=size.k, batch_size=size.batch_size, warmup_steps=WARMUP_STEPS)

    def batches(start: int) -> Iterator[Tensor]:
        stream = ImagePatchStream(
            source,
            rows,
            n_patches=n_steps * size.batch_size,
            batch_size=size.batch_size,
            start=start,
            buffer_bytes=buffer_bytes,
            dtype="bfloat16",
            device=bench.device,
        )
        return iter(stream)

    bench.forget_peak()
    started = time.perf_counter()
    train_for(bench, batches, config, scale, n_steps, "bf16")
    bench.wait()
    seconds = time.perf_counter() - started
    figure = f"{n_images / seconds:,.0f} images/s, {n_steps * size.batch_size / seconds:,.0f} patches/s"
    return [
        Row(f"reading and resizing 1024 x 768 JPEGs, {workers} processes, start included", f"{reading:,.0f} images/s"),
        Row("training from photographs, bf16, start included", figure, bench.peak()),
    ]


def main() -> None:
    """Measure all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="A tiny problem: does it run?")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing was measured.")
        sys.exit(0)
    bench = Bench(torch.device(arguments.device), TINY if arguments.tiny else FULL)
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        backbone = make_backbone(Path(folder, "backbone"), bench)
        rows = images_to_codes(bench, backbone)
        rows += training(bench, backbone.info.d_model)
        photographs = make_photographs(Path(folder, "photographs"), bench.size.n_photographs)
        rows += from_photographs(bench, backbone, photographs)
    size = bench.size
    print(f"{name}; {describe_machine()}")
    print(
        f"{size.side} px, batches of {size.image_batch_size} images; d_model {backbone.info.d_model}, "
        f"{size.n_latents:,} latents, k {size.k}, batches of {size.batch_size:,} patches\n"
    )
    print(markdown_table(["what", name, "peak memory"], ([row.what, row.figure, row.memory] for row in rows)))


if __name__ == "__main__":
    main()
