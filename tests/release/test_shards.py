"""Shards: every row once, bounded, named so that a new release changes only what it must."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_releases import bytes_of, many_images, release, traits_of

from sae_traits.release.shards import (
    FIRST_SEGMENT,
    IMAGES_PER_GROUP,
    SHARD_NAME,
    Segments,
    ShardWriter,
    images_per_segment,
)
from sae_traits.release.tables import CONFIG_NAMES
from sae_traits.schema import Collection, Trait

image_ids = st.lists(st.text("abc0123456789", min_size=1, max_size=6), min_size=1, max_size=60, unique=True)


def segments_of(ids: list[str], n: int) -> dict[str, str]:
    segments = Segments(n)
    return {name: segments.of(name) for name in sorted(ids)}


@given(ids=image_ids, n=st.sampled_from([1, 2, 4, 8]), data=st.data())
def test_an_image_that_comes_or_goes_leaves_the_other_segments_as_they_are(ids, n, data):
    gone = data.draw(st.sampled_from(ids))
    before, after = segments_of(ids, n), segments_of([name for name in ids if name != gone], n)
    moved = {before[name] for name in after if after[name] != before[name]}
    assert moved <= {before[gone]}  # at most its own segment, which then joins the one before
    assert set(after.values()) <= set(before.values()) | {FIRST_SEGMENT}


def test_segments_have_about_the_wanted_length():
    segments = Segments(64)
    lengths = Counter(segments.of(f"image-{n}") for n in range(20_000))
    assert 40 < np.mean(list(lengths.values())) < 100
    assert max(lengths.values()) < 64 * 10


def test_the_wanted_length_is_a_power_of_two_and_hardly_depends_on_the_collection():
    sizes = [(256, 256)] * 19_000
    n = images_per_segment(sizes, 64)
    assert n == 2048
    assert images_per_segment([*sizes, (4000, 3000)], 64) == n
    assert images_per_segment([(6000, 8000)], 1) == 1


def test_shards_hold_every_row_once_in_order_and_stay_below_their_size(tmp_path):
    schema = pa.schema([("n", pa.int32()), ("data", pa.binary())])
    writer = ShardWriter(tmp_path, "train", schema, max_bytes=600_000)
    rng = np.random.default_rng(0)
    for n in range(9000):
        writer.add({"n": n, "data": rng.bytes(200)}, "a" * 12 if n < 7000 else "b" * 12, 200)
    writer.close()
    paths = sorted(tmp_path.iterdir())
    assert [p.name for p in paths] == [f"train-{'a' * 12}-{i:03d}.parquet" for i in range(4)] + [
        f"train-{'b' * 12}-000.parquet"
    ]
    assert all(SHARD_NAME.fullmatch(p.name) for p in paths)
    assert [n for p in paths for n in pq.read_table(p)["n"].to_pylist()] == list(range(9000))
    assert max(p.stat().st_size for p in paths) < 700_000
    assert writer.n_rows == 9000


def column_chunks(path: Path, column: int) -> list[bytes]:
    """What a reader of one column asks for, a range of bytes for each group of rows."""
    content, metadata = path.read_bytes(), pq.read_metadata(path)
    chunks = [metadata.row_group(n).column(column) for n in range(metadata.num_row_groups)]
    starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
    return [content[s : s + chunk.total_compressed_size] for s, chunk in zip(starts, chunks, strict=True)]


def test_a_column_is_tens_of_ranges_most_of_which_stay_when_a_row_comes_in(tmp_path):
    schema = pa.schema([("n", pa.int32()), ("text", pa.string())])
    chunks = []
    for name in ("before", "after"):
        groups = Segments(IMAGES_PER_GROUP)
        with ShardWriter(tmp_path / name, "train", schema) as writer:
            for image in range(5000):
                group = groups.of(f"image-{image}")
                for trait in range(4 + (name == "after" and image == 300)):
                    row = {"n": trait, "text": f"Trait {trait} of image {image}."}
                    writer.add(row, FIRST_SEGMENT, group=group)
        (path,) = (tmp_path / name).iterdir()
        chunks.append(column_chunks(path, 1))
    before, after = chunks
    assert 10 < len(before) <= 40
    assert len(set(after) - set(before)) <= 2, "those of the group that holds the row"


def pieces(content: bytes) -> Counter[bytes]:
    """The content in pieces of some 16 KB, cut where 32 bytes say so, as the storage of the Hub has some of 64 KB."""
    values = np.random.default_rng(0).integers(0, 2**63, 256, dtype=np.uint64)[np.frombuffer(content, np.uint8)]
    rolled = np.zeros_like(values)
    for n in range(32):
        rolled[n:] += values[: len(values) - n] << np.uint64(n)
    cuts = np.flatnonzero(rolled >> np.uint64(50) == 0).tolist()
    return Counter(content[start:stop] for start, stop in pairwise([0, *cuts, len(content)]))


def test_an_image_that_comes_in_leaves_the_bytes_of_the_others_as_they_were(tmp_path):
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("x", pa.float32())])
    pictures = [np.random.default_rng(n).bytes(10_000) for n in range(200)]
    contents = []
    for name, shown in (("before", pictures[:-1]), ("after", [*pictures[:50], pictures[-1], *pictures[50:-1]])):
        with ShardWriter(tmp_path / name, "train", schema) as writer:
            for picture in shown:
                for x in (1, 2, 3):
                    row = {"image": {"bytes": picture, "path": None}, "x": x}
                    writer.add(row, FIRST_SEGMENT, len(picture) // 3)
        (path,) = (tmp_path / name).iterdir()
        contents.append(path.read_bytes())
    before, after = contents
    assert len(after) < 1.1 * sum(map(len, pictures)), "an image of three rows is there once"
    new = sum(len(piece) * n for piece, n in (pieces(after) - pieces(before)).items())
    assert new < len(after) / 10


def test_pages_of_a_long_column_are_cut_by_content(tmp_path):
    schema = pa.schema([("x", pa.list_(pa.float32()))])
    numbers = np.random.default_rng(0).integers(0, 300, (1000, 1000)).astype(np.float32)  # which compression changes
    contents = []
    for name, rows in (("before", numbers), ("after", [numbers[0, :7], *numbers])):
        with ShardWriter(tmp_path / name, "train", schema) as writer:
            for row in rows:
                writer.add({"x": row.tolist()}, FIRST_SEGMENT)
        (path,) = (tmp_path / name).iterdir()
        contents.append(path.read_bytes())
    before, after = contents
    new = sum(len(piece) * n for piece, n in (pieces(after) - pieces(before)).items())
    assert new < len(after) / 6


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collection, list[Trait], dict[str, bytes]]:
    """A collection, its traits and its dataset of several shards a config and split."""
    folder = tmp_path_factory.mktemp("many")
    collection = many_images(folder / "collection", 120)
    traits = traits_of(collection, 2)
    release(folder / "dataset", collection, traits)
    return collection, traits, bytes_of(folder / "dataset/data")


def changed_shards(before: dict[str, bytes], folder: Path) -> dict[str, set[str]]:
    """Config -> names of the shards that are new, gone or different."""
    after = bytes_of(folder / "data")
    different = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return {config: {path for path in different if path.startswith(f"{config}/")} for config in CONFIG_NAMES}


def test_there_are_several_shards(many):
    shards = Counter(tuple(path.split("-")[0].split("/")) for path in many[2])
    assert min(shards[config, "train"] for config in ("default", "images")) >= 3


def test_one_changed_trait_changes_one_shard_a_config(many, tmp_path):
    collection, traits, before = many
    changed = [*traits]
    changed[60] = replace(traits[60], description=replace(traits[60].description, text="A large area."))
    release(tmp_path / "dataset", collection, changed)
    found = changed_shards(before, tmp_path / "dataset")
    assert {config: len(shards) for config, shards in found.items() if config != "preview"} == {
        "default": 1,
        "traits": 1,
        "images": 1,
        "captions": 0,
        "latents": 0,
    }
    assert len(found["preview"]) <= 1
    assert all(path in before for shards in found.values() for path in shards)


def test_an_added_image_renames_no_other_shard_and_changes_the_one_that_holds_it(many, tmp_path):
    collection, traits, before = many
    added = replace(collection.images[71], image_id="new")  # a copy of the file under another name
    place = 72
    records = (*collection.images[:place], added, *collection.images[place:])
    moved = [
        replace(t, candidate=replace(t.candidate, image=t.candidate.image + (t.candidate.image >= place)))
        for t in traits
    ]
    own = [replace(t, trait_id=f"new-{t.trait_id}") for t in traits if t.candidate.image == 71]
    own = [replace(t, candidate=replace(t.candidate, image=place)) for t in own]
    traits = sorted([*moved, *own], key=lambda trait: trait.candidate.image)
    release(tmp_path / "dataset", Collection(collection.root, records), traits)
    after = bytes_of(tmp_path / "dataset/data")
    assert before.keys() <= after.keys()
    found = changed_shards(before, tmp_path / "dataset")
    assert len(found["images"]) == 1
    assert len(found["default"]) == 1


def test_load_dataset_finds_all_shards(many, tmp_path):
    from datasets import load_dataset

    collection, traits, _ = many
    release(tmp_path / "dataset", collection, traits)
    loaded = load_dataset(str(tmp_path / "dataset"), "images", cache_dir=str(tmp_path / "cache"))
    ids = [name for split in loaded.values() for name in split["image_id"]]
    assert sorted(ids) == sorted(record.image_id for record in collection.images)
    streamed = load_dataset(str(tmp_path / "dataset"), "default", split="test", streaming=True)
    assert len(list(streamed.select_columns(["trait_id"]))) == sum(
        collection.images[trait.candidate.image].split == "test" for trait in traits
    )
