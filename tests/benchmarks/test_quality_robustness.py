"""The benchmark of robustness changes one thing at a time, and scores as the command `parts` does."""

# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from traits.made_traits import collection_of

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from quality_robustness import (
    CONSTANTS_OF_ENCODING,
    CONSTANTS_OF_PLAN,
    HEADER,
    OPTIONS,
    bench_of,
    changed_regions,
    few_individuals,
    rows_of_samples,
)

from sae_traits.config import SAERegions
from sae_traits.config.tree import as_dict
from sae_traits.testbench.drawn import draw_collection


def test_few_individuals_are_drawn_per_species_and_the_others_held_out():
    collection = collection_of(["Aus bus"] * 9 + ["Aus cus"] * 2)
    few = few_individuals(collection, 4, seed=0)
    assert Counter((record.species, record.split) for record in few.images) == {
        ("Aus bus", "train"): 4, ("Aus bus", "test"): 5, ("Aus cus", "train"): 2,
    }  # fmt: skip
    assert few_individuals(collection, 4, seed=0) == few
    assert few_individuals(collection, 4, seed=1) != few


@pytest.mark.parametrize("option", OPTIONS)
def test_one_option_changes_by_what_is_said(option):
    before, after = as_dict(SAERegions()), as_dict(changed_regions(option, 0.98))
    name = option.rpartition(".")[2]
    if option.startswith("contrast."):
        before, after = before["contrast"], after["contrast"]
    assert after.pop(name) == pytest.approx(0.98 * before.pop(name))
    assert after == before


@pytest.mark.parametrize(("module", "name"), [*CONSTANTS_OF_ENCODING, *CONSTANTS_OF_PLAN])
def test_what_is_changed_is_a_number_of_the_module(module, name):
    assert isinstance(getattr(module, name), (int, float))


@pytest.mark.slow
def test_a_seed_gives_a_row(tmp_path: Path):
    draw_collection(tmp_path / "drawn", images_per_species=3, workers=1)
    bench = bench_of(tmp_path / "run", tmp_path / "drawn" / "metadata.csv", {"kind": "texture"}, {}, 4096)
    (row,) = islice(rows_of_samples(bench, 1), 1)
    assert len(row) == len(HEADER)
    assert row[0] == "seed 0"
    assert float(row[4]) > float(row[6])
