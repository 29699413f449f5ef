"""Captions: one per image by a server that misbehaves, told what is known of the taxon, kept apart where unsound."""

import csv
import json
import os
import subprocess
import sys
import time

import pytest
from describer_server import captioning
from describer_server.captioning import captioned, collection_of
from describer_server.running import describer_server

from sae_traits.config.describer import Measured, Server
from sae_traits.describers.captions import MAX_REFERENCE, Guidance, make_captioner, shortened
from sae_traits.describers.species_context import SpeciesContext, SpeciesContexts
from sae_traits.errors import ConfigError
from sae_traits.schema import Taxon
from sae_traits.traits.captions import FLAGS, MAX_WORDS, CaptionPlan, Names, ask_for_captions, export_captions
from sae_traits.traits.estimate import estimate_calls
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_captions

FAULTS = dict.fromkeys(("error", "busy", "truncated", "malformed", "garbage", "dropped"), 0.1 / 6)
BEE = Taxon(kingdom="Animalia", class_="Insecta", species="Apis mellifera")
TEXT = "The fore wings have two rows of hooks. " * 30
CONTEXTS = SpeciesContexts(
    {"Apis mellifera": (SpeciesContext(species="Apis mellifera", kingdom="Animalia", page="Bee", text=TEXT),)}
)
GUIDANCE = Guidance(CONTEXTS, {"insecta": "1. Name: a green beetle."})


@pytest.fixture(autouse=True)
def _messages(caplog):
    caplog.set_level("INFO", logger="sae_traits")


def quarantined(folder):
    with (folder / "quarantined.csv").open() as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def files_of(folder):
    return [(folder / name).read_bytes() for name in ("captions.parquet", "quarantined.csv")]


@pytest.mark.slow
def test_a_killed_captioning_under_faults_ends_in_the_bytes_of_an_undisturbed_one(tmp_path):
    n_images = 60
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    with describer_server(faults=FAULTS, latency=0.05, retry_after=0.1) as server:
        options = {"model": "tiny", "base_url": server.base_url, "in_flight": 8}
        command = [sys.executable, captioning.__file__, str(killed), str(n_images), json.dumps(options)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while server.n_requests() < 20 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -9
        with Ledger(killed / "captions.sqlite") as ledger:
            answered = {call.key for call in ledger if call.state == "ok"}
        assert 8 < len(answered) < n_images
        before = server.requests()
        resumed = captioned(killed, n_images, options)
        after = server.requests()
    assert all(after[key] == before[key] for key in answered), "what was answered is not asked again"
    with describer_server(faults=FAULTS, latency=0.0, retry_after=0.1) as server:
        undisturbed = captioned(whole, n_images, options | {"base_url": server.base_url, "in_flight": 3})
        assert len(server.statistics()["outcomes"]) >= 4, "there were faults of several kinds"
    assert resumed == undisturbed
    assert resumed.n_open == 0
    assert resumed.n_captions + resumed.n_quarantined == n_images
    assert resumed.n_captions > 0.8 * n_images
    assert files_of(killed) == files_of(whole)


def test_what_is_flagged_is_counted_and_kept_apart(tmp_path):
    def reply(caption, **changes):
        message = {"role": "assistant", "content": json.dumps({"is_background": False, "caption": caption})}
        return {"choices": [{"message": message, "finish_reason": "stop"} | changes], "usage": None}

    with describer_server(reply=reply("Gen a with a brown wing.")) as server:
        options = {"model": "tiny", "base_url": server.base_url}
        examples = {"insecta": "1. A wing.", "aves": "1. A feather."}
        text = SpeciesContext(species="Gen a", page="A", text="Its wings are scaly.")
        done = captioned(tmp_path, 5, options, examples=examples, contexts=SpeciesContexts({"Gen a": (text,)}))
        assert done.flags == dict.fromkeys(FLAGS, 0) | {"wrong_species": 2, "no_examples": 2}
        assert (done.n_captions, done.n_quarantined, done.n_open, done.n_without_context) == (1, 4, 0, 4)
        rows = quarantined(tmp_path)
        assert {name: row["flags"] for name, row in rows.items()} == {
            **dict.fromkeys(("s1", "s2"), "wrong_species"),
            **dict.fromkeys(("s3", "s4"), "no_examples"),
        }
        assert rows["s1"]["said"] == "Gen a with a brown wing."
        assert server.n_requests() == 3, "nobody is paid for a caption that cannot be released"
        (caption,) = read_captions(tmp_path / "captions.parquet")
        assert (caption.image, caption.text, caption.context_page) == (0, "Gen a with a brown wing.", "A")
        assert caption.prompt.startswith("caption-1 sha256:")

        server.change(reply=reply("A wing " * MAX_WORDS))
        folder = tmp_path / "long"
        folder.mkdir()
        assert captioned(folder, 1, options).flags["too_long"] == 1
        server.change(reply=reply("A wing of an ins", finish_reason="length"))
        folder = tmp_path / "cut"
        folder.mkdir()
        cut = captioned(folder, 1, options)
        assert (cut.flags["cut_off"], cut.flags["unusable"]) == (1, 0)
        assert "raise --max-tokens" in quarantined(folder)["s0"]["reason"]


def test_a_describer_is_told_name_examples_and_reference_in_this_order():
    told = GUIDANCE.told(BEE)
    name, examples, reference = told.split("\n\n")
    assert name == "The organism was identified as Apis mellifera."
    assert examples.splitlines()[1] == "1. Name: a green beetle."
    assert "class Insecta" in examples
    assert reference.splitlines()[1] == shortened(TEXT)
    assert len(shortened(TEXT)) <= MAX_REFERENCE
    assert TEXT.startswith(f"{shortened(TEXT)} ")
    assert GUIDANCE.told(Taxon()) == ""
    assert Guidance().told(Taxon(species="Apis mellifera")) == name
    assert "Reference" not in GUIDANCE.told(Taxon(kingdom="Plantae", species="Apis mellifera"))
    assert GUIDANCE.lacks_examples(Taxon(class_="Aves"))
    assert GUIDANCE.lacks_examples(Taxon())
    assert not Guidance().lacks_examples(Taxon())


def test_what_is_told_decides_which_call_it_is_and_goes_before_the_picture(tmp_path):
    collection = collection_of(tmp_path, 2)
    describer = make_captioner(Server(model="tiny"))
    record = collection.images[0]
    plain = CaptionPlan(collection, Guidance(), describer).call(record)
    text = SpeciesContexts({record.species: (SpeciesContext(species=record.species, text="Its wings are brown."),)})
    told = CaptionPlan(collection, Guidance(text), describer).call(record)
    assert plain is not None
    assert told is not None
    assert plain.key != told.key
    prompt = describer.question  # pyright: ignore[reportAttributeAccessIssue]
    (message,) = prompt.messages([("data:,",)], told.species, told.told)
    words, before, picture = message["content"]
    assert "only settles terms" in words["text"]
    assert '"caption"' in words["text"]
    assert "$" not in words["text"] + before["text"]
    assert before["text"].endswith("Its wings are brown.")
    assert picture["type"] == "image_url"


@pytest.mark.parametrize(
    ("caption", "is_other"),
    [
        ("Apis mellifera with brown hairs.", False),
        ("apis mellifera, unlike Bombus terrestris.", True),
        ("A. mellifera on a flower.", False),
        ("B. terrestris.", True),
        ("Bombus terrestrisoides and a Bombus.", False),
        ("A wing like that of bombus  terrestris", True),
        ("Its wing is brown.", False),
    ],
)
def test_names_of_other_species_are_found(caption, is_other):
    names = Names(frozenset({"apis mellifera", "bombus terrestris"}), frozenset({"a. mellifera", "b. terrestris"}))
    assert names.others_in(caption, "Apis mellifera") is is_other


def test_measured_captions_need_no_model_and_say_the_name(tmp_path):
    plan = CaptionPlan(collection_of(tmp_path, 2), Guidance(), make_captioner(Measured()))
    with Ledger(tmp_path / "captions.sqlite") as ledger:
        estimate = estimate_calls(plan.tasks(), plan.describer, ledger, Measured())
        assert (estimate.n_open, estimate.prompt_tokens) == (2, 0)
        ask_for_captions(plan, ledger, workers=1)
        export_captions(
            plan, ledger, captions_file=tmp_path / "captions.parquet", quarantine_file=tmp_path / "quarantined.csv"
        )
        assert estimate_calls(plan.tasks(), plan.describer, ledger, Measured()).n_open == 0
    first, second = read_captions(tmp_path / "captions.parquet")
    assert first.text.startswith("Gen a: a large, ")
    assert second.text.startswith("Gen b: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\n1,2\n", "needs the columns class and examples; it has a, b"),
        ("class,example\nAves,nan\n", "no class with"),
    ],
)
def test_examples_that_are_none_are_refused(tmp_path, content, reason):
    (tmp_path / "examples.csv").write_text(content)
    with pytest.raises(ConfigError, match=reason):
        Guidance.read(None, tmp_path / "examples.csv")
    (tmp_path / "good.csv").write_text("class,format_example\nAves,1. A bird.\naves,2. A bird.\n")
    assert Guidance.read(None, tmp_path / "good.csv").examples == {"aves": "1. A bird.\n2. A bird."}
