import json

from sae_traits.evaluation.report import read_section, report_sections, write_report

RESULTS = {
    "sae": {"explained_variance": 0.5, "mse": 0.1, "l0": 3.0, "dead_share": 0.25, "n_patches": 1000},
    "regions": "pca",
    "traits": {
        "n_traits": 10, "n_images": 4, "n_significant": 3, "n_background": 1, "n_invalid": 2, "n_failed": 0,
    },
    "on_animal": None,
}  # fmt: skip


def score(mean):
    return {"mean": mean, "low": None, "high": None}


def test_the_report_says_what_the_results_hold(tmp_path):
    animal = {
        "on_animal": score(0.9), "random": score(0.3), "gain": score(0.6),
        "by_species": {"Fictus <b>x</b>": 0.9}, "n_traits": 10, "n_images": 4,
    }  # fmt: skip
    results = RESULTS | {"on_animal": animal}
    sections = report_sections(
        results, species=["| a bee |"], quality=["few"], drawn=["a line"], zero_shot=["| table |"], n_regions_drawn=3
    )
    write_report(tmp_path, "Traits of things", results, sections)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Traits of things\n")
    for expected in (
        "0.5000",
        "25.00%",
        "Regions: principal components",
        "10 traits of 4 images",
        "| 0.900 | 0.300 | 0.600 | 10 | 4 |",
        "| a bee |",
        "a line",
    ):
        assert expected in text
    assert "<b>" not in text
    assert "figures/regions.png" in text
    assert read_section(tmp_path, "Zero-shot classification").startswith("| table |")
    assert read_section(tmp_path, "No such section") == ""


def test_what_was_not_measured_is_said_and_nan_is_null(tmp_path):
    results = RESULTS | {"drawn": {"x": float("nan"), "y": [float("inf"), 1.0]}}
    sections = report_sections(results, species=[], quality=["few"], drawn=[], zero_shot=[], n_regions_drawn=0)
    assert "Against the truth of the drawn world" not in sections
    assert sections["Zero-shot classification"] == ["Skipped: no --clip was given."]
    write_report(tmp_path, "T", results, sections)
    assert json.loads((tmp_path / "results.json").read_text())["drawn"] == {"x": None, "y": [None, 1.0]}
