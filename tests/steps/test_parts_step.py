"""The command `parts` on a drawn world, whose truth is written as part masks and as keypoints."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sae_traits.cli import main
from sae_traits.evaluation.results import read_results
from sae_traits.sae.model import SAE
from sae_traits.testbench.drawn import Truth
from sae_traits.traits.codes import Codes


@pytest.fixture(scope="session")
def part_files(drawn, tmp_path_factory):
    """The truth of the drawn collection as a folder of part masks and a table of keypoints."""
    folder, parts = tmp_path_factory.mktemp("truth"), Truth.load(drawn).parts
    points = [("image", "part", "x", "y"), ("Fictacara_ignita/099", "head", 1, 1)]
    for file in sorted((drawn / "parts").rglob("*.png")):
        labels, name = np.asarray(Image.open(file)), file.relative_to(drawn / "parts").with_suffix("")
        (folder / "masks" / name).mkdir(parents=True)
        for value in np.unique(labels[labels > 0]):
            Image.fromarray((labels == value).astype(np.uint8) * 255).save(
                folder / "masks" / name / f"{parts[value]}.png"
            )
            y, x = np.nonzero(labels == value)
            points.append((name.as_posix(), parts[value], x.mean(), y.mean()))
    with (folder / "keypoints.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(points)
    return folder


def parts(run, *options):
    return main(["parts", str(run), "--format", "json", *map(str, options)])


def test_parts_are_measured_beside_baselines_and_the_report_shows_it(run, part_files, capsys):
    assert parts(run, "--part-masks", part_files / "masks", "--baselines", "random") == 0
    values = json.loads(capsys.readouterr().out)
    assert list(values["methods"]) == ["sae", "random"]
    sae = values["methods"]["sae"]["measures"]
    assert sae["inside"]["value"] > 2 * sae["inside"]["null"]
    assert sae["purity"]["value"] > sae["purity"]["null"]
    assert set(sae) >= {"held_out_part", "location", "repeats"}
    assert values["shuffled_labels"]["n_significant"] <= values["labels"]["n_significant"]
    assert (run / "baselines" / "codes" / "random" / "index.json").is_file()
    assert main(["evaluate", str(run)]) == 0
    stored = read_results(run / "evaluation" / "results.json").tasks["parts"]
    assert list(stored.methods) == ["sae", "random"]
    report = (run / "evaluation" / "report.md").read_text()
    assert "## Regions on parts of the organism" in report
    assert "| purity |" in report
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert "evaluate: complete and its inputs have not changed, skipped" in capsys.readouterr().err


def test_keypoints_are_matched_and_what_is_not_is_told(run, part_files, capsys):
    assert parts(run, "--keypoints", part_files / "keypoints.csv", "--baselines") == 0
    captured = capsys.readouterr()
    values = json.loads(captured.out)
    assert list(values["methods"]) == ["sae"]
    assert values["methods"]["sae"]["measures"]["purity"]["value"] > 0
    assert "Fictacara_ignita/099: no image of the collection" in captured.err
    assert json.loads((run / "evaluation" / "parts.json").read_text())["evidence"]["problems"]


@pytest.mark.slow
def test_codes_of_a_baseline_are_made_once(run, capsys):
    made = "codes of the baseline pca"
    assert parts(run, "--baselines", "pca") == 0
    assert made in capsys.readouterr().err
    codes = {path: path.stat().st_mtime_ns for path in (run / "baselines" / "codes" / "pca").rglob("*.parquet")}
    assert parts(run, "--baselines", "pca") == 0
    assert made not in capsys.readouterr().err
    assert codes == {path: path.stat().st_mtime_ns for path in (run / "baselines" / "codes" / "pca").rglob("*.parquet")}
    for harm in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])):
        harm(next(iter(codes)))
        assert parts(run, "--baselines", "pca") == 0
        assert made in capsys.readouterr().err


@pytest.mark.slow
def test_codes_of_a_baseline_follow_what_was_learnt_of_backgrounds(run, capsys):
    assert parts(run, "--baselines", "pca") == 0
    capsys.readouterr()
    assert main(["annotate", str(run), "--background", "off"]) == 0
    assert parts(run, "--baselines", "pca") == 0
    assert "codes of the baseline pca" in capsys.readouterr().err


def test_pca_is_held_to_as_many_firings_as_the_sae_and_so_has_regions(run, capsys):
    assert parts(run, "--baselines", "random", "pca") == 0
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert methods["pca"]["n_regions"] > 0
    folders = {"sae": run / "codes"} | {kind: run / "baselines" / "codes" / kind for kind in ("random", "pca")}
    firings = {
        kind: sum(int(counts.sum()) for _, counts in Codes.open(folder).firing_counts())
        for kind, folder in folders.items()
    }
    assert firings["pca"] == pytest.approx(firings["sae"], rel=0.15)
    assert firings["random"] == pytest.approx(firings["sae"], rel=0.15)


def test_a_baseline_whose_weights_are_not_those_that_were_fitted_is_fitted_again(run):
    assert parts(run, "--baselines", "pca") == 0
    folder = run / "baselines" / "pca"
    fitted = SAE.from_pretrained(folder)
    hash_of_weights = fitted.weights_hash()
    with torch.no_grad():
        fitted.W_dec += 1
    fitted.save_pretrained(folder)
    assert parts(run, "--baselines", "pca") == 0
    assert SAE.from_pretrained(folder).weights_hash() == hash_of_weights


@pytest.mark.slow
def test_codes_and_evidence_that_are_not_as_they_were_written_are_not_used(run, part_files, capsys):
    assert parts(run, "--part-masks", part_files / "masks", "--baselines") == 0
    assert main(["evaluate", str(run)]) == 0
    path = run / "evaluation" / "parts.json"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    assert main(["evaluate", str(run)]) == 1
    assert f"{path} is damaged" in capsys.readouterr().err
    codes = next((run / "codes").glob("*.parquet"))
    codes.write_bytes(codes.read_bytes()[:-1])
    assert parts(run, "--baselines") == 1
    assert f"{codes} is missing or not as it was written" in capsys.readouterr().err


def test_an_evaluation_measures_parts_where_the_table_has_masks(finished):
    result = read_results(finished / "evaluation" / "results.json").tasks["parts"]
    assert list(result.methods) == ["sae", "random", "k_means"]
    assert result.methods["sae"].measures["location"].value < 1
    assert "purity" not in result.methods["sae"].measures


def test_files_that_are_not_there_or_fit_nothing_are_one_line(run, tmp_path, capsys):
    Path(tmp_path / "k.csv").write_text("image,part,x,y\nelsewhere,eye,1,2\n")
    for options, message in (
        (["--keypoints", tmp_path / "none.csv"], "cannot read"),
        (["--keypoints", tmp_path / "k.csv"], "elsewhere: no image of the collection"),
        (["--part-masks", tmp_path / "none"], "is not a folder of part masks"),
    ):
        assert parts(run, *options) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def methods_and_measures(run):
    stored = read_results(run / "evaluation" / "results.json").tasks["parts"]
    return list(stored.methods), set(stored.methods["sae"].measures)


@pytest.mark.slow
def test_evidence_of_former_regions_is_measured_again_with_the_same_files(run, part_files, capsys):
    assert parts(run, "--part-masks", part_files / "masks", "--baselines", "random") == 0
    former = methods_and_measures_of(capsys)
    assert main(["annotate", str(run), "--traits-per-image", "1"]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert f"it is measured again, with --part-masks {part_files / 'masks'}" in capsys.readouterr().err
    assert methods_and_measures(run) == former
    assert main(["evaluate", str(run)]) == 0
    assert "evaluate: complete and its inputs have not changed, skipped" in capsys.readouterr().err


@pytest.mark.slow
def test_where_the_files_are_gone_a_command_and_the_report_say_what_to_do(run, part_files, tmp_path, capsys):
    keypoints = tmp_path / "some points.csv"
    keypoints.write_bytes((part_files / "keypoints.csv").read_bytes())
    assert parts(run, "--keypoints", keypoints, "--baselines") == 0
    keypoints.unlink()
    before = (run / "evaluation" / "parts.json").read_bytes()
    assert main(["annotate", str(run), "--traits-per-image", "1"]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert f"run `sae-traits parts {run} --keypoints '{keypoints}'` again" in capsys.readouterr().err
    assert "**Note**: " in (run / "evaluation" / "report.md").read_text()
    methods, measures = methods_and_measures(run)
    assert methods == ["sae", "random", "k_means"]  # measured by the evaluation, of the table's masks
    assert "purity" not in measures
    assert parts(run) == 1
    assert "cannot read" in capsys.readouterr().err
    assert (run / "evaluation" / "parts.json").read_bytes() == before


def test_without_files_those_of_before_are_used(run, part_files, capsys):
    assert parts(run, "--keypoints", part_files / "keypoints.csv", "--baselines") == 0
    former = methods_and_measures_of(capsys)
    assert parts(run, "--baselines") == 0
    assert f"with the files of before, --keypoints {part_files / 'keypoints.csv'};" in capsys.readouterr().err
    files = json.loads((run / "evaluation" / "parts.json").read_text())["files"]
    assert files == {"keypoints": str(part_files / "keypoints.csv")}
    assert "purity" in former[1]


def methods_and_measures_of(capsys):
    """Of what the command `parts` has printed."""
    methods = json.loads(capsys.readouterr().out)["methods"]
    return list(methods), set(methods["sae"]["measures"])
