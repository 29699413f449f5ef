"""What `sae-traits doctor` finds, with a Hub on this machine and without one."""

import json
import subprocess
import sys

import pytest

from sae_traits.cli import main
from sae_traits.runs.machine import TASKS, examine

DOCTOR = [sys.executable, "-m", "sae_traits", "doctor", "--format", "json"]


def test_a_hub_that_answers_and_knows_the_token(hub, hub_environment):
    done = subprocess.run([*DOCTOR, "publish"], env=hub_environment, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (found["hub"], found["hub_problem"], found["user"]) == (hub.url, None, "curator")
    assert found["missing"] == {"publish": []}
    assert hub.token not in done.stdout + done.stderr


def test_a_hub_that_cannot_be_reached_is_missing_for_what_needs_it(hub_environment):
    environment = hub_environment | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([*DOCTOR, "publish", "demo"], env=environment, capture_output=True, text=True)
    missing = json.loads(done.stdout)["missing"]
    assert done.returncode == 1
    assert any("the Hub" in lack for lack in missing["publish"])
    assert any("token" in lack for lack in missing["publish"])
    assert missing["demo"] == []


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
