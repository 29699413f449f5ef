"""Datasets of the Hub as sources, through the loopback Hub and the real clients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hub.loopback import client_environment, running_hub
from hub_datasets import parquet, put, put_datasets, put_long, stored
from web import photograph

SCRIPT = """
import dataclasses, json, sys
from sae_traits.images import list_source, read_collection
from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
answers = []
for options in json.loads(sys.argv[1]):
    try:
        listing = list_source(CollectionConfig(**options))
    except CollectionError as error:
        answers.append({"error": str(error)})
        continue
    answers.append(dataclasses.asdict(listing) | {"root": str(listing.root)})
    if len(sys.argv) > 2 and options["source"].startswith(sys.argv[2]):
        collection = read_collection(CollectionConfig(**options), listing=listing)
        answers[-1]["images"] = [[s.species, s.split, s.license] for s in collection.images]
print(json.dumps(answers))
"""


def ask(environment, questions, *arguments):
    """What sources list, asked in one process."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(questions), *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The answer to each question, by name; asked once for the whole module."""
    folder = tmp_path_factory.mktemp("answers")
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        commits = put_datasets(hub)
        text = {"source": "hf://datasets/museum/text", "image_column": "picture"}
        codes = {"source": "hf://datasets/museum/codes", "per_species": 2}
        questions = {
            "classes": {"source": "hf://datasets/museum/classes"},
            "classes of test": {"source": f"hf://datasets/museum/classes@{commits['classes']}", "split": ["test"]},
            "text": text,
            "thumbnails": text | {"image_column": "thumbnail"},
            "text of a family": text | {"family": "nymphalidae"},
            "text drawn": text | {"family": "Nymphalidae", "per_species": 3},
            "text of a family without labels": text | {"family": "nymphalidae", "labels": False},
            "drawn without codes": codes,
            "drawn with codes": codes | {"species_codes": True},
            "unlabelled": {"source": "hf://datasets/museum/wordless", "labels": False},
            "evil": {"source": "hf://datasets/museum/evil@main"},
            "folder": {"source": "hf://datasets/museum/folder"},
            "two images": {"source": "hf://datasets/museum/text"},
            "no species": {"source": "hf://datasets/museum/wordless"},
            "no column": {"source": "hf://datasets/museum/text", "species_column": "name"},
            "no number": {"source": "hf://datasets/museum/text", "image_column": "picture", "species_column": "number"},
            "no repository": {"source": "hf://datasets/museum/nothing"},
            "no revision": {"source": "hf://datasets/museum/classes@v9"},
            "no configuration": {"source": "hf://datasets/museum/classes", "source_config": "x"},
            "no split": {"source": "hf://datasets/museum/classes", "split": ["dev"]},
            "no family": text | {"family": "Apidae"},
            "no row": {"source": "hf://datasets/museum/empty"},
            "no name": {"source": "hf://datasets/a/b/c"},
            "climbing": {"source": "hf://datasets/../../etc"},
        }
        questions = {name: question | {"image_cache": str(folder / "cache")} for name, question in questions.items()}
        environment = client_environment(hub, folder / "home")
        found = dict(
            zip(questions, ask(environment, list(questions.values()), "hf://datasets/museum/classes"), strict=True)
        )
        n_requests = len(hub.requests)
        again = ask(environment, [questions["classes of test"]])
        n_requests = len(hub.requests) - n_requests
        lost = found["folder"]["rows"][2]["file"]
        Path(found["folder"]["root"], lost).unlink()
        (found["lost"],) = ask(environment, [questions["folder"]])
        yield {
            "commits": commits, "at": folder, "requests": n_requests, "again": again[0], "token": hub.token
        } | found  # fmt: skip


def test_classes_become_labels_and_splits_stay(answers):
    found = answers["classes"]
    assert [(row["label"], row["split"]) for row in found["rows"]] == [
        ("Vanessa_cardui", "train"),
        ("Danaus plexippus", "train"),
        (None, "train"),
        ("Danaus plexippus", "test"),
    ]
    root, commit = answers["at"] / "cache/hub/museum--classes", answers["commits"]["classes"]
    assert found["root"] == str(root / commit)
    for number, row in enumerate(found["rows"]):
        assert (root / commit / row["file"]).read_bytes() == photograph(number)
        assert row["license"] == "cc-by-4.0"
        assert row["source_revision"] == commit
        assert f"/datasets/museum/classes/tree/{commit}#default/" in row["source_url"]
    assert found["images"] == [
        ["Danaus plexippus", "test", "cc-by-4.0"],
        ["Vanessa cardui", "train", "cc-by-4.0"],
        ["Danaus plexippus", "train", "cc-by-4.0"],
    ]


def test_a_commit_that_is_complete_needs_no_hub(answers):
    assert [row["split"] for row in answers["classes of test"]["rows"]] == ["test"]
    assert answers["again"] == {key: value for key, value in answers["classes of test"].items() if key != "images"}
    assert answers["requests"] == 0


def test_columns_of_text_are_found_by_their_names(answers):
    rows = answers["text"]["rows"]
    assert len(rows) == 12
    assert {row["split"] for row in rows} == {None}  # a dataset's only split says nothing
    assert [row["label"] for row in rows[:2]] == ["Papilio machaon", "Vanessa cardui"]
    assert rows[1]["ranks"]["family"] == "Nymphalidae"
    assert [row["individual"] for row in rows[:3]] == ["butterfly 0", "butterfly 0", "butterfly 1"]
    assert [row["license"] for row in rows[:2]] == [None, "CC0"]
    assert (rows[1]["rights_holder"], rows[1]["source_url"]) == ("A. Holder", "https://photos.example/1")


def test_images_of_two_columns_do_not_replace_each_other(answers):
    for name, first in (("text", 0), ("thumbnails", 50)):
        root, rows = Path(answers[name]["root"]), answers[name]["rows"]
        assert [(root / row["file"]).read_bytes() for row in rows] == [photograph(first + n) for n in range(12)]


def test_only_what_is_wanted_is_written(answers):
    family, drawn = answers["text of a family"]["rows"], answers["text drawn"]["rows"]
    assert {row["label"] for row in family} == {row["label"] for row in drawn} == {"Vanessa cardui"}
    assert (len(family), len(drawn)) == (6, 3)
    assert {row["file"] for row in drawn} < {row["file"] for row in family}


def test_codes_are_drawn_where_they_are_asked_for_and_what_is_at_no_species_is_not_written(answers):
    without, drawn = answers["drawn without codes"], answers["drawn with codes"]
    assert (len(without["rows"]), len(without["problems"])) == (0, 12)
    assert sorted(row["label"] for row in drawn["rows"]) == ["Viola v01"] * 2 + ["Viola v02"] * 2
    assert len(drawn["problems"]) == 4
    assert all("cannot be placed at a species" in problem["reason"] for problem in drawn["problems"])
    assert len([path for path in Path(drawn["root"]).rglob("0*") if path.is_file()]) == 4


def test_without_labels_the_family_selects_still(answers):
    rows = answers["text of a family without labels"]["rows"]
    assert [row["file"] for row in rows] == [row["file"] for row in answers["text of a family"]["rows"]]
    assert {row["label"] for row in rows} == {None}


def test_without_labels_no_species_is_needed(answers):
    assert [row["label"] for row in answers["unlabelled"]["rows"]] == [None]


def test_images_beside_the_table_are_fetched(answers):
    rows = answers["folder"]["rows"]
    assert sorted(row["label"] for row in rows) == ["Danaus plexippus"] * 2 + ["Vanessa_cardui"] * 2
    written = {(answers["folder"]["root"] + "/" + row["file"]) for row in rows}
    assert len(written) == 4


def test_no_path_of_a_table_is_opened_or_written(answers):
    found = answers["evil"]
    assert [row["file"] for row in found["rows"]] == ["default/train/000000/000000005"]
    reasons = [problem["reason"] for problem in found["problems"]]
    assert sum("which is no file of the dataset" in reason for reason in reasons) == 4
    assert "it has no image" in reasons
    files = [path for path in answers["at"].rglob("*") if path.is_file()]
    assert not any("escape" in path.name for path in files)
    assert not any(b"root:x:0" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("two images", "needs a column of type Image, named by --image-column; its columns are picture (Image)"),
        ("no species", "needs a column with the species, named by --species-column; its columns are image (Image)"),
        ("no column", "has no column 'name' for --species-column"),
        ("no number", "needs a column with the species"),
        ("no repository", "museum/nothing cannot be read"),
        ("no revision", "museum/classes@v9 cannot be read"),
        ("no configuration", "museum/classes cannot be read"),
        ("no split", "has no split 'dev'; its splits are train, test"),
        ("no family", "museum/text has no row of --family Apidae"),
        ("no row", "museum/empty has no row"),
        ("lost", "1 images of hf://datasets/museum/folder are no longer in"),
        ("no name", "is no dataset of the Hub; write hf://datasets/ORG/NAME"),
        ("climbing", "is no dataset of the Hub"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_what_to_do(answers, question, message):
    error = answers[question]["error"]
    assert message in error
    assert "\n" not in error
    assert answers["token"] not in error


def test_a_proxy_that_cannot_be_used_is_told_in_one_line(hub, hub_environment, tmp_path):
    environment = hub_environment | {"all_proxy": "socks5://127.0.0.1:1080"}
    source = {"source": "hf://datasets/museum/classes", "image_cache": str(tmp_path)}
    assert "SOCKS proxy" in ask(environment, [source])[0]["error"]


def test_columns_of_a_dataset_are_told_only_where_they_may_be_misspelt_or_hold_no_text(hub, hub_environment):
    from datasets import Image, Value

    names = ["species", "caption", "famly", "individual_id", "number"]
    kinds = dict.fromkeys(names, Value("string")) | dict.fromkeys(["individual_id", "number"], Value("int64"))
    cells = {name: ["Vanessa cardui"] if str(kind.dtype) == "string" else [3] for name, kind in kinds.items()}
    table = parquet({"image": [stored(0)]} | cells, {"image": Image()} | kinds)
    put(hub, "misspelt", {"data/train.parquet": table})
    code = f"import logging; logging.basicConfig(format='%(message)s'){SCRIPT}"
    question = json.dumps([{"source": "hf://datasets/museum/misspelt"}])
    done = subprocess.run([sys.executable, "-c", code, question], env=hub_environment, capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "not read" in line] == [
        "columns of museum/misspelt that are not read: famly (did you mean family?), individual_id (it holds no text)"
    ]


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from sae_traits.images.hub import list_hub
from sae_traits.config.collection import CollectionConfig
cache = Path(sys.argv[1])
def watch():
    while len(list(cache.rglob("0000000*"))) < 60:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
config = CollectionConfig(source="hf://datasets/museum/long", image_cache=str(cache))
list_hub(config, seconds_between_checkpoints=0.0)
"""


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_stopped(hub, hub_environment, tmp_path):
    put_long(hub, n_shards=4, rows_a_shard=40)
    cache = tmp_path / "cache"
    killed = subprocess.run([sys.executable, "-c", KILLED, cache], env=hub_environment, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    (journal,) = cache.rglob("rows-*.json")
    place = json.loads(journal.read_text())
    assert not place["is_complete"]
    assert 40 < place["stream"]["row"] < 160
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("0000000*")}
    resumed, whole = ask(
        hub_environment,
        [{"source": "hf://datasets/museum/long", "image_cache": str(path)} for path in (cache, tmp_path / "other")],
    )
    assert resumed["rows"] == whole["rows"]
    assert len(whole["rows"]) == 160
    kept = [path for path, written in before.items() if path.stat().st_mtime_ns == written]
    assert len(kept) >= place["stream"]["row"] - 10


def test_a_command_waits_for_another_one_that_reads_the_same(hub, hub_environment, tmp_path):
    put_datasets(hub)
    question = {"source": "hf://datasets/museum/classes", "image_cache": str(tmp_path)}
    (first,) = ask(hub_environment, [question])
    (journal,) = tmp_path.rglob("rows-*.json")
    journal.unlink()
    command = [
        sys.executable,
        "-c",
        f"import logging; logging.basicConfig(level='INFO'){SCRIPT}",
        json.dumps([question]),
    ]
    with FileLock(journal.with_suffix(".lock")):
        second = subprocess.Popen(
            command, env=hub_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert any("another command writes" in line for line in second.stderr)
        assert not journal.exists()
    answer, _ = second.communicate()
    assert json.loads(answer) == [first]
