"""What a run knows of its backgrounds, and why it knows nothing, is said as it is."""

from dataclasses import replace

import numpy as np
import pytest

from sae_traits.config import RunConfig, SAERegions, WholeImage
from sae_traits.config.collection import CollectionConfig
from sae_traits.features.background import MIN_INDIVIDUALS, Background
from sae_traits.runs.background import _why_unknown, known_background
from sae_traits.runs.context import Context
from sae_traits.runs.folder import RunFolder
from sae_traits.schema import Collection, ImageRecord, Taxon
from sae_traits.steps import STEPS

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


@pytest.fixture
def known(tmp_path):
    """Makes what an annotated run knows of its backgrounds, by its regions and what it learnt."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    Collection(tmp_path, ()).save(folder.images)
    counts = {name: {} for name in STEPS} | {
        "encode": {"n_latents_used": 60},
        "annotate": {
            "dropped_latents": ["1: fires in 99 % of all", "3: fires on background with …"],
            "mean_background": {"Aus bus": 0.2}, "species_only_on_background": {"Cus dus": 3},
        },
    }  # fmt: skip

    def make(regions, learnt=None):
        if learnt is not None:
            learnt.save(folder.background)
        config = RunConfig(collection=CollectionConfig(source=str(tmp_path)), regions=regions)
        context = Context(folder, config, STEPS)
        for name, of_step in counts.items():
            after = {before: before for before in STEPS[name]}
            context.steps.records[name] = {"fingerprint": name, "after": after, "counts": of_step}
        return known_background(context)

    return make


def test_what_was_learnt_is_said_with_its_figure_and_what_was_left_out_for_it(known):
    found = known(SAERegions(), Background(np.zeros(4, np.float32), 0.0, 0.934))
    assert found.is_known
    assert not found.by_masks
    assert found.separation == pytest.approx(0.934)
    assert (found.n_latents, found.n_left_out) == (60, 1)
    assert "told apart with an AUC of 0.93 (0.5 is chance, and below 0.8 nothing is left out)." in found.how
    assert (found.mean_by_species, found.only_on_background) == ({"Aus bus": 0.2}, {"Cus dus": 3})


def test_masks_are_said_to_have_had_a_say(known):
    found = known(SAERegions(background="masks"))
    assert found.is_known
    assert found.by_masks
    assert "--background masks" in found.how


@pytest.mark.parametrize(
    ("background", "learnt", "how"),
    [
        ("off", None, "Background is not known: --background off."),
        ("auto", Background.unknown(4), "Background is not known: 0 individuals to train on are too few (at least 24)"),
    ],
)
def test_where_nothing_is_known_the_reason_is_given(known, background, learnt, how):
    found = known(SAERegions(background=background), learnt)
    assert not found.is_known
    assert found.how.startswith(how)
    assert found.separation is None


def test_regions_without_latents_have_nothing_to_leave_out(known):
    assert known(WholeImage()) is None
