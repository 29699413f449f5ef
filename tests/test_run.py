import pytest

from sae_traits.config import resolve
from sae_traits.errors import StoreError
from sae_traits.run import Run, Steps, write_text


def test_a_step_is_done_once_and_again_when_its_inputs_or_outputs_change(tmp_path, capsys):
    output = tmp_path / "output"
    done = []

    def work():
        done.append(1)
        output.write_text("x")
        return {"n": len(done)}

    for inputs, expected in (({"a": 1}, 1), ({"a": 1}, 1), ({"a": 2}, 2)):
        Steps(tmp_path / "steps.json").do("step", inputs, [output], work)
        assert len(done) == expected
    output.unlink()
    Steps(tmp_path / "steps.json").do("step", {"a": 2}, [output], work)
    assert Steps(tmp_path / "steps.json").counts("step") == {"n": 3}
    assert capsys.readouterr().err.count("skipped") == 1


def test_a_step_that_fails_is_not_finished_even_if_it_was_before(tmp_path):
    steps = Steps(tmp_path / "steps.json")
    steps.do("step", {"a": 1}, [], dict)

    def broken():
        raise StoreError("no")

    with pytest.raises(StoreError):
        steps.do("step", {"a": 2}, [], broken)
    with pytest.raises(StoreError, match="not finished"):
        steps.fingerprint("step")
    assert steps.counts("other") == {}


def test_a_run_keeps_absolute_paths_and_can_be_opened_again(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    run = Run.create(tmp_path / "run", resolve({"collection": {"source": "images"}, "features": {"layer": 3}}))
    assert run.config.collection.source == str(tmp_path / "images")
    assert Run.open(tmp_path / "run") == run
    changed = Run.open(tmp_path / "run", {"train": {"k": "4"}})
    assert (changed.config.train.k, changed.config.features.layer) == (4, 3)
    assert Run.open(tmp_path / "run") == changed


def test_the_command_names_the_source_and_the_options_that_matter(tmp_path):
    given = {"collection": {"source": "a folder"}, "features": {"layer": -2, "workers": 7}, "train": {"k": 4}}
    run = Run.create(tmp_path / "run", resolve(given))
    assert run.command == "sae-traits run 'a folder' --layer -2 --k 4"


def test_a_file_is_written_whole_or_an_error_names_it(tmp_path):
    write_text(tmp_path / "a", "ü")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(StoreError, match="none"):
        write_text(tmp_path / "none" / "a", "x")
