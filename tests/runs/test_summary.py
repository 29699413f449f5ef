"""What the terminal and scripts are told of a run."""

import numpy as np
import pytest

from sae_traits.config import PCARegions, RunConfig, SAERegions, WholeImage
from sae_traits.config.collection import CollectionConfig
from sae_traits.features.background import Background
from sae_traits.runs.context import Context
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.summary import Summary
from sae_traits.schema import Collection
from sae_traits.steps import STEPS

COLLECT = {
    "n_images": 50, "n_individuals": 50, "n_species": 4, "n_problems": 0,
    "n_near_identical": {"split": 0, "species": 0},
}  # fmt: skip
ANNOTATE = {
    "n_traits": 1200, "n_images": 40, "n_significant": 1000, "n_background": 0, "n_invalid": 0, "n_failed": 0,
    "n_open": 0, "n_without_colour": 0, "n_latents_without_colour": 0, "dropped_latents": [],
    "species_without_latents": [], "mean_background": {}, "species_too_few": [], "species_none_passed": [],
}  # fmt: skip
TRAIN = {"explained_variance": 0.87654, "l0": 15.96, "dead_share": 0.125, "n_saes": 1}
COUNTS = {"collect": COLLECT, "extract": {"n_patches": 12288, "d_model": 59}, "train": TRAIN}
COUNTS |= {"encode": {"n_latents_used": 60}}


@pytest.fixture
def summary(tmp_path):
    """Makes the summary of a run whose steps have counted something."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    Collection(tmp_path, ()).save(folder.images)
    Background(np.zeros(4, np.float32), 0.0, 0.934).save(folder.background)

    def make(counts, **sections):
        config = RunConfig(collection=CollectionConfig(source=str(tmp_path)), **sections)
        context = Context(folder, config, STEPS)
        for name, of_step in counts.items():
            after = {before: before for before in STEPS[name]}
            context.steps.records[name] = {"fingerprint": name, "after": after, "counts": of_step}
        return Summary.of(context)

    return make


def text_of(summary):
    return "\n".join(summary.lines())


def test_a_run_that_has_only_begun_is_a_folder(summary, tmp_path):
    assert summary({}).lines() == [f"run       {tmp_path / 'run'}"]
    assert summary({}).to_dict() == {"run": str(tmp_path / "run"), "unfinished": False, "steps": {}}


def test_folders_of_which_no_image_is_left_are_named_clean_and_the_others_counted(summary):
    lost = {"n_without_images": 5, "without_images": ["Heliconius_erato; rm", "un\x1b[31msorted\n", "x" * 90]}
    lines = summary({"collect": COLLECT | lost}).lines()
    assert f"          no image is left of: Heliconius_erato; rm, un [31msorted, {'x' * 59}… (and 2 more)" in lines
    one = {"n_without_images": 1, "without_images": ["unsorted"]}
    assert "          no image is left of: unsorted" in summary({"collect": COLLECT | one}).lines()
    for none in ({}, {"n_without_images": 0, "without_images": []}):
        assert "no image is left" not in text_of(summary({"collect": COLLECT | none}))


def test_what_a_published_table_would_lack_of_rights_is_said(summary):
    none, some = {"n_without_license": 50, "n_without_rights_holder": 0}, {"n_without_license": 3}
    where = "(columns license and rights_holder of the table)"
    assert f"          images without a licence: 50 {where}" in summary({"collect": COLLECT | none}).lines()
    some |= {"n_without_rights_holder": 40}
    line = f"          images without a licence: 3, with a licence, but without a rights holder: 40 {where}"
    assert line in summary({"collect": COLLECT | some}).lines()
    for complete in ({}, {"n_without_license": 0, "n_without_rights_holder": 0}):
        assert "licence" not in text_of(summary({"collect": COLLECT | complete}))


def test_each_finished_step_has_its_line(summary, tmp_path):
    made = summary(COUNTS | {"annotate": ANNOTATE, "dataset": {}})
    run = tmp_path / "run"
    assert made.lines() == [
        f"run       {run}",
        "images    50 of 4 species",
        "features  12,288 patches of width 59",
        f"SAE       {run}/sae: explained variance 0.877, L0 16.0, dead latents 12.5 %",
        "traits    1,200 for 40 of 50 images (80.0%), 30.0 each; 1,000 significant, 200 not",
        "          200 traits passed no test and may be what chance gives: labels "
        "dealt at random give nearly as many. More individuals per species would tell.",
        "          Edges and middles of photographs were told apart with an AUC of 0.93 (0.5 is chance, and below 0.8 "
        "nothing is left out).",
        "          Latents left out because they fire on background: 0 of 60.",
        f"dataset   {run}/dataset: load_dataset('{run}/dataset')",
    ]
    assert made.to_dict()["steps"]["annotate"]["n_traits"] == 1200
    assert not made.is_unfinished


def test_images_are_told_from_individuals_and_problems_are_pointed_to(summary):
    two_each = COLLECT | {"n_individuals": 25, "n_problems": 3, "n_near_identical": {"split": 2, "species": 1}}
    lines = text_of(summary({"collect": two_each}))
    assert "images    50 of 25 individuals of 4 species; 3 problems, see" in lines
    assert "2 images nearly equal one of another split" in lines
    assert "--near-identical train moves them" in lines
    assert "1 image nearly equals one of another species" in lines
    assert "images    50 without labels" in text_of(summary({"collect": COLLECT | {"n_species": 0}}))


def test_what_is_left_out_or_left_to_do_is_said(summary):
    counts = ANNOTATE | {
        "n_background": 5, "n_invalid": 6, "n_failed": 7, "n_open": 8, "species_without_latents": ["Aus bus"],
        "dropped_latents": ["1: fires in 99 % of all", "2: fires in 97 % of all", "3: fires on background with …"],
        "mean_background": {"Aus bus": 0.5, "Cus dus": 0.51}, "n_without_colour": 1234, "n_latents_without_colour": 9,
        "species_none_passed": ["Aus bus"],
    }  # fmt: skip
    made = summary(COUNTS | {"annotate": counts})
    assert made.is_unfinished
    assert made.to_dict()["unfinished"] is True
    for line in (
        "5 answers were background and are left out",
        "6 answers could not be used and are kept in the ledger",
        "7 calls failed and are kept in the ledger",
        "8 regions are asked about by the same command, given again",
        "1,234 sentences name no colour: individuals of a species do not agree on it at 9 of the latents",
        "left out for firing nearly everywhere: 2 of the latents",
        "Latents left out because they fire on background: 1 of 60.",
        "Probably background, do not believe their traits: Cus dus (0.51).\n",
        "and none did: Aus bus.\n",
        "(--no-significant-only gives what there is, marked as not significant)",
    ):
        assert line in text_of(made)
    assert "no latent for" not in text_of(made), "why has been said"
    untested = {name: value for name, value in counts.items() if name != "species_too_few"}
    assert "no latent for Aus bus\n" in text_of(summary(COUNTS | {"annotate": untested}))


def test_where_background_is_not_known_the_pictures_are_pointed_to(summary):
    lines = text_of(summary(COUNTS | {"annotate": ANNOTATE}, regions=SAERegions(background="off")))
    assert "Background is not known: --background off.\n" in lines
    assert "Look at regions.png before you believe them." in lines
    assert "AUC" not in lines


@pytest.mark.parametrize(("n_species", "regions", "is_said"), [(1, None, True), (2, None, False), (1, "whole", False)])
def test_that_one_species_is_compared_with_nothing_is_said(summary, n_species, regions, is_said):
    sections = {} if regions is None else {"regions": WholeImage()}
    made = summary(COUNTS | {"collect": COLLECT | {"n_species": n_species}, "annotate": ANNOTATE}, **sections)
    assert ("one species, so it was compared with nothing" in text_of(made)) is is_said


def test_no_division_by_zero_where_nothing_was_described(summary):
    assert "traits    0 for 0 of 50 images (0.0%), 0.0 each" in text_of(
        summary(COUNTS | {"annotate": ANNOTATE | {"n_traits": 0, "n_images": 0, "n_significant": 0}})
    )


def test_regions_of_a_baseline_and_a_sweep_are_named(summary):
    counts = COUNTS | {"train": TRAIN | {"n_saes": 6}, "annotate": ANNOTATE}
    lines = text_of(summary(counts, regions=PCARegions()))
    assert "of a baseline's regions, pca: principal components of the patch features" in lines
    assert "the recommended one of 6, see" in lines


def test_a_step_whose_inputs_have_changed_since_is_not_counted(summary):
    made = summary(COUNTS | {"annotate": ANNOTATE})
    steps = made.context.steps
    steps.records["train"]["fingerprint"] = "another"
    assert set(Summary.of(made.context).counts) == {"collect", "extract", "train"}
