"""Several images of one organism: counted, drawn and split as one; exact copies are one image."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_archive import write_archive
from tiny_bioscan import small
from web import photograph as web_photograph
from web import running_web

from sae_traits.config.collection import CollectionConfig
from sae_traits.images import list_source, read_collection
from sae_traits.images.splits import Member, split_members, units
from sae_traits.schema import Collection


def photograph(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16, 3)).astype(np.uint8))
    small.resize((32, 24), Image.Resampling.BICUBIC).save(path)


def collection_of(root: Path, rows: Sequence[tuple[str, ...]], header: str = "individual_id", **options) -> Collection:
    """Read a table of (file, species, individual, …), its photographs drawn as the names of their files say."""
    for number, (file, *_) in enumerate(rows):
        if not (root / file).exists():
            photograph(root / file, number)
    with (root / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "species", *header.split(",")], *rows])
    return read_collection(CollectionConfig(source=str(root / "table.csv"), **options), workers=1)


def splits_of(collection: Collection) -> dict[str, set[str]]:
    splits = defaultdict(set)
    for record in collection.images:
        splits[record.individual_id].add(record.split)
    return dict(splits)


@pytest.mark.parametrize("seed", range(3))
def test_two_photographs_per_individual_are_split_as_one_photograph_each(tmp_path, seed):
    beetles = [(f"beetle {n}", "Aus bus" if n < 20 else "Aus cus") for n in range(33)]
    once = [(f"{n:03d}-1.png", species, name) for n, (name, species) in enumerate(beetles)]
    twice = [(f"{n:03d}-2.png", species, name) for n, (name, species) in enumerate(beetles)]
    single = collection_of(tmp_path, once, split_seed=seed)
    double = collection_of(tmp_path, [*once, *twice], split_seed=seed)
    assert (len(single.images), single.n_individuals) == (33, 33)
    assert (len(double.images), double.n_individuals) == (66, 33)
    assert double.counts()["n_individuals"] == 33
    assert splits_of(single) == splits_of(double)
    assert all(len(splits) == 1 for splits in splits_of(double).values())
    per_split = Counter(record.split for record in single.images)
    assert Counter(record.split for record in double.images) == {split: 2 * n for split, n in per_split.items()}


@settings(max_examples=30, deadline=None)
@given(
    photographs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3)), min_size=1, max_size=40),
    seed=st.integers(0, 3),
)
def test_more_photographs_of_the_same_individuals_move_none(photographs, seed):
    def split(rows: Sequence[tuple[int, int]]) -> dict[int, str]:
        together = units([str(individual) for individual, _ in rows], range(len(rows)))
        members = [
            Member(f"{individual}", f"Aus species{individual % 2}", unit, None)
            for (individual, _), unit in zip(rows, together, strict=True)
        ]
        splits = split_members(members, validation_share=0.2, test_share=0.3, seed=seed, given_stays=True)
        by_individual = dict(zip((individual for individual, _ in rows), splits, strict=True))
        assert [by_individual[individual] for individual, _ in rows] == splits
        return by_individual

    assert split(photographs) == split(list({individual: (individual, n) for individual, n in photographs}.values()))


def test_units_join_individuals_and_near_identical_images_also_by_way_of_others():
    together = units(["a", "a", None, "b", None, "b"], [0, 1, 1, 3, 4, 5])
    assert together[0] == together[1] == together[2]
    assert together[3] == together[5]
    assert len(set(together)) == 3


def test_a_draw_per_species_counts_individuals_and_takes_all_their_images(tmp_path):
    rows = [(f"{n}-{view}.png", "Aus bus", f"beetle {n}") for n in range(8) for view in range(2)]
    collection = collection_of(tmp_path, rows, per_species=3)
    assert (collection.n_individuals, len(collection.images)) == (3, 6)
    once = collection_of(tmp_path, rows[::2], per_species=3)
    assert splits_of(once) == splits_of(collection)


@pytest.mark.parametrize(
    "header", ["individual_id", "individual", "Individual", "organismID", "catalogNumber", "Catalog Number"]
)
def test_the_usual_columns_name_individuals(tmp_path, header):
    collection = collection_of(tmp_path, [("a.png", "Aus bus", "7"), ("b.png", "Aus bus", "")], header)
    first, second = collection.images
    assert first.individual_id == "7"
    assert second.individual_id == second.image_id


def test_images_of_one_individual_that_disagree_are_reported(tmp_path):
    rows = [("a.png", "Aus bus", "7", "train"), ("b.png", "Aus cus", "7", "train"), ("c.png", "Aus bus", "7", "test")]
    collection = collection_of(tmp_path, rows, "individual_id,split")
    assert len(collection.images) == 3
    assert {problem.file: problem.reason for problem in collection.problems} == {
        "b.png": "its individual 7 has the species Aus bus in a.png and Aus cus here; both images are used",
        "c.png": "its individual 7 has the split train in a.png and test here; both images are used",
    }
    moved = collection_of(tmp_path, rows, "individual_id,split", near_identical="train")
    assert {record.split for record in moved.images} == {"train"}


def test_exact_copies_are_one_image(tmp_path):
    photograph(tmp_path / "Aus_bus/a.png", 1)
    photograph(tmp_path / "Aus_bus/c.png", 2)
    (tmp_path / "Aus_bus/b.png").write_bytes((tmp_path / "Aus_bus/a.png").read_bytes())
    for labels in (True, False):
        collection = read_collection(CollectionConfig(source=str(tmp_path), labels=labels))
        assert [record.file for record in collection.images] == ["Aus_bus/a.png", "Aus_bus/c.png"]
        (problem,) = collection.problems
        assert (problem.file, problem.reason) == (
            "Aus_bus/b.png", "exact copy of Aus_bus/a.png, which is used instead"
        )  # fmt: skip
        assert collection.near_identical == ()


def test_exact_copies_of_two_species_are_both_reported(tmp_path):
    photograph(tmp_path / "Aus_bus/a.png", 1)
    photograph(tmp_path / "Aus_bus/other.png", 2)
    (tmp_path / "Aus_cus").mkdir()
    (tmp_path / "Aus_cus/b.png").write_bytes((tmp_path / "Aus_bus/a.png").read_bytes())
    collection = read_collection(CollectionConfig(source=str(tmp_path), test_share=0.5))
    first, _ = collection.images
    assert (first.file, first.species, first.split) == ("Aus_bus/a.png", "Aus bus", "train")
    collection.save_problems(tmp_path / "problems.csv")
    assert (tmp_path / "problems.csv").read_text().splitlines() == [
        "file,reason",
        'Aus_bus/a.png,"it is used as Aus bus, but its exact copy Aus_cus/b.png is labelled Aus cus"',
        'Aus_cus/b.png,"exact copy of Aus_bus/a.png, which is used instead; but its species is Aus cus, there Aus bus"',
    ]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pixels=st.integers(1, 50))
def test_a_photograph_is_decoded_once(tmp_path, monkeypatch, pixels):
    photograph(tmp_path / "Aus_bus/a.png", pixels)
    photograph(tmp_path / "Aus_bus/b.png", pixels + 1)
    opened = []
    pillow_open = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: opened.append(1) or pillow_open(*args, **kwargs))
    collection = read_collection(CollectionConfig(source=str(tmp_path)))
    monkeypatch.undo()
    assert len(opened) == len(collection.images) == 2


def test_an_organism_or_else_an_occurrence_is_an_individual(tmp_path):
    """A number that several occurrences share is that of several museums, and names none of them."""
    numbers = {
        "1": ("whale", "X"),
        "2": ("whale", ""),
        "3": ("", "M 1"),
        "4": ("", "M 2"),
        "5": ("", "M 2"),
        "6": ("", ""),
    }
    occurrences = [
        {"gbifID": key, "species": "Aus bus", "organismID": organism, "catalogNumber": number}
        for key, (organism, number) in numbers.items()
    ]
    with running_web() as web:
        web.pages = {f"/{key}{n}.jpg": web_photograph(int(key) * 2 + n) for key in numbers for n in range(2)}
        media = [{"gbifID": path[1], "type": "StillImage", "identifier": f"{web.url}{path}"} for path in web.pages]
        source = write_archive(tmp_path / "archive", occurrences, media)
        collection = read_collection(
            CollectionConfig(source=str(source), image_cache=str(tmp_path / "cache"), allow_private_addresses=True)
        )
    assert Counter(record.individual_id for record in collection.images) == {
        "whale": 4, "M 1": 2, "4": 2, "5": 2, "6": 2
    }  # fmt: skip
    assert all(len(splits) == 1 for splits in splits_of(collection).values())


def test_a_specimen_of_bioscan_is_an_individual(tmp_path):
    rows = list_source(CollectionConfig(source=str(small(tmp_path / "bioscan5m")))).rows
    assert {row.individual for row in rows} == {row.file.rsplit("/", 1)[-1].removesuffix(".jpg") for row in rows}
