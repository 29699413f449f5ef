import subprocess
import sys

import pytest
from sae_traits.runs.run import Run, Steps

from sae_traits import __version__
from sae_traits.config.layers import resolve
from sae_traits.errors import ConfigError, StoreError
from sae_traits.io import write_text


def test_a_step_is_done_once_and_again_when_its_inputs_or_outputs_change(tmp_path, capsys):
    output = tmp_path / "output"
    done = []

    def work():
        done.append(1)
        output.write_text("x")
        return {"n": len(done)}

    for inputs, expected in (({"a": 1}, 1), ({"a": 1}, 1), ({"a": 2}, 2)):
        Steps(tmp_path / "steps.json").do("train", inputs, output.is_file, work)
        assert len(done) == expected
    output.unlink()
    Steps(tmp_path / "steps.json").do("train", {"a": 2}, output.is_file, work)
    assert Steps(tmp_path / "steps.json").counts("train") == {"n": 3}
    assert capsys.readouterr().err.count("skipped") == 1


def test_a_step_that_was_interrupted_is_not_finished_and_neither_are_later_ones(tmp_path):
    file = tmp_path / "steps.json"
    for name in ("extract", "train", "annotate"):
        Steps(file).do(name, {"a": 1}, lambda: True, lambda: {"n": 1})

    def broken():
        raise StoreError("no")

    with pytest.raises(StoreError):
        Steps(file).do("train", {"a": 2}, lambda: True, broken)
    assert set(Steps(file).records) == {"extract"}
    with pytest.raises(StoreError, match="not finished"):
        Steps(file).fingerprint("annotate")
    assert Steps(file).counts("train") == {}
    done = []
    Steps(file).do("train", {"a": 1}, lambda: True, lambda: done.append(1) or {})
    assert done == [1], "the output may be that of the interrupted one"


OTHER_RELEASE = """
import sys
from pathlib import Path
import sae_traits
sae_traits.__version__ = sys.argv[2]
from sae_traits.runs.run import Steps
Steps(Path(sys.argv[1])).do("train", {"a": 1}, lambda: True, dict)
"""


@pytest.mark.parametrize("is_same", [True, False])
def test_a_step_of_another_release_of_the_toolkit_is_done_again(tmp_path, is_same):
    version = __version__ if is_same else f"{__version__}.older"
    subprocess.run([sys.executable, "-c", OTHER_RELEASE, tmp_path / "steps.json", version], check=True)
    done = []
    Steps(tmp_path / "steps.json").do("train", {"a": 1}, lambda: True, lambda: done.append(1) or {})
    assert done == ([] if is_same else [1])


def test_a_step_with_something_left_to_do_is_done_again(tmp_path):
    done = []

    def work():
        done.append(1)
        return {"n_open": 2 - len(done)}

    for _ in range(3):
        Steps(tmp_path / "steps.json").do("annotate", {}, lambda: True, work)
    assert len(done) == 2


def test_the_cache_of_images_stays_where_it_is_when_the_run_is_continued_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    Run.create(tmp_path / "run", resolve({"collection": {"source": "hf://datasets/a/b", "image_cache": "cache"}}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Run.open(tmp_path / "run").config.collection.image_cache == str(tmp_path / "cache")


def test_a_run_keeps_absolute_paths_and_can_be_opened_again(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    run = Run.create(tmp_path / "run", resolve({"collection": {"source": "images"}, "features": {"layer": 3}}))
    assert run.config.collection.source == str(tmp_path / "images")
    assert Run.open(tmp_path / "run") == run
    changed = Run.open(tmp_path / "run", {"train": {"k": "4"}})
    assert (changed.config.train.k, changed.config.features.layer) == (4, 3)
    assert Run.open(tmp_path / "run") == run, "nothing is kept before it has worked"
    changed.save_config()
    assert Run.open(tmp_path / "run") == changed


def test_a_folder_takes_runs_of_one_source_only(tmp_path):
    Run.create(tmp_path / "run", resolve({"collection": {"source": "a typing error"}}))
    run = Run.create(tmp_path / "run", resolve({"collection": {"source": "one"}}))
    run.steps.do("collect", {}, lambda: True, dict)
    with pytest.raises(ConfigError, match="is a run of one; choose another --out"):
        Run.create(tmp_path / "run", resolve({"collection": {"source": "two"}}))


@pytest.mark.parametrize("out", ["photographs", "photographs/runs/first"])
def test_a_run_does_not_lie_among_the_images(tmp_path, out):
    (tmp_path / "photographs").mkdir()
    config = resolve({"collection": {"source": str(tmp_path / "photographs")}})
    with pytest.raises(ConfigError, match="where images are looked for"):
        Run.create(tmp_path / out, config)
    assert list((tmp_path / "photographs").iterdir()) == []
    Run.create(tmp_path / "photographs-run", config)


def test_the_command_names_the_source_and_the_options_that_matter(tmp_path):
    given = {"collection": {"source": "a folder"}, "features": {"layer": -2, "workers": 7}, "train": {"k": 4}}
    run = Run.create(tmp_path / "run", resolve(given))
    assert run.command == "sae-traits run 'a folder' --layer -2 --k 4"


def test_the_command_names_local_files_without_their_place(tmp_path):
    (tmp_path / "backbone").mkdir()
    given = {"collection": {"source": "a"}, "features": {"backbone": str(tmp_path / "backbone")}}
    assert Run.create(tmp_path / "run", resolve(given)).command == "sae-traits run a --backbone backbone"


def test_a_file_is_written_whole_or_an_error_names_it(tmp_path):
    write_text(tmp_path / "a", "ü")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(StoreError, match="none"):
        write_text(tmp_path / "none" / "a", "x")
