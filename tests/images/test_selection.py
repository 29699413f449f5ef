"""Choosing rows of any source by family, split and number a species."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.images import read_collection
from sae_traits.images.listing import Row
from sae_traits.images.selection import select
from sae_traits.schema import Taxon

LABELS = ["Danaus plexippus", "Danaus_plexippus", "Danaus plexippus (L.)", "Vanessa cardui", "Papilio sp.", None]


def wanted(**options):
    return CollectionConfig(source="x", **options)


def rows_of(labels):
    return [Row(file=f"{n}.png", label=label) for n, label in enumerate(labels)]


@given(lists(sampled_from(LABELS), max_size=40), integers(1, 5), integers(0, 3))
def test_a_draw_keeps_order_and_takes_what_is_asked_of_every_species(labels, number, seed):
    rows = rows_of(labels)
    drawn = select(rows, wanted(per_species=number, split_seed=seed))
    assert drawn == [row for row in rows if row in drawn]
    for same in (LABELS[:3], LABELS[3:4]):
        there = sum(label in same for label in labels)
        assert sum(row.label in same for row in drawn) == min(number, there)
    assert sum(row.label in LABELS[4:] for row in drawn) == sum(label in LABELS[4:] for label in labels)


def test_a_draw_is_that_of_the_seed_and_moves_little_when_rows_are_added():
    rows = rows_of(["Vanessa cardui"] * 100)
    drawn = {seed: select(rows, wanted(per_species=20, split_seed=seed)) for seed in (0, 1)}
    assert drawn[0] != drawn[1]
    assert drawn[0] == select(list(rows), wanted(per_species=20))
    fewer = select(rows[:90], wanted(per_species=20))
    assert len(set(drawn[0]) & set(fewer)) >= 15


def test_family_and_split():
    rows = [
        Row(file="a", label="Vanessa cardui", ranks=Taxon(family="Nymphalidae"), split="train"),
        Row(file="b", label="Vanessa cardui", ranks=Taxon(family="Nymphalidae"), split="validation"),
        Row(file="c", label="Papilio machaon", ranks=Taxon(family="Papilionidae"), split="train"),
        Row(file="d", label="Papilio machaon"),
    ]
    assert [row.file for row in select(rows, wanted(family="nymphalidae"))] == ["a", "b"]
    assert [row.file for row in select(rows, wanted(split=("val",)))] == ["b"]
    assert [row.file for row in select(rows, wanted(split=("train", "test"), family="Papilionidae"))] == ["c"]
    with pytest.raises(
        CollectionError, match="x has no row of --family Apidae; its families are Nymphalidae, Papilionidae"
    ):
        select(rows, wanted(family="Apidae"))
    with pytest.raises(CollectionError, match="no row of --split test; its splits are train, validation"):
        select(rows, wanted(split=("test",)))
    with pytest.raises(CollectionError, match="'holdout' is none of train"):
        select(rows, wanted(split=("holdout",)))
    with pytest.raises(CollectionError, match="its splits are not given"):
        select(rows[3:], wanted(split=("test",)))


def test_options_narrow_folders_and_tables(images):
    files = [f"{split}/Danaus_plexippus/{n}.png" for split in ("train", "test") for n in range(5)]
    root = images([*files, *(f"train/Vanessa_cardui/{n}.png" for n in range(3))])

    def read(source=root, **options):
        return read_collection(CollectionConfig(source=str(source), **options), workers=1).images

    assert {s.split for s in read(split=("test",))} == {"test"}
    assert Counter(s.species for s in read(per_species=2)) == {"Danaus plexippus": 2, "Vanessa cardui": 2}
    with pytest.raises(CollectionError, match="its families are not given"):
        read(family="Nymphalidae")
    table = root / "table.csv"
    table.write_text(
        "file,species,family\n" + "".join(f"{file},Danaus plexippus,F{n % 2}\n" for n, file in enumerate(files))
    )
    assert len(read(table, family="F1")) == 5
    assert len(read(table, family="F1", per_species=3)) == 3


def test_numbers_that_cannot_be_asked_for():
    with pytest.raises(ConfigError, match="per_species must be 1 or more"):
        CollectionConfig(per_species=0)
    with pytest.raises(ConfigError, match="connections must lie between"):
        CollectionConfig(connections=0)
    with pytest.raises(ConfigError, match="per_species needs labels"):
        CollectionConfig(per_species=1, labels=False)
