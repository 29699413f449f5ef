import json
import math
from pathlib import Path

import pytest
from evaluation.made_results import interval, made_quality, made_results, made_zero_shot

from sae_traits.config import KMeansRegions, PaperContrast, ReLU, SAERegions
from sae_traits.errors import ConfigError
from sae_traits.runs.ablation import Ablation, Outcome, figures_of, read_grid, write_ablation

GRID = """\
run:
  collection: {source: photographs}
  train: {architecture: relu}
  regions: {contrast: {kind: paper}}
vary:
"""


def grid(tmp_path, vary):
    (tmp_path / "grid.yaml").write_text(GRID + vary)
    return read_grid(tmp_path / "grid.yaml")


def test_every_combination_is_a_cell_and_other_options_are_those_of_the_run(tmp_path):
    cells = grid(tmp_path, "  l1-coefficient: [0.0002, 0.0004]\n  min_frequency: [0.001, 0.003, 0.01]\n")
    found = []
    for cell in cells:
        config = cell.config
        assert isinstance(config.train.architecture, ReLU)
        assert isinstance(config.regions, SAERegions)
        assert isinstance(config.regions.contrast, PaperContrast)
        found.append((config.train.architecture.l1_coefficient, config.regions.contrast.min_frequency))
    assert found == [(a, t) for a in (2e-4, 4e-4) for t in (1e-3, 3e-3, 1e-2)]
    assert len({cell.name for cell in cells}) == 6


def test_variants_and_several_options_at_once_can_be_varied(tmp_path):
    cells = grid(tmp_path, "  - regions: [sae, k_means]\n    architecture: [{kind: topk, k: 8}, relu]\n  - seed: [1]\n")
    assert [type(cell.config.regions) for cell in cells[:3:2]] == [SAERegions, KMeansRegions]
    assert [cell.config.train.architecture.kind for cell in cells] == ["topk", "relu", "topk", "relu", "relu"]
    assert cells[0].config.train.architecture.k == 8
    assert cells[4].config.train.seed == 1


def test_the_same_combination_is_one_cell_and_keeps_its_folder_when_the_grid_grows(tmp_path):
    (first,) = grid(tmp_path, "  k_is_not_here: [1]\n".replace("k_is_not_here", "seed"))
    again = grid(tmp_path, "  - seed: [0, 1]\n  - seed: [1]\n")
    assert len(again) == 2
    assert again[1].name == first.name


def test_two_models_of_the_same_name_in_different_folders_are_two_cells(tmp_path):
    first, second = grid(tmp_path, "  backbone: [/a/dino, /b/dino]\n")
    assert first.name != second.name


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("  l1-coeficient: [1]\n", "there is no option 'l1-coeficient'; did you mean l1-coefficient?"),
        ("  k: 8\n", "a list of values per option"),
        ("  k: []\n", "a list of values per option"),
        ("  - 8\n", "a list of values per option"),
        ("  8: [8]\n", "there is no option 8"),
        ("  title: [2024-01-01]\n", "write it in quotation marks"),
        ("", "must hold `run:`"),
        ("  k: [8]\nvary: {}\n", "vary is there twice"),
        ("  k: [8]\nmore: 1\n", "must hold `run:`"),
        ("  k: [8]\ncollection: {}\n", "must hold `run:`"),
    ],
)
def test_a_grid_that_says_nothing_to_vary_is_refused(tmp_path, vary, message):
    with pytest.raises(ConfigError, match=r"(?s).*") as error:
        grid(tmp_path, vary)
    assert message in str(error.value)


def test_a_section_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "grid.yaml").write_text("run: {trian: {}}\nvary: {k: [8]}\n")
    with pytest.raises(ConfigError, match="has a section 'trian'"):
        read_grid(tmp_path / "grid.yaml")


def outcome(name, options, **others):
    return Outcome(name=name, options=options, **({"state": "done"} | others))


@pytest.fixture
def ablation():
    results = made_results(
        zero_shot=made_zero_shot(), quality=made_quality(), on_animal=interval(0.9), random=interval(0.2)
    )
    of_baseline = made_results()
    cells = (
        outcome("a", {"k": 8}, figures=figures_of(results, 8), seconds={"x": 10.0, "y": 5.0}),
        outcome("b", {"k": 16, "regions": "random"}, figures=figures_of(of_baseline, 8), seconds={"x": 10.0}),
        outcome("c", {"k": 99}, state="failed", reason="k <b>cannot</b> exceed | it"),
        outcome("d", {"k": 1}, state="open"),
    )
    return Ablation(cells=cells)


def test_a_step_that_cells_share_counts_once(ablation):
    assert ablation.seconds == (15, 25)


def test_tables_have_a_row_per_cell_and_a_dash_for_what_was_not_measured(ablation):
    columns, rows = ablation.tables()["Regions"]
    assert columns[:3] == ["k", "regions", "images with a trait"]
    assert rows[0][:3] == ["8", "–", "0.5"]
    assert rows[1][:3] == ["16", "random", "0.5"]
    at = columns.index("on the organism")
    assert [row[at] for row in rows] == ["0.900 [0.800, 1.000]", "–"]
    assert ablation.tables()["SAE"][1][0][-1] == "0.25"
    assert "difference, over species" in ablation.tables()["Do the traits help a CLIP?"][0]


def test_the_report_has_what_failed_what_is_open_and_the_tables_of_the_paper(ablation, tmp_path):
    write_ablation(tmp_path, ablation)
    report = (tmp_path / "report.md").read_text()
    assert "| c | k &#60;b&#62;cannot&#60;/b&#62; exceed &#124; it |" in report
    assert "- d\n" in report
    assert "| 0.0004 | 0.027 | 690 |" in report
    assert "3.92 to 4.01" in report
    tables = [line for line in report.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    values = json.loads((tmp_path / "results.json").read_text())
    assert [cell["state"] for cell in values["cells"]] == ["done", "done", "failed", "open"]
    assert values["cells"][0]["figures"]["SAE"]["L0"] == 3.0


def test_a_terminal_is_told_of_every_cell_that_has_no_figures(ablation):
    text = "\n".join(ablation.lines())
    assert "failed: c: k <b>cannot</b> exceed | it" in text
    assert "open: d" in text
    assert "took 15 s, without sharing 25 s" in text


def test_figures_are_numbers_or_intervals_that_can_be_shown(ablation):
    for figures in ablation.cells[0].figures.values():
        for value in figures.values():
            assert not math.isnan(getattr(value, "mean", value))


def test_the_grid_for_real_photographs_has_twelve_runs():
    cells = read_grid(Path(__file__).parents[2] / "benchmarks" / "leeds_ablation.yaml")
    assert len({cell.config for cell in cells}) == 12
