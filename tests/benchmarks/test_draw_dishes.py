"""Drawn dishes have one small organism each, where their masks say."""

# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from draw_dishes import SIDE, draw_collection

from sae_traits.config import CollectionConfig
from sae_traits.images import read_collection


def test_organisms_lie_small_on_dishes_where_the_masks_say(tmp_path: Path):
    """Two red squares per species, on green; nothing else of the photographs is red."""
    rows = ["file,mask_file,species"]
    for number in range(4):
        photograph, mask = Image.new("RGB", (90, 60), (0, 90 + number, 0)), Image.new("L", (90, 60))
        photograph.paste((220, 0, 0), (20 + number, 10, 60, 50))
        mask.paste(255, (20 + number, 10, 60, 50))
        photograph.save(tmp_path / f"{number}.png")
        mask.save(tmp_path / f"{number}_mask.png")
        rows.append(f"{number}.png,{number}_mask.png,Aus {'ab'[number % 2]}us")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    table = draw_collection(
        read_collection(CollectionConfig(source=str(tmp_path / "metadata.csv"))), tmp_path / "dishes", per_species=1
    )
    collection = read_collection(CollectionConfig(source=str(table)))
    assert [record.taxon.species for record in collection.images] == ["Aus aus", "Aus bus"]
    for record in collection.images:
        mask_path = collection.mask_path(record)
        assert mask_path is not None
        mask = np.asarray(Image.open(mask_path)) > 127
        pixels = np.asarray(Image.open(collection.path(record)).convert("RGB")).astype(int)
        is_red = pixels[..., 0] - pixels[..., 1] > 80
        assert pixels.shape == (SIDE, SIDE, 3)
        assert 0.18 < np.sqrt(mask.mean()) < 0.33, "the side of a square, of the photograph's"
        dish = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=4)
        assert pixels[dish].mean() > 170, "light around the organism"
        assert (is_red & mask).sum() > 0.8 * mask.sum()
        assert (is_red & ~mask).sum() < 0.2 * mask.sum()
