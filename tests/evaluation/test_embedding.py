"""A collection is embedded once, a kill costs a shard at most, and the cache never gives another image's embedding."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_folders import make_open_clip_folder
from PIL import Image
from safetensors.numpy import load_file

from sae_traits.errors import BackboneError, CollectionError, StoreError
from sae_traits.evaluation.embedding import IMAGES_PER_SHARD, embed_collection, fingerprint
from sae_traits.models.clip.model import CLIP, load_clip
from sae_traits.schema import Collection, ImageRecord, Taxon


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    make_open_clip_folder(folder, extra_tensors={"visual.caption_proj": torch.randn(32, 16)})
    return folder


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> CLIP:
    return load_clip(clip_folder, device="cpu")


def make_collection(root: Path, n_images: int, side: int = 40) -> Collection:
    """Images of noise, no two alike."""
    root.mkdir()
    generator = np.random.default_rng(n_images)
    records = []
    for number in range(n_images):
        file = f"{number:03d}.bmp"
        noise = generator.integers(0, 255, (side, side + 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / file)
        records.append(
            ImageRecord(
                image_id=f"image-{number}",
                file=file,
                taxon=Taxon(genus="Apis", species="Apis mellifera"),
                split="test",
                width=side + 8,
                height=side,
                sha256=hashlib.sha256((root / file).read_bytes()).hexdigest(),
            )
        )
    return Collection(root, tuple(records))


def directly(clip: CLIP, collection: Collection, rows: list[int]) -> np.ndarray:
    """The embeddings, image by image."""
    embeddings = []
    for row in rows:
        with Image.open(collection.path(collection.images[row])) as image:
            embeddings.append(clip.embed_images(clip.prepare(image.convert("RGB"))[None])[0])
    return torch.stack(embeddings).numpy()


def shards_of(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


def remove_images(collection: Collection) -> None:
    for record in collection.images:
        collection.path(record).unlink()


@pytest.mark.parametrize("workers", [0, 2])
def test_embeddings_come_in_the_order_of_the_rows(clip: CLIP, tmp_path: Path, workers: int):
    collection = make_collection(tmp_path / "images", 7)
    rows = [5, 0, 6, 0, 2]
    embeddings = embed_collection(clip, collection, rows, cache=tmp_path / "cache", batch_size=2, workers=workers)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, directly(clip, collection, rows), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_the_second_time_no_image_is_opened(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 6)
    first = embed_collection(clip, collection, range(6), cache=tmp_path / "cache", workers=0)
    remove_images(collection)
    again = embed_collection(clip, collection, [4, 1, 1], cache=tmp_path / "cache", workers=2)
    np.testing.assert_array_equal(again, first[[4, 1, 1]])


def test_only_what_is_new_is_computed_whatever_it_is_called(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 6)
    cache = tmp_path / "cache"
    embed_collection(clip, collection, [0, 1, 2], cache=cache, workers=0)
    renamed = replace(collection.images[1], image_id="other", file="other.bmp")
    collection.path(collection.images[1]).rename(collection.root / "other.bmp")
    other = Collection(collection.root, (collection.images[5], renamed, collection.images[3]))
    embeddings = embed_collection(clip, other, [0, 1, 2], cache=cache, workers=0)
    np.testing.assert_allclose(embeddings, directly(clip, other, [0, 1, 2]), atol=1e-5)
    assert sorted(len(load_file(path)["sha256"]) for path in shards_of(cache)) == [2, 3]


def test_two_files_with_the_same_content_are_one_image(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 2)
    twins = Collection(collection.root, (*collection.images, replace(collection.images[0], image_id="twin")))
    embeddings = embed_collection(clip, twins, [0, 1, 2], cache=tmp_path / "cache", workers=0)
    np.testing.assert_array_equal(embeddings[0], embeddings[2])
    assert [len(load_file(path)["sha256"]) for path in shards_of(tmp_path / "cache")] == [2]


def test_models_heads_and_framings_have_caches_of_their_own(clip: CLIP, clip_folder: Path, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 3)
    cache = tmp_path / "cache"
    squashing = load_clip(clip_folder, framing="squash", device="cpu")
    names = embed_collection(clip, collection, range(3), cache=cache, workers=0)
    captions = embed_collection(clip, collection, range(3), cache=cache, workers=0, head="caption")
    squashed = embed_collection(squashing, collection, range(3), cache=cache, workers=0)
    assert len({path.parent for path in shards_of(cache)}) == 3
    for one, other in ((names, captions), (names, squashed), (captions, squashed)):
        assert np.abs(one - other).max() > 1e-3


def test_a_local_model_may_move_and_keeps_its_cache(clip: CLIP):
    moved = replace(clip.info, model="/elsewhere")
    assert fingerprint(moved, "taxonomy") == fingerprint(clip.info, "taxonomy")
    assert fingerprint(replace(clip.info, revision="sha256:other"), "taxonomy") != fingerprint(clip.info, "taxonomy")
    assert fingerprint(replace(clip.info, hidden_act="quick_gelu"), "taxonomy") != fingerprint(clip.info, "taxonomy")


def test_a_broken_image_is_named_and_finished_shards_are_kept(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", IMAGES_PER_SHARD + 3, side=8)
    last = collection.path(collection.images[-1])
    whole = last.read_bytes()
    last.write_bytes(whole[:60])
    rows, cache = range(len(collection.images)), tmp_path / "cache"
    with pytest.raises(CollectionError, match=rf"{last.name} cannot be read any more"):
        embed_collection(clip, collection, rows, cache=cache, batch_size=64, workers=0)
    assert [len(load_file(path)["sha256"]) for path in shards_of(cache)] == [IMAGES_PER_SHARD]

    for record in collection.images[:IMAGES_PER_SHARD]:
        collection.path(record).unlink()
    last.write_bytes(whole)
    embeddings = embed_collection(clip, collection, rows, cache=cache, workers=0)
    np.testing.assert_allclose(embeddings[-1:], directly(clip, collection, [len(rows) - 1]), atol=1e-5)
    assert embeddings.shape == (IMAGES_PER_SHARD + 3, 16)


def test_an_image_that_has_changed_is_not_cached_under_the_old_hash(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 2)
    first, second = (collection.path(record) for record in collection.images)
    first.write_bytes(second.read_bytes())
    with pytest.raises(CollectionError, match=rf"{first.name} has changed since the collection was read"):
        embed_collection(clip, collection, [0, 1], cache=tmp_path / "cache", workers=0)
    assert not shards_of(tmp_path / "cache")


def test_a_missing_image_is_named_by_worker_processes_too(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 3)
    collection.path(collection.images[1]).unlink()
    with pytest.raises(CollectionError, match=r"001.bmp cannot be read any more"):
        embed_collection(clip, collection, range(3), cache=tmp_path / "cache", batch_size=1, workers=2)


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_shard_is_named_and_made_anew(
    clip: CLIP, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
):
    collection = make_collection(tmp_path / "images", 2)
    expected = embed_collection(clip, collection, [0, 1], cache=tmp_path / "cache", workers=0)
    (shard,) = shards_of(tmp_path / "cache")
    whole = shard.read_bytes()
    place = len(whole) - 100
    shard.write_bytes(whole[:20] if harm == "cut" else whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    embeddings = embed_collection(clip, collection, [0, 1], cache=tmp_path / "cache", workers=0)
    assert f"{shard} is damaged" in caplog.text
    np.testing.assert_array_equal(embeddings, expected)
    assert shard.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_named(clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 1)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot write into"):
        embed_collection(clip, collection, [0], cache=tmp_path / "file", workers=0)


def test_no_rows_and_no_such_head(clip_folder: Path, clip: CLIP, tmp_path: Path):
    collection = make_collection(tmp_path / "images", 1)
    assert embed_collection(clip, collection, [], cache=tmp_path / "cache").shape == (0, 16)
    make_open_clip_folder(tmp_path / "plain")
    plain = load_clip(tmp_path / "plain", device="cpu")
    with pytest.raises(BackboneError, match="no image head 'caption'"):
        embed_collection(plain, collection, [0], cache=tmp_path / "cache", workers=0, head="caption")
