"""The commands `caption` and `context` on a finished run: what they write, what the dataset holds, what is refused."""

import csv
import json

import pytest
from describer_server.running import describer_server
from describers.small_dump import dump_of
from steps.small_runs import content

from sae_traits import load_traits
from sae_traits.cli import main
from sae_traits.config.finetune import PairsConfig
from sae_traits.contrastive.samples import read_samples
from sae_traits.errors import StoreError
from sae_traits.runs.context import Context
from sae_traits.schema import Collection
from sae_traits.steps import ALL_STEPS, run_steps

OF_SQLITE = ("pictures.sqlite-shm", "pictures.sqlite-wal")
SERVED = ("--describer", "server", "--describer-model", "a-model", "--base-url", "http://127.0.0.1:9/v1")
"""By nobody: what is refused is refused before anybody is asked."""


def test_captions_are_written_released_and_trained_on(run, capsys, tmp_path):
    kept = ["config.yaml", "traits/traits.parquet", "traits/latents.parquet"]
    former = [(run / name).read_bytes() for name in kept]
    records = Collection.load(run / "images.parquet").images
    species = records[0].species
    table, context = tmp_path / "table.csv", tmp_path / "context.csv"
    table.write_text(f"species,text\n{species},Its wings have spots.\n")
    assert main(["context", str(table), "--species", str(run), "--out", str(context)]) == 0
    said = capsys.readouterr().out
    assert "text on 1 of 9 species" in said
    assert "not in the table" in said
    command = ["caption", str(run), "--describer", "measured"]
    assert main([*command, "--context", str(context)]) == 2
    assert "measured only measures" in capsys.readouterr().err
    assert main([*command, "--estimate", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_calls"] == len(records)
    assert main([*command, "--format", "json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert counts["n_captions"] == len(records) - counts["n_quarantined"]
    assert counts["n_captions"] > 0.9 * len(records)

    assert [(run / name).read_bytes() for name in kept] == former
    splits = load_traits(run, config="captions")
    assert sum(map(len, splits.values())) == counts["n_captions"]
    row = next(row for row in splits["train"] if row["species"] == species)
    assert row["caption"].startswith(f"{species}: a ")
    assert row["context_page"] is None
    card = (run / "dataset/README.md").read_text()
    assert "## Captions" in card
    assert "gives the label away" in card
    samples = read_samples(PairsConfig(data=str(run), text_types=("caption", "sci"), without_text="drop"))
    assert {sample.texts["caption"][0] for sample in samples} == set(splits["train"]["caption"])

    before = content(run / "dataset", "README.md")
    assert main(command) == 0
    assert capsys.readouterr().err.count("skipped") >= 3
    assert main(["annotate", str(run), "--traits-per-image", "2"]) == 0
    assert content(run / "dataset/data/captions") == {
        name.removeprefix("data/captions/"): sha256 for name, sha256 in before.items() if "data/captions/" in name
    }, "traits that are described anew leave the captions as they are"

    (run / "traits/captions.parquet").write_bytes(b"damaged")
    with pytest.raises(StoreError, match=f"run `sae-traits caption {run}` again"):
        run_steps(Context.open(run, ALL_STEPS), ["dataset"])
    assert main(command) == 0, "a damaged file is made anew"


@pytest.mark.parametrize("reason", ["options", "damage"])
def test_what_cannot_end_in_the_dataset_is_refused_before_anything_is_asked_or_kept(run, tmp_path, capsys, reason):
    if reason == "options":
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("k: 8\n", "k: 4\n"))
        said = "made with k 8, and its config.yaml says k 4"
    else:
        (run / "traits" / "latents.parquet").write_bytes(b"damaged")
        said = "latents.parquet is missing or not as it was written"
    (tmp_path / "names.json").write_text("{}")
    before = content(run)
    for words in (
        ["caption", str(run), "--describer", "measured"],
        ["name", str(run), str(tmp_path / "names.json")],
        ["review", "import", str(run), str(tmp_path / "names.json")],
    ):
        assert main(words) == 1
        assert said in capsys.readouterr().err
        assert content(run) == before


def test_the_state_of_a_run_says_who_captioned_and_that_the_same_options_go_on(run, capsys):
    """Options of captions are no run's: the bare command would have others written, by another describer."""
    with describer_server(reply={"choices": []}) as server:
        words = ["--describer", "server", "--describer-model", "a-model", "--base-url", server.base_url]
        assert main(["caption", str(run), *words, "--max-consecutive-unusable", "2"]) == 3
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    said = capsys.readouterr().out
    assert "captions by server, a-model" in said
    assert f"`sae-traits caption {run}` with the options that it was begun with" in said


def test_a_species_table_is_made_of_a_dump(tmp_path, capsys):
    pages = {"Aus bus": "'''''Aus bus''''' is a beetle.\n== Description ==\nGreen, with {{cvt|2|mm}} long legs."}
    (tmp_path / "wiki.xml").write_bytes(dump_of(pages))
    (tmp_path / "wanted.csv").write_text("species,kingdom\nAus bus,Animalia\nAus cus,Animalia\n")
    out = tmp_path / "species.csv"
    assert (
        main(["context", str(tmp_path / "wiki.xml"), "--species", str(tmp_path / "wanted.csv"), "--out", str(out)]) == 0
    )
    assert "text on 1 of 2 species" in capsys.readouterr().out
    with out.open() as file:
        first, second = csv.DictReader(file)
    assert first == {
        "species": "Aus bus", "kingdom": "Animalia", "page": "Aus bus", "section": "Description",
        "text": "Green, with 2 mm long legs.", "note": "Aus bus does not say its kingdom",
    }  # fmt: skip
    assert (second["text"], second["note"]) == ("", "no page")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["context", "{tmp}/absent.xml", "--species", "{tmp}/good.csv", "--out", "{tmp}/out.csv"], 1, "cannot read"),
        (["context", "{tmp}/bad.xml", "--species", "{tmp}/good.csv", "--out", "{tmp}/out.csv"], 1, "no XML dump"),
        (["context", "{tmp}/bad.xml", "--species", "{tmp}/bad.csv", "--out", "{tmp}/out.csv"], 2, "the column species"),
        (["context", "{tmp}/bad.xml", "--species", "{tmp}/empty", "--out", "{tmp}/out.csv"], 1, "is not a run"),
        (["context", "{tmp}/bad.csv", "--species", "{tmp}/good.csv", "--out", "{tmp}/out.csv"], 2, "species and text"),
        (["context", "{tmp}/bad.xml", "--species", "{tmp}/good.csv", "--out", "{tmp}/no/out.csv"], 1, "cannot write"),
        (["context", "{tmp}/bad.xml", "--species", "{tmp}/good.csv", "--out", "{tmp}/empty"], 1, "it is a folder"),
        (["caption", "{run}", "--context", "{tmp}/bad.csv"], 2, "needs the columns species and text"),
        (["caption", "{run}", "--context", "{tmp}/absent.csv"], 2, "cannot read the species table"),
        (["caption", "{run}", "--examples", "{tmp}/good.csv"], 2, "needs the columns class and examples"),
        (["caption", "{run}", *SERVED, "--examples", "{tmp}/birds.csv"], 2, "are of aves, and no image of"),
        (["caption", "{run}", "--show", "crop"], 2, "there is no --show here"),
        (["caption", "{run}", "--context", "{tmp}/two.csv"], 2, "two texts for Aus bus"),
        (["caption", "{tmp}/empty"], 1, "is not a run"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(run, tmp_path, capsys, words, code, reason):
    (tmp_path / "bad.xml").write_text("species")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "good.csv").write_text("species,text\nAus bus,Green.\n")
    (tmp_path / "two.csv").write_text("species,text\nAus bus,Green.\nAus bus,Red.\n")
    (tmp_path / "birds.csv").write_text("class,examples\nAves,A bird with a red breast.\n")
    (tmp_path / "empty").mkdir()
    before = content(run, *OF_SQLITE)
    assert main([word.format(tmp=tmp_path, run=run) for word in words]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sae-traits")]
    assert len(errors) == 1
    assert reason in errors[0]
    after = content(run, *OF_SQLITE)
    assert {name: after[name] for name in before} == before
