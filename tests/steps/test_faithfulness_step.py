"""Asking again with other regions: kept, shown in the report, and not asked twice."""

import json

from sae_traits.cli import main


def test_controls_are_asked_kept_shown_and_not_asked_again(run, capsys):
    assert main(["faithfulness", str(run), "--n", "20", "--format", "json"]) == 0
    controls = json.loads(capsys.readouterr().out)
    scores = {score["kind"]: score for score in controls["scores"]}
    assert (controls["n_traits"], controls["n_open"]) == (20, 0)
    assert (scores["same"]["n_answered"], scores["same"]["n_changed"]) == (20, 0)
    assert scores["blank"]["changed_share"] > 0.5
    assert main(["faithfulness", str(run), "--n", "20"]) == 0
    found = capsys.readouterr()
    assert "describe:" not in found.err
    n_blank = scores["blank"]["n_answered"]  # not of images whose regions reach into all corners
    assert n_blank > 10
    assert f"blank    {n_blank} of {n_blank} answered" in found.out
    assert main(["evaluate", str(run)]) == 0
    assert "20 traits were asked about again" in (run / "evaluation/report.md").read_text()
    assert (
        json.loads((run / "evaluation/results.json").read_text())["tasks"]["text_quality"]["faithfulness"]["n_traits"]
        == 20
    )
    kept = json.loads((run / "traits/faithfulness.json").read_text())
    (run / "traits/faithfulness.json").write_text(json.dumps(kept | {"annotate": "another fingerprint"}))
    assert main(["evaluate", str(run)]) == 0
    assert "asked about again" not in (run / "evaluation/report.md").read_text(), "they were of another annotation"


def test_controls_that_cannot_be_asked_say_why(run, capsys):
    model = ["--describer", "server", "--describer-model", "m"]
    for options, reason in (
        (["--n", "0"], "at least one trait"),
        (["--sample-seed", "-3"], "the seed of a sample is 0 or more, not -3"),
        (model, "none of the traits was made by server with m@unstated"),
        ([*model, "--prompt", "whole"], "--prompt whole shows none"),
        ([*model, "--images-per-description", "3"], "--images-per-description 1"),
    ):
        assert main(["faithfulness", str(run), *options]) == 2
        assert reason in capsys.readouterr().err
    assert not (run / "traits" / "faithfulness.json").exists()
