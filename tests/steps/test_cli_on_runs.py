"""The commands on a finished run: what they print, and what they leave alone."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from features.tiny_models import save_model
from root_powers import without_root_powers
from steps.small_runs import SMALL, STEP_NAMES, collected, command, content

from sae_traits.cli import COMMANDS, main
from sae_traits.config.layers import read_config
from sae_traits.release.loading import load_traits
from sae_traits.runs.lock import writing
from sae_traits.schema import Collection


def files_of(folder):
    """What lies in a folder, and when it was written; the lock and SQLite's own files come and go."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock" and not path.name.endswith(("-wal", "-shm"))
    }


def test_the_same_command_again_skips_every_step_and_writes_nothing(drawn, run, capsys):
    before = content(run), files_of(run)
    assert main(["run", str(drawn), "--out", str(run), *SMALL]) == 0
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.err.splitlines() if "skipped" in line] == STEP_NAMES
    assert "run " in captured.out
    assert (content(run), files_of(run)) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
def test_a_finished_run_on_a_read_only_folder_is_complete(drawn, run):
    (run / ".lock").unlink(missing_ok=True)
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    same = command("run", drawn, "--out", run, *SMALL)
    try:
        again = subprocess.run(same, preexec_fn=without_root_powers, capture_output=True, text=True)
        other = subprocess.run([*same, "--seed", "1"], preexec_fn=without_root_powers, capture_output=True, text=True)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("skipped") == 8
    assert again.stdout.startswith("run ")
    assert other.returncode == 1
    assert other.stderr.splitlines()[-1] == (
        f"sae-traits run: the step 'train' has to be done, and {run} is read-only: give the options of its config.yaml "
        "to see what is finished, or work on a copy, or in another folder"
    )
    assert "Traceback" not in other.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
def test_a_read_only_run_can_be_published(run):
    (run / ".lock").unlink(missing_ok=True)
    paths = [run, *run.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    dry = command("publish", run, "--model-repo", "a/b", "--dataset-repo", "a/c", "--space", "a/d", "--dry-run")
    try:
        done = subprocess.run(dry, preexec_fn=without_root_powers, capture_output=True, text=True)
    finally:
        for path in paths:
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "nothing was uploaded" in done.stdout


def commands(drawn, run, folder):
    """A command line of every command, but for those that fetch, need a CLIP or take long."""
    options = ["--workers", "0", "--describer-workers", "1"]
    dataset = ["--latents", run / "dataset", "--sae", run / "sae"]
    yield "run", drawn, "--out", run, *SMALL
    yield "run", drawn, "--out", run, *SMALL, "--estimate"
    yield "extract", drawn, "--out", run, "--backbone", "texture", "--workers", "0", "--estimate"
    yield "collect", drawn, "--out", folder / "collected"
    yield "train", run
    yield "encode", run
    yield "annotate", run, "--estimate"
    yield "annotate", run
    yield "predict", drawn / "images", "--out", folder / "predicted", *dataset, *options
    yield "latents", run, "--strongest", "2"
    yield "atlas", run
    (folder / "names.csv").write_text("latent,name\n0,wing\n")
    yield "name", run, folder / "names.csv"
    yield "review", "sheet", run, "--n", "8"
    yield "caption", run
    (folder / "flora.csv").write_text("species,text\nAus bus,A small blue bug.\n")
    yield "context", folder / "flora.csv", "--species", run, "--out", folder / "species.csv"
    yield "faithfulness", run, "--n", "3"
    yield "parts", run, "--baselines", "random"
    yield (
        "compare",
        run,
        *sorted(path.name.replace("_", " ") for path in (drawn / "images").iterdir())[:2],
        "--picture",
        folder / "compared.png",
    )
    leaks = ["--images", drawn / "images", "--against", drawn / "images", "--out", folder / "leaks"]
    yield "benchmark", "leaks", *leaks, "--workers", "0"
    yield "evaluate", run
    yield "publish", run, "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"
    yield "convert", run / "sae", folder / "converted"
    yield "export", run, folder / "matrix", "--to", "matrix"
    sharded = folder / "sharded"
    shutil.copytree(run, sharded)
    yield "launch", "encode", sharded, "--shards", "2", "--engine", "slurm"
    yield "encode", sharded, "--prepare", "--firing-quantile", "0.8"
    yield "status", sharded
    yield "plan", "--specimens", "1000"
    yield ("schema",)
    yield ("doctor",)
    yield "completion", "bash"


@pytest.mark.slow
def test_every_command_writes_json_for_scripts(drawn, run, tmp_path, capsys):
    seen = set()
    for name, *words in commands(drawn, run, tmp_path):
        capsys.readouterr()
        code = main([name, *map(str, words), "--format", "json"])
        captured = capsys.readouterr()
        assert code in (0, 3), (name, captured.err)
        assert json.loads(captured.out), name
        seen.add(name)
    assert set(COMMANDS) - seen == {"ablate", "demo", "finetune", "merge", "rehydrate"}


def test_names_of_latents_become_parts_and_stay_for_later_releases(run, tmp_path, capsys):
    table = tmp_path / "names.csv"
    table.write_text("latent,name\n" + "".join(f"{latent},fore wing\n" for latent in range(256)))
    assert main(["name", str(run), str(table)]) == 0
    for words in ([], ["annotate", str(run), "--traits-per-image", "2"]):  # a later release
        assert not words or main(words) == 0
        rows = load_traits(run, split="train")
        assert set(rows["part_source"]) == {"named"}
        assert set(rows["part"]) == {"fore wing"}
        assert all(text.startswith("Fore wing: ") for text in rows["text"])
        assert set(load_traits(run, split="train", config="latents")["name"]) == {"fore wing"}
    assert main(["atlas", str(run)]) == 0
    assert "fore wing" in (run / "atlas" / "latents.html").read_text(encoding="utf-8")
    before = files_of(run)
    others = tmp_path / "names.json"
    others.write_text(json.dumps({"format": "sae-traits names", "sae": "local@sha256:0123", "names": {"1": "leg"}}))
    capsys.readouterr()
    assert main(["name", str(run), str(others)]) == 2
    assert "are of the SAE local@sha256:0123, not of that of" in capsys.readouterr().err
    assert files_of(run) == before


def test_readers_go_on_while_another_command_writes(run, tmp_path, capsys):
    with writing(run):
        assert main(["train", str(run)]) == 1
        assert "another command writes" in capsys.readouterr().err
        assert main(["latents", str(run), "--strongest", "2"]) == 0
        assert main(["export", str(run), str(tmp_path / "matrix"), "--to", "matrix"]) == 0
        assert main(["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("words", "undone"),
    [
        (["run", "SOURCE", "--out", "RUN", *SMALL, "--traits-per-image", "1", "--estimate"], None),
        (["run", "SOURCE", "--out", "RUN", *SMALL, "--per-species", "2", "--estimate"], "collect"),
        (["extract", "SOURCE", "--out", "RUN", "--per-species", "2", "--estimate"], "collect"),
        (["annotate", "RUN", "--regions", "pca", "--estimate"], "encode"),
        (["annotate", "RUN", "--traits-per-image", "2", "--estimate"], None),
        (["caption", "RUN", "--estimate"], None),
    ],
)
def test_an_estimate_leaves_a_finished_run_as_it_is(drawn, run, capsys, words, undone):
    before = content(run)
    code = main([{"SOURCE": str(drawn), "RUN": str(run)}.get(word, word) for word in words])
    last = capsys.readouterr().err.splitlines()[-1:]
    assert code == (1 if undone else 0), last
    if undone:
        assert f"{run} has the step {undone!r} of other options or images, which an estimate does not" in last[0]
    after = content(run)
    after.pop("traits/captions.sqlite", None)  # the ledger that an estimate looked into
    assert after == before


def test_an_estimate_of_photographs_that_have_moved_leaves_a_finished_run_as_it_is(drawn, run, tmp_path):
    collected(replace(Collection.load(run / "images.parquet"), root=tmp_path / "gone"), run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(drawn), str(tmp_path / "gone")))
    before = content(run)
    assert main(["run", str(drawn), "--out", str(run), *SMALL, "--per-species", "2", "--estimate"]) == 1
    assert content(run) == before


def test_a_caption_is_estimated_of_the_images_as_they_were_read(drawn, run, tmp_path):
    """Whose source may have changed meanwhile."""
    moved = Path(shutil.copytree(drawn, tmp_path / "drawn"))
    assert main(["run", str(moved), "--out", str(tmp_path / "new"), *SMALL, "--estimate"]) == 0
    before = content(tmp_path / "new")
    shutil.rmtree(moved)
    assert main(["caption", str(tmp_path / "new"), "--estimate"]) == 0
    assert content(tmp_path / "new").items() >= before.items()


def test_only_a_command_that_goes_on_says_so(run, capsys):
    (run / "latents").write_text("in the way")
    assert main(["latents", str(run), "--strongest", "2"]) == 1
    assert capsys.readouterr().err.strip().endswith("mend that, then the same command begins anew")


def test_none_unsets_an_option(run):
    few = ["--n-patches", "2000", "--batch-size", "512"]
    assert main(["train", str(run), "--learning-rate", "0.01", "--sweep", "k=2,4", *few]) == 0
    options = read_config(run / "config.yaml")["train"]
    assert (options["learning_rate"], options["sweep"]) == (0.01, "k=2,4")
    assert main(["train", str(run), "--learning-rate", "none", "--sweep", "none"]) == 0
    options = read_config(run / "config.yaml")["train"]
    assert (options["learning_rate"], options["sweep"], options["n_patches"]) == (None, None, 2000)


def test_a_run_whose_source_has_moved_says_so_and_goes_on_from_there(drawn, tmp_path, capsys):
    source = Path(shutil.copytree(drawn, tmp_path / "before", copy_function=shutil.copy2))
    run, options = tmp_path / "run", ["--backbone", "texture", "--workers", "0"]
    assert main(["extract", str(source), "--out", str(run), *options, "--stream"]) == 0
    source.rename(tmp_path / "after")
    capsys.readouterr()
    assert main(["train", str(run), "--n-latents", "64", "--n-patches", "2000", "--batch-size", "512"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        f"sae-traits train: the images are no longer in {tmp_path}/before; where they have moved, "
        f"`sae-traits run NEW_PLACE --out {run}` goes on with them"
    )
    assert main(["extract", str(tmp_path / "after"), "--out", str(run), *options, "--stream"]) == 0
    assert "extract: complete and its inputs have not changed, skipped" in capsys.readouterr().err
    assert main(["train", str(run), "--n-latents", "64", "--n-patches", "2000", "--batch-size", "512"]) == 0


def test_features_are_those_of_the_weights_wherever_their_folder_lies(drawn, tmp_path, capsys):
    model, run = save_model("dinov2", tmp_path / "before"), tmp_path / "run"
    options = ["--workers", "0", "--layer", "2", "--device", "cpu"]
    assert main(["extract", str(drawn), "--out", str(run), "--backbone", str(model), *options]) == 0
    before = content(run / "activations")
    model.rename(tmp_path / "after")
    capsys.readouterr()
    assert main(["extract", str(drawn), "--out", str(run), "--backbone", str(tmp_path / "after"), *options]) == 0
    assert "extract: complete and its inputs have not changed, skipped" in capsys.readouterr().err
    save_model("dinov2", tmp_path / "after", seed=1)
    assert main(["extract", str(drawn), "--out", str(run), "--backbone", str(tmp_path / "after"), *options]) == 0
    assert content(run / "activations") != before


def test_a_review_goes_from_a_blind_sheet_to_the_column_of_the_release(run, tmp_path, capsys):
    before = load_traits(run, split="train")
    assert set(before["reviewed"]) == {None}
    assert main(["review", "sheet", str(run), "--n", "20"]) == 0
    assert main(["atlas", str(run)]) == 0
    (key,) = (run / "review").glob("sheet-1-*.json")
    items = json.loads(key.read_text())["items"]
    for name in ("index.html", "sheet.js", "sheet.csv"):  # nothing that raters get says what an item is
        content = (run / "atlas" / "review" / name).read_text(encoding="utf-8")
        assert "another" not in content
        assert not any(item[key] in content for item in items for key in ("trait_id", "image_id", "content"))
    sheet = (run / "atlas" / "review" / "sheet.csv").read_text().splitlines()
    assert len(sheet) == 1 + len(items) == 31

    def answers(rater, of_controls, n=30):
        """Those of somebody who accepts all traits, and gives controls some score."""
        said = {
            str(number): {"verdict": "accepted", "score": 5}
            if item["kind"] == "trait"
            else {"verdict": "rejected", "score": of_controls}
            for number, item in enumerate(items[:n], start=1)
        }
        file = tmp_path / f"{rater}.json"
        values = {"format": "sae-traits review", "sheet": key.stem, "rater": rater, "ratings": said}
        file.write_text(json.dumps(values))
        return str(file)

    files = [answers("Anna", 1), answers("Ben", 1), answers("Carla", 2)]
    capsys.readouterr()
    assert main(["review", "import", str(run), *files, "--half-width", "0.1", "--format", "json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["alpha_verdict"]["mean"] == 1
    assert [kind["accepted"]["mean"] for kind in scores["kinds"]] == [1, 0, 0]
    assert [kind["n_items"] for kind in scores["kinds"]] == [20, 5, 5]
    rows = [row for split in load_traits(run).values() for row in split if row["reviewed"]]
    assert {row["trait_id"] for row in rows} == {item["trait_id"] for item in items if item["kind"] == "trait"}
    assert {(row["reviewed"], row["n_raters"], row["review_sheet"]) for row in rows} == {("accepted", 3, key.stem)}
    card = (run / "dataset" / "README.md").read_text()
    assert "## What people said of it" in card
    assert "rater 1: 30 items" in card
    assert "Anna" not in card
    assert main(["review", "import", str(run), str(run / "atlas" / "review" / "sheet.js")]) == 2
    assert main(["review", "import", str(run), files[0], "--n", "3"]) == 2
    assert "review import has no --n" in capsys.readouterr().err


def test_sheets_are_numbered_on_and_compare_with_runs_that_can_be_told_apart(run, tmp_path, capsys):
    for _ in range(2):
        assert main(["review", "sheet", str(run), "--n", "4"]) == 0
    (first,) = (run / "review").glob("sheet-1-*.json")
    first.unlink()
    (tmp_path / "other").mkdir()
    same = Path(shutil.copytree(run, tmp_path / "other" / "whole"))
    assert main(["review", "sheet", str(run), "--n", "4", "--beside", str(same)]) == 0
    names = sorted(path.name.rsplit("-", 1)[0] for path in (run / "review").glob("*.json"))
    assert names == ["sheet-2", "sheet-3"]
    (last,) = (run / "review").glob("sheet-3-*.json")
    items = json.loads(last.read_text())["items"]
    assert sum(item["kind"] == "whole" for item in items) == 4
    earlier = {
        item["trait_id"]
        for path in (run / "review").glob("sheet-2-*.json")
        for item in json.loads(path.read_text())["items"]
    }
    assert not earlier & {item["trait_id"] for item in items if item["kind"] != "whole"}
    trait = Path(shutil.copytree(run, tmp_path / "other" / "trait"))
    capsys.readouterr()
    for others in ([same, same], [trait]):
        beside = [word for other in others for word in ("--beside", str(other))]
        assert main(["review", "sheet", str(run), "--n", "4", *beside]) == 2
        assert "give its folder another name" in capsys.readouterr().err
    assert main(["review", "sheet", str(run), "--n", "4", "--beside", str(run)]) == 2
    assert "--beside names another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["review", "sheet", "RUN", "--sample-seed", "-1"],
        ["review", "sheet", "RUN", "--n", "0"],
        ["latents", "RUN", "--strongest", "0"],
        ["latents", "RUN", "--strongest", "-1"],
    ],
)
def test_numbers_that_mean_nothing_are_refused(finished, capsys, words):
    assert main([str(finished) if word == "RUN" else word for word in words]) == 2
    assert f"{words[-2]} is " in capsys.readouterr().err


def test_an_atlas_of_what_is_no_run_says_what_it_lacks(tmp_path, capsys):
    assert main(["atlas", str(tmp_path)]) == 2
    assert (
        "is no run (it has no config.yaml); of a dataset say where its site goes: --out DIR" in capsys.readouterr().err
    )
    assert main(["atlas", str(tmp_path), "--out", str(tmp_path / "site")]) == 1
    assert "has no config `images`; name RUN, RUN/dataset or a dataset on the Hub" in capsys.readouterr().err
