"""Names on the drawn world, given by its truth: how many rows get a part, how many are right, and what stays."""

# pyright: reportMissingImports=false

import json
import sys
from pathlib import Path

import pytest

from sae_traits.cli import main
from sae_traits.schema import Collection

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from drawn_names import N_NAMES, count, parts_of_regions, true_names, write_names


@pytest.mark.slow
def test_thirty_names_fill_most_parts_rightly_stay_and_are_refused_for_another_sae(run, tmp_path, capsys):
    collection = Collection.load(run / "images.parquet")
    parts = parts_of_regions(run, collection)
    names = true_names(run, collection, parts)
    assert 15 <= len(names) <= N_NAMES, "the others lie on the background"
    assert main(["name", str(run), str(write_names(tmp_path / "names.csv", names))]) == 0
    first = count(run, parts)
    n_rows, n_named, n_right = (sum(getattr(one, name) for one in first) for name in ("n_rows", "n_named", "n_right"))
    assert n_named >= n_rows / 3
    assert n_right >= n_named / 2
    by_chance = max(list(parts.values()).count(part) for part in set(parts.values()) - {None}) / len(parts)
    assert n_right / n_named > by_chance + 0.1, "always the commonest part would do as well"

    # A second release of the same SAE has the same names; regions that are described anew have them, too.
    assert main(["annotate", str(run), "--longest-side", "96"]) == 0
    assert count(run, parts) == first

    # Those that an atlas of another SAE exported are refused, and change nothing.
    kept = json.loads((run / "names.json").read_text())
    other = tmp_path / "other.json"
    other.write_text(json.dumps(kept | {"sae": "local@sha256:0123"}))
    assert main(["name", str(run), str(other)]) == 2
    assert "are of the SAE local@sha256:0123" in capsys.readouterr().err
    assert count(run, parts) == first
