"""The commands on a finished run: what they print, and what they leave alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sae_traits.cli import COMMANDS, main
from sae_traits.config.layers import read_config
from sae_traits.runs.lock import writing
from sae_traits.testbench.drawn import draw_collection

OPTIONS = ["--workers", "0", "--describer-workers", "1", "--n-latents", "64", "--k", "4"]
OPTIONS += ["--backbone", "texture", "--n-patches", "5000", "--batch-size", "512"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    draw_collection(folder, images_per_species=2, workers=1)
    return folder


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    """A finished run; tests that write copy it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["run", str(drawn), "--out", str(folder), *OPTIONS]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def files_of(folder):
    """What lies in a folder, and when it was written; the lock and SQLite's own files come and go."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock" and not path.name.endswith(("-wal", "-shm"))
    }


def test_the_same_command_again_writes_nothing(drawn, run, capsys):
    before = files_of(run)
    assert main(["run", str(drawn), "--out", str(run), *OPTIONS]) == 0
    assert capsys.readouterr().err.count("skipped") == 8
    assert files_of(run) == before


def without_root_powers():
    """In a child process: permissions of files hold, also where tests are run by root, as in containers."""
    import ctypes

    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
def test_a_finished_run_on_a_read_only_folder_is_complete(drawn, run):
    (run / ".lock").unlink(missing_ok=True)
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    command = [sys.executable, "-m", "sae_traits.cli", "run", drawn, "--out", run]
    try:
        again = subprocess.run([*command, *OPTIONS], preexec_fn=without_root_powers, capture_output=True, text=True)
        other = subprocess.run(
            [*command, *OPTIONS, "--seed", "1"], preexec_fn=without_root_powers, capture_output=True, text=True
        )
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


def commands(drawn, run, folder):
    """A command line of every command, but for those that fetch, launch or take long."""
    options = ["--workers", "0", "--describer-workers", "1"]
    dataset = ["--latents", run / "dataset", "--sae", run / "sae"]
    yield "run", drawn, "--out", run, *OPTIONS
    yield "run", drawn, "--out", run, *OPTIONS, "--estimate"
    yield "extract", drawn, "--out", run, "--backbone", "texture", "--workers", "0", "--estimate"
    yield "train", run
    yield "annotate", run, "--estimate"
    yield "annotate", run
    yield "predict", drawn / "images", "--out", folder / "predicted", *dataset, *options
    yield "latents", run, "--strongest", "2"
    yield "compare", run, "cingulata", "longula", "--picture", folder / "compared.png"
    yield "parts", run, "--baselines"
    yield "faithfulness", run, "--n", "3"
    yield "evaluate", run
    yield "publish", run, "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"
    yield "convert", run / "sae", folder / "converted"
    yield "export", run, folder / "matrix", "--to", "matrix"
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
    assert set(COMMANDS) - seen == {"demo", "rehydrate"}


def test_readers_go_on_while_another_command_writes(run, tmp_path, capsys):
    with writing(run):
        assert main(["train", str(run)]) == 1
        assert "another command writes" in capsys.readouterr().err
        assert main(["latents", str(run), "--strongest", "2"]) == 0
        assert main(["export", str(run), str(tmp_path / "matrix"), "--to", "matrix"]) == 0
        assert main(["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"]) == 0


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
