"""The report: whole tables of what the results hold, with nothing in them that Markdown or HTML acts on."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from evaluation.made_results import ANNOTATION, SAE, interval, made_evidence, made_results, made_zero_shot
from PIL import Image
from traits.made_traits import collection_of, described, trait_of

from sae_traits.evaluation.report import render_report, write_report
from sae_traits.evaluation.results import Extra, run_tasks
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.tasks import TASKS
from sae_traits.traits.known_background import KnownBackground

HOSTILE = "Aus <script>x</script> |*b*| [a](http://b)\n# c"


def test_the_report_says_what_the_results_hold():
    results = made_results(on_animal=interval(0.9), random=interval(0.3), zero_shot=made_zero_shot())
    text = render_report("Traits of things", results, n_regions_drawn=3)
    assert text.startswith("# Traits of things\n\n## Traits\n")
    for expected in (
        "| explained variance | 0.5000 |",
        "| dead latents | 25.00% |",
        "Regions: latents of the sparse autoencoder",
        "10 traits of 4 images; 3 are significant (a q-value of at most 0.05), 7 are not.",
        "| 0.900 [0.800, 1.000] | 0.300 [0.200, 0.400] | 0.900 [0.800, 1.000] | 10 | 4 | 3 |",
        "(figures/regions.png)",
        "(figures/zero_shot.png)",
        "Model: some/clip.",
        "74 test images of 70 individuals of 16 species",
        "difference 0.050 [-0.010, 0.110] over species, p = 0.050.",
    ):
        assert expected in text
    assert "<b>" not in text
    assert "nan" not in text


BACKGROUND = KnownBackground(
    is_known=True,
    how="What lies outside the masks is background.",
    by_masks=True,
    n_latents=9,
    n_left_out=4,
    mean_by_species={"Aus bus": 0.62},
)


def test_what_is_known_of_backgrounds_has_a_section_with_its_warning():
    text = render_report("T", dataclasses.replace(made_results(), background=BACKGROUND))
    section = text.partition("\n## Background\n")[2].partition("\n## ")[0].splitlines()
    assert section[1] == "**Warning:** Probably background, do not believe their traits: Aus bus (0.62)."
    assert section[3:5] == [
        "What lies outside the masks is background.",
        "Latents left out because they fire on background: 4 of 9.",
    ]
    unknown = KnownBackground(is_known=False, how="Background is not known.")
    text = render_report("T", dataclasses.replace(made_results(), background=unknown))
    assert "Look at figures/regions.png before you believe them." in text
    assert "## Background" not in render_report("T", made_results())


@pytest.mark.parametrize("by_masks", [True, False])
def test_masks_that_picked_regions_are_no_proof_of_them(by_masks):
    results = made_results(on_animal=interval(0.9), random=interval(0.3))
    background = dataclasses.replace(BACKGROUND, by_masks=by_masks)
    text = render_report("T", dataclasses.replace(results, background=background))
    assert ("No region was chosen by the masks." in text) is not by_masks
    assert ("The masks themselves kept regions off" in text) is by_masks
    assert "masks.\n\n| regions |" in text.replace("**", "")


def test_species_without_a_significant_trait_are_named_by_why():
    counts = ANNOTATION | {"species_too_few": ["Aus bus"], "species_none_passed": ["Cus dus"]}
    text = render_report("T", dataclasses.replace(made_results(), annotation=counts))
    assert "\n\n- 7 traits passed no test" in text
    assert "have too few individuals: Aus bus.\n" in text
    assert "could have passed the test and none did: Cus dus.\n" in text


def test_a_title_is_text_and_what_was_not_measured_is_a_dash():
    results = made_results(zero_shot=made_zero_shot())
    results = dataclasses.replace(results, sae=SAE | {"explained_variance": math.nan, "mse": None, "l0": math.inf})
    text = render_report(HOSTILE, results)
    assert text.splitlines()[0].startswith("# Aus &#60;script&#62;x")
    assert "<script>" not in text
    for name in ("explained variance", "mean squared error", "active latents per patch (L0)"):
        assert f"| {name} | – |" in text
    assert "nan" not in text.lower()


def test_every_table_is_whole_and_every_heading_stands_apart():
    results = made_results(on_animal=interval(0.9), random=interval(0.3), zero_shot=made_zero_shot())
    lines = render_report("T", results).splitlines()
    for above, line, below in zip(lines, lines[1:], lines[2:], strict=False):
        if line.startswith("| ---"):
            assert above.count("|") == line.count("|")
        if line.startswith("|") and below.startswith("|"):
            assert line.count("|") == below.count("|")
        if line.startswith("## "):
            assert above == below == ""


def test_what_was_not_evaluated_is_said_or_left_out():
    results = dataclasses.replace(made_results(), sae=None)
    text = render_report("T", results)
    assert "Skipped: no --clip was given, or no image has a label." in text
    for missing in ("Regions on the organism", "Sparse autoencoder", "regions.png", "zero_shot.png"):
        assert missing not in text


def test_no_text_of_data_is_markup():
    score = made_zero_shot(without_traits=(HOSTILE,))
    condition = dataclasses.replace(score.conditions[1], example=HOSTILE)
    score = dataclasses.replace(score, conditions=(score.conditions[0], condition))
    extra = {"x": Extra(heading=HOSTILE, lines=("```", HOSTILE), values={})}
    collection = collection_of([HOSTILE])
    results = run_tasks(made_evidence(collection, [trait_of(0, 1, described(part=HOSTILE, colour=HOSTILE))]))
    results = dataclasses.replace(results, tasks=results.tasks | {"zero_shot": score}, extra=extra)
    prose, code, rest = render_report(HOSTILE, results).split("\n```\n")
    for active in ("<script>", "[a](http", "*b*", "\n# c"):
        assert active not in prose + rest
    assert HOSTILE in code


def test_files_are_written_whole_and_nan_is_null(tmp_path):
    collection = collection_of(["Aus bus"] * 3, root=tmp_path)
    for record in collection.images:
        Image.new("RGB", (record.width, record.height), "green").save(tmp_path / record.file)
    traits = [trait_of(row, 1, described(colour="red")) for row in range(3)]
    alone = Interval(0.5, math.nan, math.nan, 1)
    results = made_results(on_animal=alone, random=alone, zero_shot=made_zero_shot())
    results = dataclasses.replace(
        results, sae=results.sae | {"note": math.inf}, annotation=results.annotation | {"n_traits": 3}
    )
    folder = tmp_path / "evaluation"
    assert write_report(folder, "T", results, made_evidence(collection, traits)) == 3
    values = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert values["tasks"]["localisation"]["on_animal"] == {"mean": 0.5, "low": None, "high": None, "n_groups": 1}
    assert values["sae"]["note"] is None
    assert (folder / "report.md").read_text() == render_report("T", results, n_regions_drawn=3)
    assert sorted(path.name for path in (folder / "figures").iterdir()) == ["regions.png", "zero_shot.png"]


def test_the_report_begins_with_what_tells_the_species_apart_and_all_its_pictures_are_there(tmp_path):
    collection = collection_of(["Aus bus", "Aus cus"], root=tmp_path)
    Image.new("RGB", (100, 80), "green").save(tmp_path / collection.images[0].file)  # the other one is missing
    traits = [trait_of(0, latent, described()) for latent in (1, 2)] + [trait_of(1, 3, described())]
    evidence = made_evidence(collection, traits)
    folder = tmp_path / "evaluation"
    former = folder / "figures" / "traits" / "099-0.jpg"
    former.parent.mkdir(parents=True)
    former.touch()
    write_report(folder, "T", run_tasks(evidence), evidence)
    report = (folder / "report.md").read_text()
    assert report.startswith("# T\n\n## What tells each species from its closest relatives\n")
    pictures = re.findall(r"!\[latent \d\]\((.*?) ", report)
    assert pictures == [f"figures/traits/{name}.jpg" for name in ("000-0", "000-1", "001-0")]
    assert sorted(map(str, folder.glob("figures/traits/*"))) == sorted(str(folder / name) for name in pictures)
    seen, missing = (np.array(Image.open(folder / pictures[place])) for place in (0, 2))
    assert (np.abs(seen.astype(int) - (0, 128, 0)).max(axis=2) < 20).mean() > 0.5
    assert np.median(missing) == 255


def test_every_task_has_a_template():
    results = run_tasks(made_evidence(collection_of(["Aus bus"]), []))
    assert list(results.tasks) == [task.name for task in TASKS]
    assert render_report("T", results).count("## ") >= 3
