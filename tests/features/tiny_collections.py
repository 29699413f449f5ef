"""Small collections of random photographs, and a backbone whose features say which patch of which image they are of."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo, Collection, ImageRecord, Taxon

SIZES = ((90, 60), (64, 64), (50, 120))


def make_collection(root: Path, n_images: int, seed: int = 0) -> Collection:
    """Random photographs of three shapes."""
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    records = []
    for number in range(n_images):
        width, height = SIZES[number % len(SIZES)]
        path = root / f"{number:03d}.png"
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        records.append(
            ImageRecord(
                image_id=path.stem,
                file=path.name,
                taxon=Taxon(species="Vanessa atalanta"),
                split="train",
                width=width,
                height=height,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
        )
    return Collection(root, tuple(records))


class PatchMeans:
    """Mean colour of each of 4 x 4 patches of the letterboxed image, and which patch it is."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """One image -> float32 `[16, 4]`."""
        pixels = np.asarray(INFO.grid(image.size).frame(image), dtype=np.float32)
        means = pixels.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).reshape(16, 3)
        return torch.from_numpy(np.concatenate([means, np.arange(16, dtype=np.float32)[:, None]], axis=1))


INFO = BackboneInfo(
    backbone="patch means",
    revision="0",
    layer=0,
    d_model=4,
    rows=4,
    columns=4,
    patch=8.0,
    framing=Framing(mode="letterbox", size=(32, 32)),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


class TinyBackbone:
    """A `Backbone` without weights that counts its forward passes."""

    def __init__(self) -> None:
        self.info = INFO
        self.prepare = PatchMeans()
        self.encoded: list[int] = []
        """Images of each forward pass."""

    def encode(self, batch: torch.Tensor) -> torch.Tensor:
        """What the workers made `[n_images, 16, 4]`."""
        self.encoded.append(len(batch))
        return batch
