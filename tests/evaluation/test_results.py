"""What a card quotes of results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sae_traits.errors import ReleaseError
from sae_traits.evaluation.results import Estimate, Figure, read_results


def interval(mean: float | None) -> dict[str, Any]:
    return {"mean": mean, "low": mean, "high": mean}


QUALITY = {
    "calls": {"n_ok": 90, "n_background": 9, "n_invalid": 10, "n_calls": 110, "n_pending": 0, "n_failed": 10},
    "leakage": {"n_traits": 80, "n_any": 2},
    "contradictions": [
        {"facet": "colour", "n_groups": 20, "n_contradictory": 5},
        {"facet": "size", "n_groups": 0, "n_contradictory": 0},
    ],
    "agreement": [{"facet": "shape", "share": 0.75, "chance": 0.5}],
    "controls": {"scores": [{"kind": "swapped", "n_changed": 8, "n_answered": 10}]},
}
ZERO_SHOT = {
    "clip": {"model": "/home/ann/models/bioclip", "revision": "sha256:01"},
    "protocol": {"n_test": 74, "n_classes": 16, "chance": 0.0625},
    "conditions": [{"condition": "name only", "top": {"1": interval(0.25)}}],
    "comparisons": [{"condition": "name + traits", "over_species": interval(None)}],
    "dealt": {"p_value": 0.5},
    "above_chance": False,
    "notes": ["It means nothing."],
}
VALUES = {"quality": QUALITY, "on_animal": None, "zero_shot": ZERO_SHOT}


def written(folder: Path, values: Any) -> Path:
    file = folder / "evaluation" / "results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values))
    return file


def test_rates_are_shares_of_what_they_are_about(tmp_path: Path):
    results = read_results(written(tmp_path, VALUES))
    assert results is not None
    assert results.quality == (
        Figure("called background, and left out, of the valid answers", "10.0% (9 of 90)"),
        Figure("invalid, and left out, of the answers", "10.0% (10 of 100)"),
        Figure("failed, of the calls", "9.1% (10 of 110)"),
        Figure("with the species' own name in it, of the descriptions", "2.5% (2 of 80)"),
        Figure("species and latents whose images contradict each other in colour", "25.0% (5 of 20)"),
        Figure(
            "pairs of a species' images with the same shape at the same latent (any two descriptions)",
            "75.0% (50.0%)",
        ),
        Figure("changed answers, or background, when asked again with the region of another image", "80.0% (8 of 10)"),
    )
    assert results.has_controls
    assert results.on_animal is None


def test_of_the_zero_shot_evaluation_no_place_on_this_machine_is_named(tmp_path: Path):
    found = read_results(written(tmp_path, VALUES))
    assert found is not None
    assert found.zero_shot is not None
    assert found.zero_shot.clip == "bioclip"
    assert found.zero_shot.top1("name only") == Estimate(0.25, 0.25, 0.25)
    assert found.zero_shot.top1("name + traits") is None
    assert found.zero_shot.gain is None, "null is no number"
    assert found.zero_shot.notes == ("It means nothing.",)


def test_photographs_without_labels_leak_no_name(tmp_path: Path):
    quality = QUALITY | {
        "leakage": {"n_traits": 0, "n_any": 0},
        "contradictions": [],
        "agreement": [],
        "controls": None,
    }
    masked = {"on_animal": interval(0.9), "random": interval(0.2)}
    found = read_results(written(tmp_path, {"quality": quality, "on_animal": masked, "zero_shot": None}))
    assert found is not None
    assert len(found.quality) == 3
    assert found.on_animal == Estimate(0.9, 0.9, 0.9)
    assert not found.has_controls


def test_without_an_evaluation_there_are_no_results(tmp_path: Path):
    assert read_results(tmp_path / "evaluation" / "results.json") is None


@pytest.mark.parametrize("values", [[], {}, {"quality": {}}, VALUES | {"quality": None}])
def test_a_file_of_another_version_is_one_clear_error(tmp_path: Path, values: Any):
    with pytest.raises(ReleaseError, match=r"cannot read .*results\.json .*sae-traits evaluate"):
        read_results(written(tmp_path, values))
