"""Part of gpu.py: steps of `finetune` on CLIPs of the sizes ViT-B/16 and ViT-L/14; weights and pairs are random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from measured_device import MeasuredDevice
from transformers import CLIPConfig, CLIPModel

from sae_traits.config.finetune import OptimiserConfig
from sae_traits.contrastive.estimate import flop_of_a_pair
from sae_traits.contrastive.model import ContrastiveModel
from sae_traits.contrastive.objectives import clip_loss
from sae_traits.contrastive.training_state import Batch, TrainingState

PASSES = 3
"""Forward, and backward, which is twice that; what gradient caching computes again is no model FLOP."""
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bf16 operations per second, by a word of the GPU's name; of NVIDIA's data sheets, SXM where there is one."""
CONTEXT_LENGTH, VOCABULARY = 77, 49408
N_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Size:
    """A CLIP, and steps of it."""

    name: str
    vision: dict[str, int]
    text: dict[str, int]
    projection_dim: int
    side: int
    batch_size: int
    chunk_size: int
    """Of gradient caching; a step of one chunk alone is measured, too."""


def tower(width: int, layers: int, heads: int) -> dict[str, int]:
    """Sizes of a transformer."""
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    return sizes | {"num_hidden_layers": layers, "num_attention_heads": heads}


FULL = (
    Size(
        name="ViT-B/16",
        vision=tower(768, 12, 12) | {"patch_size": 16},
        text=tower(512, 12, 8),
        projection_dim=512,
        side=224,
        batch_size=4096,
        chunk_size=512,
    ),
    Size(
        name="ViT-L/14",
        vision=tower(1024, 24, 16) | {"patch_size": 14},
        text=tower(768, 12, 12),
        projection_dim=768,
        side=224,
        batch_size=2048,
        chunk_size=256,
    ),
)
TINY = (
    Size(
        name="tiny",
        vision=tower(32, 2, 2) | {"patch_size": 8},
        text=tower(32, 2, 2),
        projection_dim=16,
        side=32,
        batch_size=8,
        chunk_size=4,
    ),
)


def measure(device: MeasuredDevice, add: Callable[[str, Callable[[], str]], None], sizes: tuple[Size, ...]) -> None:
    """Add two rows per size: a step of one chunk, and a step of the whole batch with gradient caching, in bf16."""
    for size in sizes:
        for n, chunk in ((size.chunk_size, None), (size.batch_size, size.chunk_size)):
            cached = "" if chunk is None else f", chunks of {chunk}"
            what = f"finetune {size.name}, bf16, {n:,} pairs per step{cached}"
            add(what, lambda s=size, n=n, chunk=chunk: steps(device, s, n, chunk))


def steps(device: MeasuredDevice, size: Size, n: int, chunk: int | None) -> str:
    """Images a second of whole steps on pairs that lie on the device, and the share of its peak that they use."""
    torch.manual_seed(0)
    clip = random_clip(size)
    accelerator = device.accelerator("bf16")
    options = {"n_steps": 100, "chunk_size": chunk}
    state = TrainingState(ContrastiveModel(clip), OptimiserConfig(), clip_loss, accelerator, **options)
    pixels = torch.randn(n, 3, size.side, size.side, device=device.device)
    ids = torch.randint(1, VOCABULARY - 1, (n, CONTEXT_LENGTH), device=device.device)
    batch = Batch(pixels=pixels, token_ids=ids)
    rate = n / device.seconds(lambda: state.step(0, batch), N_STEPS)
    flop = rate * PASSES * flop_of_a_pair(clip, size.side, CONTEXT_LENGTH)
    return f"{rate:,.0f} images/s, {flop / 1e12:,.2f} TFLOP/s{utilisation(device.device, flop)}"


def random_clip(size: Size) -> CLIPModel:
    """A CLIP of that size with random weights."""
    text = size.text | {"max_position_embeddings": CONTEXT_LENGTH, "vocab_size": VOCABULARY}
    vision = size.vision | {"image_size": size.side}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.projection_dim))


def utilisation(device: torch.device, flop: float) -> str:
    """Model FLOP utilisation, where the device's peak is known."""
    peak = peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    return "" if peak is None else f", MFU {flop / peak:.0%} of {peak / 1e12:,.0f}"


def peak_of(name: str) -> float | None:
    """Dense bf16 operations per second of a GPU of that name."""
    words = name.replace("-", " ").split()
    return next((peak for word, peak in PEAKS.items() if word in words), None)
