"""Near-identical images: copies of a photograph are found, other images on the same ground are not taken for one."""

from __future__ import annotations

import io
import os
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from sae_traits.config.collection import CollectionConfig
from sae_traits.images import open_image, read_collection
from sae_traits.images.near_identical import (
    HASH_BYTES,
    MAX_DISTANCE,
    leaks,
    near_identical_groups,
    perceptual_hash,
)
from sae_traits.testbench.drawn import draw_collection

SHARED = os.environ.get("SAE_TRAITS_SHARED")


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


RETOUCHED = {
    "re-encoded": lambda image: as_jpeg(image, 50),
    "half the size": lambda image: as_jpeg(image.resize((image.width // 2, image.height // 2)), 80),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def hash_of(image: Image.Image) -> bytes:
    found = perceptual_hash(image)
    assert found is not None
    return found


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    """Two images of every drawn species."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_collection(folder, images_per_species=2, workers=1)
    return [open_image(folder / file) for file in pd.read_csv(folder / "metadata.csv")["file"]]


@pytest.mark.parametrize("change", RETOUCHED)
def test_a_retouched_copy_is_found_among_all_others(drawn, change):
    originals = [hash_of(image) for image in drawn]
    copies = [hash_of(RETOUCHED[change](image)) for image in drawn]
    groups = near_identical_groups([*originals, *copies])
    assert groups.tolist() == 2 * list(range(len(drawn)))


def test_no_two_drawn_images_are_taken_for_one(drawn):
    distances = [distance(*pair) for pair in combinations(map(hash_of, drawn), 2)]
    assert len(distances) > 400
    assert min(distances) > 1.5 * MAX_DISTANCE


def test_different_outlines_on_the_same_white_ground_are_different():
    def leaf(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        image = Image.new("RGB", (300, 300), "white")
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radii = rng.uniform(80, 130, 24)
        outline = np.stack([150 + radii * np.cos(angles), 150 + radii * np.sin(angles)], axis=1)
        ImageDraw.Draw(image).polygon([tuple(point) for point in outline.tolist()], fill=(60, 110, 50))
        return hash_of(image)

    hashes = [leaf(seed) for seed in range(40)]
    assert near_identical_groups(hashes).tolist() == list(range(40))


def test_an_even_surface_has_no_hash():
    assert perceptual_hash(Image.new("RGB", (50, 40), (90, 90, 91))) is None
    assert perceptual_hash(Image.effect_noise((50, 40), 30).convert("RGB")) is not None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 40))
def test_groups_are_those_of_comparing_all_pairs(seed, n):
    """Chains of copies, each some bits from another image."""
    rng = np.random.default_rng(seed)
    bits = rng.random((n, 8 * HASH_BYTES)) < 0.5
    for row in range(1, n):
        if rng.random() < 0.7:
            flipped = rng.permutation(8 * HASH_BYTES)[: rng.integers(0, 2 * MAX_DISTANCE)]
            bits[row] = bits[rng.integers(row)]
            bits[row, flipped] ^= True
    hashes = [np.packbits(row).tobytes() for row in bits]
    expected = list(range(n))
    for one, other in combinations(range(n), 2):
        if distance(hashes[one], hashes[other]) <= MAX_DISTANCE:
            low, high = sorted((expected[one], expected[other]))
            expected = [low if group == high else group for group in expected]
    assert near_identical_groups(hashes).tolist() == expected


def test_a_hundred_thousand_images_are_grouped_in_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (100_000, HASH_BYTES), dtype=np.uint8)
    hashes[50_000:51_000] = hashes[:1_000] ^ np.eye(8, HASH_BYTES, dtype=np.uint8).repeat(125, axis=0)
    hashes[60_000:] = hashes[0]  # as many copies of one image
    started = time.process_time()
    groups = near_identical_groups([row.tobytes() for row in hashes])
    assert time.process_time() - started < 20
    assert groups[50_000:51_000].tolist() == list(range(1_000))
    assert set(groups[60_000:].tolist()) == {0}


def textured(path: Path, seed: int) -> Image.Image:
    """A photograph of something, saved as PNG."""
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8))
    image = small.resize((160, 120), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


@pytest.fixture
def collection_with_copies(tmp_path: Path) -> Path:
    """Two species of 20 photographs; the first eight of one of them are there twice, the second time as JPEG."""
    for number in range(20):
        image = textured(tmp_path / f"Aus_bus/{number:02d}.png", number)
        textured(tmp_path / f"Aus_cus/{number:02d}.png", 100 + number)
        if number < 8:
            as_jpeg(image, 80).save(tmp_path / f"Aus_bus/copy-{number:02d}.jpg")
    return tmp_path


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_on_one_side_of_our_splits(collection_with_copies, seed):
    collection = read_collection(CollectionConfig(source=str(collection_with_copies), split_seed=seed, test_share=0.4))
    splits = {record.file: record.split for record in collection.images}
    for number in range(8):
        assert splits[f"Aus_bus/copy-{number:02d}.jpg"] == splits[f"Aus_bus/{number:02d}.png"]
    assert collection.near_identical == ()
    originals = Counter(split for file, split in splits.items() if "copy" not in file)
    assert originals == {"train": 20, "validation": 4, "test": 16}
    assert (len(collection.images), collection.n_individuals) == (48, 40)


def test_copies_show_the_same_individual_of_their_species_and_split_where_the_source_names_none(tmp_path):
    image = textured(tmp_path / "a.png", 1)
    for name in ("b", "c", "d", "e", "f"):
        as_jpeg(image, 80 + ord(name) % 10).save(tmp_path / f"{name}.jpg")
    textured(tmp_path / "g.png", 2)
    (tmp_path / "metadata.csv").write_text(
        "file,species,split,individual_id\n"
        "a.png,Aus bus,train,\nb.jpg,Aus bus,train,\nc.jpg,Aus bus,test,\nd.jpg,Aus cus,train,\n"
        "e.jpg,Aus bus,train,fox 7\nf.jpg,Aus bus,train,\ng.png,Aus bus,train,\n"
    )
    collection = read_collection(CollectionConfig(source=str(tmp_path)))
    individual = {record.file: record.individual_id for record in collection.images}
    assert individual["a.png"] == individual["b.jpg"] == individual["f.jpg"]
    assert individual["e.jpg"] == "fox 7"
    assert len(set(individual.values())) == collection.n_individuals == 5  # a, c, d, e, g
    assert not collection.problems


@pytest.mark.parametrize("near_identical", ["keep", "train"])
def test_splits_of_the_source_are_kept_and_reported_or_mended(tmp_path, near_identical):
    image = textured(tmp_path / "train/Aus_bus/a.png", 1)
    (tmp_path / "test/Aus_bus").mkdir(parents=True)
    as_jpeg(image, 70).save(tmp_path / "test/Aus_bus/b.jpg")
    textured(tmp_path / "test/Aus_bus/other.png", 2)
    collection = read_collection(CollectionConfig(source=str(tmp_path), near_identical=near_identical))
    splits = {record.file: record.split for record in collection.images}
    kept = near_identical == "keep"
    assert splits == {
        "test/Aus_bus/b.jpg": "test" if kept else "train",
        "test/Aus_bus/other.png": "test",
        "train/Aus_bus/a.png": "train",
    }
    reported = [f"{pair.file}: {pair}" for pair in collection.near_identical]
    expected = ["train/Aus_bus/a.png: near-identical to test/Aus_bus/b.jpg; its split is train, there test"]
    assert reported == (expected if kept else [])


def test_an_image_without_a_split_goes_with_its_copy_that_has_one(tmp_path):
    for number in range(6):
        image = textured(tmp_path / f"test/Aus_bus/{number}.png", number)
        (tmp_path / "Aus_bus").mkdir(exist_ok=True)
        as_jpeg(image, 70).save(tmp_path / f"Aus_bus/{number}.jpg")
    collection = read_collection(CollectionConfig(source=str(tmp_path)))
    assert {record.split for record in collection.images} == {"test"}


def test_one_photograph_of_two_species_is_for_training_and_reported(tmp_path):
    for number in range(12):
        textured(tmp_path / f"Aus_bus/{number:02d}.png", number)
    (tmp_path / "Bus_aus").mkdir()
    for number in range(6):
        as_jpeg(Image.open(tmp_path / f"Aus_bus/{number:02d}.png"), 80).save(tmp_path / f"Bus_aus/{number:02d}.jpg")
    collection = read_collection(CollectionConfig(source=str(tmp_path), test_share=0.5))
    splits = {record.file: record.split for record in collection.images}
    of_two_species = [f"{file}" for n in range(6) for file in (f"Aus_bus/{n:02d}.png", f"Bus_aus/{n:02d}.jpg")]
    assert {splits[file] for file in of_two_species} == {"train"}
    assert set(splits.values()) == {"train", "test"}
    assert {pair.differ for pair in collection.near_identical} == {"species"}
    assert (
        str(collection.near_identical[0]) == "near-identical to Aus_bus/00.png; its species is Bus aus, there Aus bus"
    )


@pytest.mark.slow
@pytest.mark.skipif(not SHARED, reason="needs the photographs that SAE_TRAITS_SHARED points to")
@pytest.mark.parametrize(("name", "n_pairs"), [("leeds_butterfly", 10), ("uci_leaf", 0), ("heliconius_landmarks", 0)])
def test_among_photographs_only_copies_are_found(name, n_pairs):
    """The ten pairs of the butterflies were looked at: each is one photograph, twice on the web."""
    source = Path(str(SHARED)) / "data" / name
    hashes = [hash_of(open_image(source / file)) for file in pd.read_csv(source / "metadata.csv")["file"]]
    distances = np.array([distance(*pair) for pair in combinations(hashes, 2)])
    assert (distances <= MAX_DISTANCE).sum() == n_pairs
    assert len(np.unique(near_identical_groups(hashes))) == len(hashes) - n_pairs
    assert distances[distances > MAX_DISTANCE].min() >= 38


def test_planted_copies_among_test_images_are_found_and_no_others(drawn: list[Image.Image]) -> None:
    """Each copy is retouched in another way; one training image has two of them, and one is a training image twice."""
    images = drawn[::2]
    planted = [(which, retouch(images[which])) for which, retouch in enumerate(RETOUCHED.values())]
    planted.append((0, images[0]))
    train = [*map(hash_of, images[: len(RETOUCHED)]), hash_of(images[1])]
    test = [*map(hash_of, images[len(RETOUCHED) :]), *(hash_of(copy) for _, copy in planted)]
    n_others = len(images) - len(RETOUCHED)
    expected = {(which, n_others + place) for place, (which, _) in enumerate(planted)} | {
        (len(RETOUCHED), n_others + 1)
    }
    assert {tuple(pair) for pair in leaks(train, test).tolist()} == expected
    assert leaks(train, test[:n_others]).shape == (0, 2)
    assert leaks([], test).shape == (0, 2)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), n_train=st.integers(0, 12), n_test=st.integers(0, 12))
def test_leaks_are_all_pairs_that_differ_in_few_bits(seed: int, n_train: int, n_test: int) -> None:
    generator = np.random.default_rng(seed)
    few = generator.integers(256, size=(3, HASH_BYTES), dtype=np.uint8)
    flipped = np.packbits(generator.random((n_train + n_test, 8 * HASH_BYTES)) < 0.05, axis=1)
    hashes = [row.tobytes() for row in few[generator.integers(3, size=len(flipped))] ^ flipped]
    train, test = hashes[:n_train], hashes[n_train:]
    expected = [
        [one, other]
        for other, of_test in enumerate(test)
        for one, of_train in enumerate(train)
        if distance(of_train, of_test) <= MAX_DISTANCE
    ]
    assert leaks(train, test).tolist() == expected
