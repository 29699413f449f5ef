"""One writer per run, whatever happens to it."""

import os
import re
import signal
import subprocess
import sys

import pytest
from PIL import Image
from root_powers import without_root_powers

from sae_traits.cli import main
from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.errors import StoreError
from sae_traits.runs.context import Context
from sae_traits.runs.lock import writing
from sae_traits.steps import STEPS

HOLD = """
import sys, time
from pathlib import Path
from sae_traits.runs.lock import writing
with writing(Path(sys.argv[1])):
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path):
    """A new run."""
    (tmp_path / "images").mkdir()
    config = build(RunConfig, {"collection": {"source": str(tmp_path / "images")}, "features": {"backbone": "texture"}})
    return Context.create(tmp_path / "run", config, STEPS)


@pytest.fixture
def writer(run):
    """Another process that writes to it."""
    with subprocess.Popen([sys.executable, "-c", HOLD, run.folder.path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        yield process
        process.kill()


def test_a_second_command_is_refused_in_one_line(run, writer, tmp_path, capsys):
    before = run.folder.config.read_text()
    of_run = ["run", str(tmp_path / "images"), "--longest-side", "99", "--out"]
    for command in (of_run, ["train", "--k", "3"], ["annotate"], ["evaluate"]):
        assert main([*command, str(run.folder.path)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert lines == [
            f"sae-traits {command[0]}: another command writes to {run.folder.path}; wait until it is done, or choose "
            "another --out"
        ]
    assert run.folder.config.read_text() == before


def test_a_killed_writer_frees_the_run(run, writer):
    with pytest.raises(StoreError, match="another command writes"), writing(run.folder.path):
        pass
    writer.kill()
    writer.wait()
    with writing(run.folder.path):
        pass


def test_what_a_killed_writer_left_half_written_goes(run):
    files = [
        run.folder.path / "sae" / "config.json.4711.partial",
        run.folder.path / ".dataset.sae-traits-partial" / "data" / "x",
    ]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("half")
    with writing(run.folder.path):
        assert not [file for file in files if file.exists()]
    assert not files[1].parent.parent.exists()
    assert files[0].parent.exists()


def test_readers_go_on_while_another_command_writes(run, writer):
    opened = Context.open(run.folder.path, STEPS)
    assert opened.steps.counts("collect") == {}
    assert opened.config == run.config


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
def test_a_folder_that_is_read_only_needs_no_lock(run):
    code = "import sys; from pathlib import Path; from sae_traits.runs.lock import writing\n"
    code += "with writing(Path(sys.argv[1])): print('inside')"
    run.folder.path.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", code, run.folder.path],
        preexec_fn=without_root_powers, capture_output=True, text=True,
    )  # fmt: skip
    run.folder.path.chmod(0o755)
    assert done.stdout == "inside\n", done.stderr
    assert not (run.folder.path / ".lock").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are Linux's")
@pytest.mark.parametrize("option", ["SOURCE", "--sae", "--backbone", "--config"])
def test_an_input_that_cannot_be_read_is_named_and_not_the_run_that_can_be_written(tmp_path, option):
    photographs, secret = tmp_path / "photographs", tmp_path / "secret"
    for number in range(2):
        path = photographs / "Danaus_plexippus" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 30), (number, 0, 0)).save(path)
    secret.mkdir(mode=0)
    named = secret / "options.yaml" if option == "--config" else secret
    words = [named] if option == "SOURCE" else [photographs, option, named]
    command = [sys.executable, "-m", "sae_traits", "run", *words, "--out", tmp_path / "run"]
    done = subprocess.run(command, preexec_fn=without_root_powers, capture_output=True, text=True)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert re.search(f"cannot (use|read) {re.escape(str(named))}.*: Permission denied", line), line
    assert "--out" not in line


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_command_says_so_in_one_line_and_frees_the_run(tmp_path, number):
    from PIL import Image

    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the shell that started the tests has its children ignore this signal")
    folder = tmp_path / "images" / "Aus_bus"
    folder.mkdir(parents=True)
    for n in range(400):
        Image.new("RGB", (300, 300), (n % 256, 100, n // 2)).save(folder / f"{n}.png")
    command = [sys.executable, "-m", "sae_traits.cli", "extract", tmp_path / "images", "--out", tmp_path / "run"]
    command += ["--backbone", "texture", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while "started" not in process.stderr.readline():
            pass
        process.send_signal(number)
        lines = process.stderr.read().splitlines()
        assert process.wait(60) == 3
    assert lines[-1] == "interrupted; the same command goes on where it stopped"
    assert not [line for line in lines if "Traceback" in line or "Error" in line]
    with writing(tmp_path / "run"):
        pass
