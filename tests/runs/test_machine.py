"""What `sae-traits doctor` finds, with a Hub on this machine and without one."""

import json
import sys

import pytest

from sae_traits.cli import main
from sae_traits.runs.machine import TASKS, examine


def doctor(capsys, *tasks):
    """The exit code, what was found, and all that was printed."""
    code = main(["doctor", "--format", "json", *tasks])
    printed = capsys.readouterr()
    return code, json.loads(printed.out), printed.out + printed.err


def test_a_hub_that_answers_and_knows_the_token(hub, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    code, found, printed = doctor(capsys, "publish")
    assert code == 0
    assert (found["hub"], found["hub_problem"], found["user"]) == (hub.url, None, "curator")
    assert found["missing"] == {"publish": []}
    assert hub.token not in printed
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    code, found, _ = doctor(capsys, "publish")
    assert code == 1
    assert (found["hub_problem"], found["user"]) == (None, None)


def test_a_hub_that_cannot_be_reached_is_missing_for_what_needs_it(monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, found, _ = doctor(capsys, "publish", "demo")
    assert code == 1
    assert any("the Hub" in lack for lack in found["missing"]["publish"])
    assert any("token" in lack for lack in found["missing"]["publish"])
    assert found["missing"]["demo"] == []


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_versions_disk_and_every_task_are_named(offline, capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "HF_HUB_OFFLINE" in text
    assert all(f"\n{task} " in text for task in TASKS)
    machine = examine("demo")
    assert machine.versions["torch"] is not None
    assert all(free > 0 for free in machine.free.values())


def test_a_package_that_is_not_installed_is_named_with_what_installs_it(offline, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)  # which makes it impossible to import
    (lack,) = examine("excel").missing["excel"]
    assert lack == "pip install 'sae-traits[excel]'"


def test_a_task_that_does_not_exist_is_refused(capsys):
    assert main(["doctor", "publsh"]) == 2
    assert "there is no task publsh; there are demo" in capsys.readouterr().err
