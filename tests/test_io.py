"""What a kill leaves of files and folders."""

import csv
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sae_traits.errors import StoreError
from sae_traits.io import (
    clear_unfinished,
    read_sealed,
    replacing,
    retry_after,
    sealed_json,
    whole_file,
    write_csv,
    write_text,
)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def put(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_a_folder_takes_the_place_of_the_former_and_nothing_else_is_left(tmp_path):
    put(tmp_path / "out", "former", "1")
    put(tmp_path / ".out.sae-traits-partial", "stale", "of a killed attempt")
    with replacing(tmp_path / "out") as new:
        assert tree(new) == {}
        put(new, "new", "2")
    assert tree(tmp_path) == {"out/new": "2"}


def test_what_cannot_be_read_while_a_file_is_written_is_no_fault_of_that_file(tmp_path):
    def copy(name):
        with whole_file(tmp_path / name) as stream:
            stream.write((tmp_path / "input" / "a.csv").read_bytes())

    (tmp_path / "input").touch()
    with pytest.raises(NotADirectoryError, match="input"):
        copy("out")
    with pytest.raises(StoreError, match=r"cannot write .*missing/out: No such file"):
        copy("missing/out")
    assert list(tmp_path.iterdir()) == [tmp_path / "input"]


def test_what_fails_leaves_the_former_folder(tmp_path):
    put(tmp_path / "out", "former", "1")

    def write_half():
        with replacing(tmp_path / "out") as new:
            put(new, "new", "2")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        write_half()
    assert tree(tmp_path) == {"out/former": "1"}


def test_what_a_kill_between_the_renames_left_is_there_for_the_next_attempt(tmp_path):
    put(tmp_path / ".out.sae-traits-old", "former", "1")  # moved away already, and nothing was put in its place
    with replacing(tmp_path / "out") as new:
        put(new, "new", (tmp_path / "out" / "former").read_text() + "2")
    assert tree(tmp_path) == {"out/new": "12"}


@pytest.mark.parametrize("is_new", [True, False])
def test_folders_that_a_person_put_beside_it_stay(tmp_path, is_new):
    mine = {"out.old/precious": "mine", "out.partial/precious": "mine"}
    for name in mine:
        put((tmp_path / name).parent, "precious", "mine")
    if not is_new:
        put(tmp_path / "out", "former", "1")
    with replacing(tmp_path / "out") as new:
        put(new, "new", "2")
    assert tree(tmp_path) == {"out/new": "2", **mine}


def test_what_kills_left_unfinished_goes_and_what_a_person_called_partial_stays(tmp_path):
    mine = {"notes.partial": "mine", "old.partial/precious": "mine"}
    for name in (*mine, "a.json.4711.partial", ".out.sae-traits-partial/b.json.4711.partial"):
        put((tmp_path / name).parent, (tmp_path / name).name, "mine")
    clear_unfinished(tmp_path)
    assert tree(tmp_path) == mine
    assert not (tmp_path / ".out.sae-traits-partial").exists()


def test_a_file_in_the_way_of_a_folder_is_a_reason(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        write_text(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    write_csv(tmp_path / "t.csv", ["=A1", "n"], [["@cmd", 1.5], ["-x,\n", None], ["plain", -2]])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["'=A1", "n"], ["'@cmd", "1.5"], ["'-x,\n", ""], ["plain", "-2"]]


def test_a_table_that_fails_leaves_the_former(tmp_path):
    put(tmp_path, "t.csv", "former")
    with pytest.raises(ZeroDivisionError):
        write_csv(tmp_path / "t.csv", ["n"], ([1 / n] for n in (1, 0)))
    assert tree(tmp_path) == {"t.csv": "former"}


def test_retry_after_is_a_number_or_a_date():
    assert retry_after({"retry-after": "2.5"}) == 2.5
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after({"retry-after": soon}) == pytest.approx(60, abs=3)
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "later"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"n": 1}', '{"n": 1, "sha256": "x"}', "\x00"])
def test_sealed_values_are_read_as_they_were_written_or_not_at_all(tmp_path, content):
    path = tmp_path / "values.json"
    path.write_text(sealed_json({"n": 1, "share": float("nan"), "of": (1.5, "é")}))
    assert read_sealed(path) == {"n": 1, "share": None, "of": [1.5, "é"]}
    path.write_text(path.read_text().replace("1.5", "1.7"))
    assert read_sealed(path) is None
    path.write_text(content)
    assert read_sealed(path) is None
