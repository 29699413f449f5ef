"""The tool that breaks the code on purpose, on a project of two files."""

import pytest
from run_mutants import LIST, Mutant, read_mutants, try_all, try_mutant


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function of two branches, of which one is tested."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # pytest starts in half the time
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "size.py").write_text("def size(n):\n    return 'small' if n < 3 else 'large'\n")
    (folder / "test_size.py").write_text(
        "from size import size\n\n\ndef test_two_is_small():\n    assert size(2) == 'small'\n"
    )
    return folder


def mutant(old, new, *, name="m", test="test_size.py"):
    return Mutant(name=name, file="size.py", old=old, new=new, tests=(test,))


def test_a_mutant_is_killed_by_the_test_that_fails(project):
    before = (project / "size.py").read_bytes()
    outcome = try_mutant(project, mutant("'small'", "'tiny'"))
    assert (outcome.killed_by, outcome.problem) == ("test_size.py::test_two_is_small", None)
    assert (project / "size.py").read_bytes() == before, "only the copy is changed"


def test_a_mutant_that_no_test_notices_survives(project):
    outcome = try_mutant(project, mutant("'large'", "'huge'"))
    assert (outcome.killed_by, outcome.problem) == (None, "survived")


def test_tests_that_are_skipped_say_nothing_of_a_mutant(project):
    (project / "test_size.py").write_text("import pytest\n\n\ndef test_skipped():\n    pytest.skip('no data')\n")
    assert "its tests cannot run here (1 skipped" in try_mutant(project, mutant("'small'", "'tiny'")).problem


@pytest.mark.parametrize(("old", "n"), [("'medium'", 0), ("l", 4)])
def test_the_old_text_occurs_exactly_once(project, old, n):
    assert try_mutant(project, mutant(old, "x")).problem == f"its old text occurs {n} times in size.py"


def test_output_is_not_copied_and_a_package_of_the_same_name_is(project):
    for folder in ("runs", "package/runs"):
        (project / folder).mkdir(parents=True)
        (project / folder / "size.txt").write_text("small")
    files = [
        Mutant(name="m", file=f"{folder}/size.txt", old="small", new="x", tests=("test_size.py",))
        for folder in ("runs", "package/runs")
    ]
    assert [try_mutant(project, each).problem for each in files] == [
        "its old text occurs 0 times in runs/size.txt",
        "survived",
    ]


def test_code_that_cannot_be_imported_kills_nothing(project):
    outcome = try_mutant(project, mutant("return", "retur n"))
    assert outcome.killed_by is None
    assert outcome.problem.startswith("pytest ended with 2")


def test_the_table_names_what_killed_each_and_one_survivor_is_a_failure(project, capsys):
    killed, survivor = mutant("'small'", "'tiny'", name="killed"), mutant("'large'", "'huge'", name="survivor")
    assert try_all(project, [killed])
    assert not try_all(project, [killed, survivor], n_jobs=2)
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["mutant", "killed", "survivor"]
    assert lines[1].endswith("test_size.py::test_two_is_small")
    assert lines[2].endswith("NONE: survived")


def test_a_test_that_fails_without_the_mutant_proves_nothing(project):
    (project / "test_size.py").write_text("def test_always_fails():\n    assert False\n")
    outcome = try_mutant(project, mutant("'small'", "'tiny'"))
    assert (outcome.killed_by, outcome.problem) == (None, "without it, test_size.py::test_always_fails fails")


def test_every_mutant_of_the_list_is_in_the_code_once_and_its_tests_exist():
    mutants = read_mutants(LIST)
    root = LIST.parents[2]
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert (root / mutant.file).read_text().count(mutant.old) == 1, mutant.name
        for test in mutant.tests:
            file, *functions = test.split("::")
            assert all(f"def {function}(" in (root / file).read_text() for function in functions), test
