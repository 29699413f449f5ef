"""What an extraction will write is known before it writes."""

from __future__ import annotations

import shutil

import pytest
from tiny_collections import TinyBackbone, make_collection
from tiny_models import save_model

from sae_traits.config.features import Texture, VisionModel
from sae_traits.features.backbone import load_backbone
from sae_traits.features.estimate import ExtractionEstimate, estimate_extraction, flops_per_image
from sae_traits.features.extract import extract

HEADER_BYTES = 1024


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("n_images", [1, 34])
def test_the_estimate_is_what_is_written(tmp_path, dtype, n_images):
    collection, backbone, folder = make_collection(tmp_path / "images", n_images), TinyBackbone(), tmp_path / "run"
    estimate = estimate_extraction(collection, backbone.info, dtype, folder / "features")
    assert not folder.exists()
    assert backbone.encoded == []
    assert estimate.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    store = extract(collection, backbone, folder / "features", storage_dtype=dtype, workers=0)
    assert (estimate.n_images, estimate.n_patches) == (store.n_images, store.n_patches)
    assert estimate.n_shards == len(store.entries)
    headers = sum(entry.bytes for entry in store.entries) - estimate.n_bytes
    assert 0 < headers < HEADER_BYTES * estimate.n_shards


def test_an_estimate_says_when_the_disk_is_too_small():
    estimate = ExtractionEstimate(
        n_images=5_150_000,
        n_patches=5_150_000 * 256,
        n_bytes=4_050_000_000_000,
        n_shards=15_088,
        free_bytes=50_000_000_000,
        storage_dtype="float32",
    )
    text = "\n".join(estimate.lines())
    assert "1,318,400,000" in text
    assert "15,088, 4,050.000 GB in float32 (4,050,000,000,000 bytes)" in text
    assert "too little by 4,000.000 GB: free some space, or store half as much with --storage-dtype bfloat16" in text


def test_a_backbone_of_twice_the_layers_computes_twice_as_much(tmp_path):
    folder = str(save_model("vit", tmp_path / "vit"))
    two, four = (flops_per_image(load_backbone(VisionModel(model=folder, layer=layer))) for layer in (2, 4))
    tokens, width, patch = 17, 32, 14
    embedding = 2 * 16 * 3 * patch**2 * width
    # a block: four products of the width, two with the hidden layer of 64, and attention between all tokens
    block = 2 * tokens * width * (4 * width + 2 * 64) + 4 * tokens**2 * width
    assert two == embedding + 2 * block
    assert four == embedding + 4 * block


def test_a_backbone_without_products_counts_none():
    assert flops_per_image(load_backbone(Texture())) == 0
