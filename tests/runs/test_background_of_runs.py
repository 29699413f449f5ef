"""Why a run knows nothing of its backgrounds is said as it is."""

from dataclasses import replace

import pytest

from sae_traits.features.background import MIN_INDIVIDUALS, Background
from sae_traits.runs.background import _why_unknown
from sae_traits.schema import Collection, ImageRecord, Taxon

RECORD = ImageRecord(image_id="", file="", taxon=Taxon(), split="train", width=9, height=9, sha256="")


@pytest.mark.parametrize(
    ("n_individuals", "separation", "why"),
    [
        (MIN_INDIVIDUALS - 1, float("nan"), "23 individuals to train on are too few (at least 24) to learn"),
        (
            MIN_INDIVIDUALS,
            float("nan"),
            "fewer than 12 individuals have photographs that can be read and show more",
        ),
        (
            MIN_INDIVIDUALS,
            0.52,
            "look alike at their edges and in their middles (AUC 0.52), so the organism",
        ),
    ],
)
def test_too_few_individuals_too_little_but_ground_and_nothing_that_differs_are_told_apart(
    n_individuals, separation, why, tmp_path
):
    records = tuple(replace(RECORD, image_id=str(i), individual_id=str(i)) for i in range(n_individuals))
    said = _why_unknown(replace(Background.unknown(4), separation=separation), Collection(tmp_path, records))
    assert why in said
    assert said.endswith("regions may lie on it (look at regions.png)")
