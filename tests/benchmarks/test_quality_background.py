"""The benchmark of backgrounds scores regions as the evaluation does."""

# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from quality_background import HEADER, rows_of

from sae_traits.testbench.drawn import draw_collection


@pytest.mark.slow
def test_a_collection_gives_a_row_without_and_one_with_what_is_learnt(tmp_path: Path):
    folder = tmp_path / "drawn"
    draw_collection(folder, images_per_species=3, workers=1)
    off, auto = rows_of(folder / "metadata.csv", tmp_path / "run", {"kind": "texture"})
    assert len(off) == len(auto) == len(HEADER)
    assert (off[0], off[1], auto[1]) == ("drawn", "off", "auto")
    assert off[2] == ""
    assert float(auto[2]) > 0.7
    assert float(auto[6]) > float(off[6]) > float(off[7])
    assert auto[7] == off[7] or float(auto[7]) == pytest.approx(float(off[7]), abs=0.05)
