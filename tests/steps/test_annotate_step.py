"""The step `annotate` of a whole run: contrasts, costs, masks, boxes, and a describer that fails."""

import json
from dataclasses import replace

import pytest
from describer_server.running import describer_server
from steps.small_runs import collected, content

from sae_traits.cli import main
from sae_traits.schema import Collection
from sae_traits.traits.encode import VERSION
from sae_traits.traits.table import read_traits


@pytest.mark.slow
def test_the_papers_contrast_runs_the_same_way(run, capsys):
    arguments = ["--contrast", "paper", "--firing-threshold", "0.2", "--min-frequency", "1e-4"]
    assert main(["annotate", str(run), *arguments]) == 0
    assert "traits" in capsys.readouterr().out


def test_the_cost_of_describing_is_estimated_without_asking(run, capsys):
    arguments = ["annotate", str(run), "--estimate", "--format", "json", "--describer", "server"]
    assert main([*arguments, "--describer-model", "m", "--prompt-price", "1.0"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["n_calls"] == json.loads((run / "steps.json").read_text())["annotate"]["counts"]["n_traits"]
    assert estimate["n_finished"] == 0
    assert estimate["prompt_tokens"] > 100 * estimate["n_calls"]


def test_masks_change_measures_alone_and_only_when_asked_for(run, capsys):
    plain = {trait.trait_id: trait for trait in read_traits(run / "traits/traits.parquet")}
    assert {trait.measurement.on_animal for trait in plain.values()} == {None}
    assert main(["annotate", str(run), "--use-masks"]) == 0
    assert "encode: complete" in capsys.readouterr().err
    masked = {trait.trait_id: trait for trait in read_traits(run / "traits/traits.parquet")}
    assert {name: trait.region for name, trait in masked.items()} == {n: trait.region for n, trait in plain.items()}
    shares = [trait.measurement.on_animal for trait in masked.values() if trait.measurement.on_animal is not None]
    assert len(shares) == len(masked)
    assert sum(shares) > 0.5 * len(masked)
    assert "organisms' pixels alone" in (run / "dataset/README.md").read_text()


def test_codes_of_an_earlier_version_are_made_anew_with_all_that_is_made_of_them(run, capsys, monkeypatch):
    monkeypatch.setattr("sae_traits.steps.encode.VERSION", VERSION + 1)
    assert main(["annotate", str(run)]) == 0
    said = capsys.readouterr().err
    assert [step for step in ("encode", "annotate", "dataset") if f"{step}: done in" in said] == [
        "encode", "annotate", "dataset"
    ]  # fmt: skip


def test_masks_that_no_image_has_are_refused(run, capsys):
    collection = Collection.load(run / "images.parquet")
    unmasked = tuple(replace(record, mask_file=None) for record in collection.images)
    collected(replace(collection, images=unmasked), run)
    assert main(["annotate", str(run), "--use-masks"]) == 2
    assert "no image of the collection has a mask" in capsys.readouterr().err


def test_boxes_get_their_margin_and_specks_go(run):
    tight = {trait.trait_id: trait.region for trait in read_traits(run / "traits/traits.parquet")}
    assert main(["annotate", str(run), "--box-margin", "0.25", "--min-patches", "2"]) == 0
    found = {trait.trait_id: trait.region for trait in read_traits(run / "traits/traits.parquet")}
    assert any(len(region.patches) == 1 for region in tight.values())
    assert all(len(region.patches) >= 2 for region in found.values())
    same = [name for name in found if name in tight and found[name].patches == tight[name].patches]
    assert same
    for name in same:
        assert found[name].polygons == tight[name].polygons
        assert found[name].box[2] > tight[name].box[2]


def without_databases(run):
    return {file: sha256 for file, sha256 in content(run).items() if ".sqlite" not in file}


def test_a_describer_that_fails_leaves_the_finished_run_as_it_was(run, capsys):
    former = without_databases(run)
    arguments = ["--describer", "server", "--describer-model", "m", "--base-url", "http://127.0.0.1:1/v1"]
    assert main(["annotate", str(run), *arguments]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert without_databases(run) == former
    assert main(["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["annotate", "caption", "faithfulness"])
def test_nobody_is_asked_about_photographs_that_are_gone_and_the_run_stays_as_it_was(command, run, tmp_path, capsys):
    collection = Collection.load(run / "images.parquet")
    collected(replace(collection, root=tmp_path / "gone"), run)
    former = without_databases(run)
    with describer_server() as server:
        arguments = ["--describer", "server", "--describer-model", "m", "--base-url", server.base_url]
        # Only the traits of one who has described them are asked about again.
        assert main([command, str(run), *(arguments if command != "faithfulness" else [])]) == 1
        assert server.n_requests() == server.statistics()["n_probes"] == 0
    where = f"the images are no longer in {tmp_path}/gone; where they have moved, `sae-traits run NEW_PLACE --out "
    assert where in capsys.readouterr().err
    assert without_databases(run) == former
    (tmp_path / "gone").mkdir()
    assert main([command, str(run), *(["--outline", "patches"] if command == "annotate" else [])]) == 1
    said = f"none of the images is in {tmp_path}/gone any more, such as {collection.images[0].file}; put them back"
    assert said in capsys.readouterr().err
    assert without_databases(run) == former
