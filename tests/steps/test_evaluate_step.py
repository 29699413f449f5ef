"""The step `evaluate` of a whole run: with a CLIP model, without one, and against the truth of the drawn world."""

import json

from clip_folders import make_open_clip_folder
from steps.small_runs import content

from sae_traits.cli import main
from sae_traits.testbench.truth import DrawnTruth


def test_a_finished_run_is_evaluated_with_a_clip_in_bioclips_format(run, tmp_path, capsys):
    make_open_clip_folder(tmp_path / "clip", seed=0)
    former = {name: (run / name / "README.md").read_text() for name in ("dataset", "sae")}
    data = content(run / "dataset" / "data")
    times = {path: path.stat().st_mtime_ns for path in (run / "dataset" / "data").rglob("*.parquet")}
    assert main(["evaluate", str(run), "--clip", str(tmp_path / "clip")]) == 0
    captured = capsys.readouterr()
    assert "name only" in captured.out
    assert "dataset: complete" in captured.err, "the rows do not depend on what is evaluated"
    assert content(run / "dataset" / "data") == data
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for name, card in former.items():
        assert "name only" in (run / name / "README.md").read_text(), "both cards show the new results"
        assert "name only" not in card
    results = json.loads((run / "evaluation/results.json").read_text())
    zero_shot = results["tasks"]["zero_shot"]
    assert zero_shot["model"]["layout"] == "open_clip"
    assert zero_shot["conditions"][0]["name"] == "name only"
    report = (run / "evaluation/report.md").read_text()
    assert "The comparison means nothing" in report or "too few to tell" in report
    assert (run / "evaluation/figures/zero_shot.png").is_file()
    recall = results["extra"]["drawn"]["values"]["recall"][0]
    assert recall["regions"]["low"] > recall["random"]["high"], "regions lie on diagnostic parts, also another time"
    assert DrawnTruth.heading in report
    assert main(["evaluate", str(run), "--clip", str(tmp_path / "clip")]) == 0
    assert "evaluate: complete" in capsys.readouterr().err


def test_a_run_without_a_clip_says_how_to_evaluate(finished, capsys):
    assert main(["evaluate", str(finished)]) == 0
    assert f"sae-traits evaluate {finished} --clip" in capsys.readouterr().out


def test_a_clip_that_cannot_be_used_is_one_clear_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["evaluate", str(run), "--clip", str(tmp_path / "empty")]) == 1
    assert "open_clip_config.json" in capsys.readouterr().err
