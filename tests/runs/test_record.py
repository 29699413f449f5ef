import json
import os
import stat

import pytest

import sae_traits
from sae_traits.errors import StoreError
from sae_traits.io import hash_of_file
from sae_traits.runs.lock import writing
from sae_traits.runs.record import Steps

ORDER = {
    "collect": (),
    "train": ("collect",),
    "annotate": ("train",),
    "evaluate": ("annotate",),
    "dataset": ("annotate",),
}


class Run:
    """Steps that write one file each, and count how often they were done."""

    def __init__(self, folder):
        self.folder = folder
        self.done = []

    @property
    def steps(self):
        return Steps(self.folder / "steps.json", ORDER)

    def do(self, name, value=1, counts=None):
        def work():
            self.done.append(name)
            (self.folder / name).write_text(f"{name} {value}")
            return counts or {"n": value}

        return self.steps.do(name, {"value": value}, [self.folder / name], work)

    def do_large(self, name):
        self.done.append(name)
        (self.folder / name).write_text(name)
        return {}

    def all(self):
        for name in ORDER:
            self.do(name)


@pytest.fixture
def run(tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    return Run(tmp_path)


def test_a_step_is_done_once_and_again_when_its_inputs_change(run, caplog):
    assert run.do("collect") == {"n": 1}
    assert run.do("collect") == {"n": 1}
    assert run.done == ["collect"]
    assert run.do("collect", 2) == {"n": 2}
    assert run.done == ["collect"] * 2
    assert caplog.text.count("skipped") == 1


@pytest.mark.parametrize("damage", ["deleted", "cut", "flipped", "flipped, with its old time"])
def test_a_step_whose_files_are_not_as_they_were_written_is_done_again(run, caplog, damage):
    run.do("collect")
    file = run.folder / "collect"
    before = file.stat()
    if damage == "deleted":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:4])
    else:
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    if damage.endswith("time"):
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert run.steps.changed_files("collect") == []
        assert run.steps.changed_files("collect", thorough=True) == [file]
        return
    run.do("collect")
    assert run.done == ["collect"] * 2
    assert f"{file} is missing or not as it was written" in caplog.text
    assert file.read_text() == "collect 1"


def test_a_copied_run_is_still_finished(run, tmp_path):
    run.do("collect")
    os.utime(run.folder / "collect", ns=(1, 1))
    run.do("collect")
    assert run.done == ["collect"]


def test_a_step_that_fails_leaves_the_former_record_and_output(run):
    run.all()

    def broken():
        raise StoreError("no")

    with pytest.raises(StoreError, match="no"):
        run.steps.do("annotate", {"value": 2}, [run.folder / "annotate"], broken)
    assert run.steps.counts("annotate") == {"n": 1}
    assert all(run.steps.is_current(name) for name in ORDER)
    run.done.clear()
    run.all()
    assert run.done == []


def test_a_step_that_was_killed_after_it_wrote_is_done_again(run):
    run.do("collect")
    (run.folder / "collect").write_text("of a command that was killed")
    run.do("collect")
    assert run.done == ["collect"] * 2


def test_a_step_that_is_done_anew_makes_those_that_read_from_it_stale_and_no_others(run):
    run.all()
    run.do("evaluate", 2)
    assert [name for name in ORDER if run.steps.is_current(name)] == list(ORDER)
    run.do("train", 2)
    assert [name for name in ORDER if run.steps.is_current(name)] == ["collect", "train"]
    with pytest.raises(StoreError, match=r"'annotate' is not finished; `sae-traits run SOURCE --out .* goes on where"):
        run.steps.fingerprint("annotate")
    assert run.steps.counts("annotate") == {}
    with pytest.raises(StoreError, match="'annotate' is not finished"):
        run.do("evaluate")


def test_a_step_with_something_left_to_do_is_done_again(run):
    for n_open in (2, 1, 0, 0):
        run.do("collect", counts={"n_open": n_open})
    assert len(run.done) == 3


def test_a_step_is_done_anew_by_another_version_of_the_toolkit(run):
    for version in ("1.0", "1.0", "1.1"):
        steps = Steps(run.folder / "steps.json", ORDER, version=version)
        steps.do("collect", {}, [], lambda: run.done.append("collect") or {})
    assert len(run.done) == 2
    assert Steps(run.folder / "steps.json", ORDER).version == sae_traits.__version__


@pytest.mark.parametrize("content", ["", "{", "[]", '{"collect": 3}', '{"collect": {"fingerprint": "x"}}', "\x00"])
def test_a_damaged_record_is_no_record(run, content):
    run.do("collect")
    (run.folder / "steps.json").write_text(content)
    run.do("collect")
    assert run.done == ["collect"] * 2
    assert json.loads((run.folder / "steps.json").read_text())["collect"]["counts"] == {"n": 1}


@pytest.mark.parametrize("changed", [("seconds", 9.5), ("counts", {"n": 2}), ("files", {}), ("fingerprint", "x")])
def test_a_record_that_was_changed_is_no_record_and_its_name_is_said(run, caplog, changed):
    run.all()
    run.done.clear()
    file = run.folder / "steps.json"
    records = json.loads(file.read_text())
    records["annotate"] |= [changed]
    file.write_text(json.dumps(records))
    assert [name for name in ORDER if run.steps.is_current(name)] == ["collect", "train"]
    assert f"{file} is damaged, so the step 'annotate' is done again" in caplog.text
    run.all()
    assert run.done == ["annotate"]


def test_a_step_that_reads_what_is_not_as_it_was_written_is_refused_and_one_that_does_not_is_told(run, caplog):
    run.all()
    (run.folder / "train").write_text("damaged")
    for doing in (["annotate"], ["evaluate"], ["dataset"]):
        with pytest.raises(StoreError, match=r"train is missing or not as it was written; `sae-traits run` on"):
            run.steps.check(doing=doing)
    run.steps.check(doing=["collect"])
    assert f"warning: {run.folder / 'train'} is missing or not as it was written" in caplog.text
    run.steps.check(doing=ORDER)
    with pytest.raises(StoreError, match="train is missing"):
        run.steps.check(reading=["train"])


def test_only_a_thorough_look_finds_what_a_disk_changed_without_a_trace(run):
    run.all()
    file = run.folder / "collect"
    before = file.stat()
    file.write_text("collecT 1")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    run.steps.check(reading=["annotate"])
    with pytest.raises(StoreError, match="collect is missing or not as it was written"):
        run.steps.check(reading=["annotate"], thorough=True)


def test_files_that_are_checked_when_they_are_read_are_named_and_refuse_nothing(run, caplog):
    run.steps.do("collect", {}, [run.folder / "collect"], lambda: run.do_large("collect"), checked_by_readers="coll*")
    (run.folder / "collect").unlink()
    run.steps.check(doing=["train"])
    assert f"warning: {run.folder / 'collect'} is missing" in caplog.text


def test_what_a_step_keeps_beside_its_output_is_named_when_it_changes_and_the_step_is_not_done_again(run, caplog):
    kept = run.folder / "ledger"

    def work():
        run.done.append("collect")
        kept.write_text("answers")
        return {}

    def do(value=1):
        run.steps.do("collect", {"value": value}, [], work, kept=[kept])

    do()
    do()
    assert "missing or changed" not in caplog.text
    kept.write_text("answers, and more")
    do()
    assert f"warning: {kept} is missing or changed since the step 'collect' was finished" in caplog.text
    caplog.clear()
    do(2)  # which another attempt has begun
    assert "missing or changed" not in caplog.text
    kept.unlink()
    do(3)
    assert f"warning: {kept} is missing or changed" in caplog.text
    assert run.done == ["collect"] * 3


def test_one_of_several_processes_writes_the_record(run):
    Steps(run.folder / "steps.json", ORDER, keep=False).do("collect", {}, [], dict)
    assert list(run.folder.iterdir()) == []


def test_what_other_steps_write_into_a_folder_is_theirs(run):
    folder = run.folder / "sae"

    def work():
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text("x")
        (folder / "README.md").write_text("of the step before")
        run.done.append("collect")
        return {}

    for _ in range(2):
        run.steps.do("collect", {}, [folder], work, apart_from=["README.md"])
        (folder / "README.md").write_text("of a later step")
    assert run.done == ["collect"]
    assert run.steps.changed_files("collect", thorough=True) == []


def collect_shards(run, *, with_index=True):
    """Do a step that writes a large file, and an index with its checksum."""

    def work():
        (run.folder / "large").mkdir(exist_ok=True)
        shard = run.folder / "large" / "shard-0"
        shard.write_text("features")
        entry = {"file": shard.name, "sha256": hash_of_file(shard)}
        if with_index:
            (run.folder / "large" / "index.json").write_text(json.dumps({"shards": [entry]}))
        return run.do_large("collect")

    steps = run.steps
    steps.do("collect", {}, [run.folder / "large"], work, checked_by_readers="shard-*")
    return run.folder / "large" / "shard-0"


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are read to be compared."""
    names = []
    monkeypatch.setattr(
        "sae_traits.runs.file_states.hash_of_file", lambda path: names.append(path.name) or hash_of_file(path)
    )
    return names


def test_a_large_file_of_another_time_is_compared_with_its_index_once(run, read, monkeypatch, caplog):
    shard = collect_shards(run)
    read.clear()
    collect_shards(run)
    assert read == [], "its time is the recorded one"
    monkeypatch.setattr("sae_traits.runs.file_states.BYTES_IN_SILENCE", 1)
    os.utime(shard, ns=(1, 1))
    made = run.steps.made
    for _ in range(2):
        collect_shards(run)
    assert read == ["shard-0"]
    assert run.done == ["collect"]
    assert caplog.text.count(f"comparing files of {run.folder}: 0 of 1 file") == 1
    assert run.steps.made == made
    assert run.steps.is_current("collect"), "the record is still whole"


@pytest.mark.parametrize(("content", "with_index"), [("Features", True), ("feature", True), ("features", False)])
def test_a_large_file_that_has_changed_or_of_which_no_checksum_is_known_is_found(run, caplog, content, with_index):
    shard = collect_shards(run, with_index=with_index)
    shard.write_text(content)
    os.utime(shard, ns=(1, 1))
    collect_shards(run, with_index=with_index)
    assert run.done == ["collect"] * 2
    assert f"{shard} is missing or not as it was written, so the step is done again" in caplog.text
    shard.write_text("Features")
    os.utime(shard, ns=(1, 1))
    assert run.steps.changed_files("collect") == [shard]


def test_a_reader_notes_what_it_compared_where_nobody_writes(run, read):
    shard = collect_shards(run)
    os.utime(shard, ns=(1, 1))
    records = (run.folder / "steps.json").read_text()
    with writing(run.folder):
        read.clear()
        for _ in range(2):
            run.steps.check(reading=["collect"])
        assert (run.folder / "steps.json").read_text() == records
    assert read == ["shard-0"] * 2
    for _ in range(2):
        run.steps.check(reading=["collect"])
    assert read == ["shard-0"] * 3


def test_a_reader_does_not_note_over_what_another_command_has_done_since(run, read):
    shard = collect_shards(run)
    os.utime(shard, ns=(1, 1))
    reader = run.steps
    run.do("train")
    reader.check(reading=["collect"])
    assert run.steps.is_current("train")
    with pytest.raises(KeyError):
        run.steps.records["collect"]["seen"]


@pytest.fixture
def another(tmp_path, run):
    """A second run that is told of the first."""

    class Another(Run):
        @property
        def steps(self):
            return Steps(self.folder / "steps.json", ORDER, others=[run.folder / "steps.json"])

    (tmp_path / "another").mkdir()
    return Another(tmp_path / "another")


def test_a_step_that_another_run_has_finished_with_the_same_inputs_is_taken_from_it(run, another, caplog):
    run.all()
    another.do("collect")
    another.do("train")
    another.do("annotate", 2)
    assert another.done == ["annotate"]
    assert f"train: taken from {run.folder}" in caplog.text
    assert (another.folder / "train").read_text() == "train 1"
    assert another.steps.is_current("annotate")
    another.do("train")
    assert "train: complete and its inputs have not changed" in caplog.text


def test_what_is_done_anew_after_it_was_taken_over_leaves_the_other_run_as_it_was(run, another):
    run.do("collect")
    (run.folder / "collect").chmod(0o444)
    another.do("collect")
    another.do("collect", 2)
    assert another.done == ["collect"]
    assert (another.folder / "collect").stat().st_mode & stat.S_IWUSR, "the step writes into it"
    assert (run.folder / "collect").read_text() == "collect 1"
    assert run.steps.changed_files("collect") == []


def test_what_stands_in_the_place_of_a_step_that_is_taken_over_goes(run, another):
    run.do("collect")
    (another.folder / "collect").write_text("of an attempt that was killed")
    another.do("collect")
    assert another.done == []
    assert (another.folder / "collect").read_text() == "collect 1"


def test_a_damaged_or_unfinished_step_of_another_run_is_not_taken_over(run, another):
    run.do("collect", counts={"n_open": 1})
    another.do("collect")
    assert another.done == ["collect"]
    run.do("collect")
    (run.folder / "collect").write_text("damaged")
    (another.folder / "steps.json").unlink()
    another.do("collect")
    assert another.done == ["collect"] * 2


def test_what_a_step_kept_beside_its_output_is_copied_not_shared(run, another):
    def work():
        (run.folder / "collect").write_text("output")
        (run.folder / "ledger").write_text("answers")
        return {}

    for each in (run, another):
        each.steps.do("collect", {}, [each.folder / "collect"], work, kept=[each.folder / "ledger"])
    (another.folder / "ledger").write_text("answers, and more")
    assert (run.folder / "ledger").read_text() == "answers"
    assert (another.folder / "collect").read_text() == "output"


def test_records_that_are_gone_are_named_where_a_run_lies(tmp_path, caplog):
    Steps(tmp_path / "steps.json", ORDER)
    assert not caplog.text  # a new run
    (tmp_path / "images.parquet").touch()
    assert not Steps(tmp_path / "steps.json", ORDER).records
    assert f"{tmp_path / 'steps.json'} is missing, so every step is done again" in caplog.text


def steps_with(run, k, configured=None):
    configured = None if configured is None else {"train": {"k": configured}}
    return Steps(run.folder / "steps.json", ORDER, options={"train": {"k": k}}, configured=configured)


def test_what_was_made_with_other_options_than_are_configured_is_read_with_a_warning_and_makes_nothing(run, caplog):
    steps_with(run, 16).do("collect", {}, [], dict)
    steps_with(run, 16).do("train", {"k": 16}, [], dict)
    steps_with(run, 16).check(reading=["annotate"], doing=["evaluate"])
    assert "k 16" not in caplog.text
    steps_with(run, 4).check(reading=["collect"])
    assert "k 16" not in caplog.text, "it is not read"
    steps_with(run, 4, configured=16).check(reading=["train"])
    assert "k 16" not in caplog.text, "another describer for this command alone"
    steps_with(run, 4).check(reading=["train"])
    assert caplog.text.count(f"{run.folder} was made with k 16, and its config.yaml says k 4: finish the run") == 1
    with pytest.raises(StoreError, match=r"made with k 16, and its config.yaml says k 4: .*go back"):
        steps_with(run, 4).check(doing=["annotate"])
    steps_with(run, 4).check(doing=["train", "annotate"])
    assert caplog.text.count("options changed since this run was made: k 16 -> 4; the steps that depend on them") == 1
    steps_with(run, 4).do("train", {"k": 16}, [], dict)
    steps_with(run, 4).check(doing=["annotate"])  # they make the same


def test_a_step_that_is_not_finished_has_no_former_options(run, caplog):
    steps_with(run, 4).check(reading=["train"], doing=["annotate"])
    assert "k 4" not in caplog.text
