"""New photographs described with the latents of an earlier run, and images described as if they had no labels."""

import csv
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from features.tiny_models import save_model
from huggingface_hub import HfApi
from PIL import Image
from steps.small_runs import collected

from sae_traits import SAE
from sae_traits.cli import main
from sae_traits.features.background import Background
from sae_traits.release.publication import stage_saes
from sae_traits.schema import Collection, Taxon
from sae_traits.traits.table import read_traits

SMALL = ["--backbone", "texture", "--n-latents", "64", "--k", "4", "--n-patches", "6000", "--batch-size", "256"]
QUICK = ["--workers", "0", "--describer-workers", "1", "--longest-side", "96"]
COLOURS = {"Fictus ruber": (190, 40, 40), "Fictus viridis": (40, 150, 60)}
SPLITS = ["train"] * 5 + ["validation", "test"]


def photograph(path, colour, seed):
    """A disc of a colour somewhere on a rough background."""
    random = np.random.default_rng(seed)
    pixels = random.integers(120, 170, (64, 96, 3), dtype=np.uint8)
    x, y = random.integers(25, 70), random.integers(20, 44)
    inside = np.hypot(*np.ogrid[-y : 64 - y, -x : 96 - x]) < 18
    pixels[inside] = np.clip(np.array(colour) + random.integers(-20, 20, (int(inside.sum()), 3)), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def collection(folder):
    """Two species of seven images, in a table with their splits."""
    rows = [["file", "species", "split"]]
    for number, (species, colour) in enumerate(COLOURS.items()):
        for record, split in enumerate(SPLITS):
            file = f"{number}{record}.png"
            photograph(folder / file, colour, 10 * number + record)
            rows.append([file, species, split])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def run_command(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on two species."""
    folder = tmp_path_factory.mktemp("labelled")
    assert run_command("run", collection(folder / "images"), "--out", folder / "run", *SMALL, *QUICK) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four photographs that nobody has named, and a file that is none."""
    folder = tmp_path_factory.mktemp("new") / "photographs"
    for number, colour in enumerate([*COLOURS.values()] * 2):
        photograph(folder / ("sub/" if number else "") / f"IMG_{number}.png", colour, 100 + number)
    (folder / "sub" / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def described(finished, photographs, tmp_path_factory):
    """The run that described them, with the SAE that lies beside the dataset."""
    folder = tmp_path_factory.mktemp("described") / "run"
    assert run_command("predict", photographs, "--out", folder, "--latents", finished / "dataset", *QUICK) == 0
    return folder


def given(finished):
    return ["--latents", finished / "dataset", "--sae", finished / "sae"]


def rows_of(dataset, config, tmp_path, split="test"):
    return load_dataset(str(dataset), config, split=split, cache_dir=str(tmp_path / "cache")).to_list()


def test_photographs_are_described_with_the_latents_of_the_dataset_and_get_no_names(described, finished, tmp_path):
    rows = rows_of(described / "dataset", "default", tmp_path)
    assert {row["image_id"].rsplit("-", 1)[0] for row in rows} == {f"IMG_{number}" for number in range(4)}
    assert {row[rank] for row in rows for rank in ("genus", "species", "family")} == {None}
    latents = rows_of(finished / "dataset", "latents", tmp_path / "a", "train")
    for row in rows:
        own = max((one for one in latents if one["latent"] == row["latent"]), key=lambda one: one["effect"])
        for column in ("f_species", "f_reference", "effect", "q_value", "significant", "reference_rank", "sae"):
            assert row[column] == own[column], column
        assert row["activation"] > own["threshold"]
    assert len({row["text"] for row in rows}) > 1
    used = {row["latent"] for row in rows}
    assert {one["latent"] for one in rows_of(described / "dataset", "latents", tmp_path / "b", "train")} == used


def test_photographs_are_seen_at_the_size_that_the_sae_was_trained_on(photographs, tmp_path):
    model = save_model("dinov2", tmp_path / "model")
    run, new = tmp_path / "run", tmp_path / "new"
    features = ["--backbone", model, "--layer", "2", "--workers", "0"]
    source = collection(tmp_path / "images")
    assert run_command("extract", source, "--out", run, *features) == 0
    own = json.loads((run / "steps.json").read_text())["extract"]
    assert run_command("extract", source, "--out", run, *features, "--image-size", "56") == 0
    again = json.loads((run / "steps.json").read_text())["extract"]
    assert again["options"] == {**own["options"], "image-size": 56}
    made = own.keys() - {"options", "sha256"}
    assert {key: again[key] for key in made} == {key: own[key] for key in made}, "the model's own: not done again"
    larger = [*features, "--image-size", "112", *SMALL[2:], *QUICK[2:]]
    assert run_command("run", source, "--out", run, *larger) == 0
    assert json.loads((run / "steps.json").read_text())["extract"]["counts"]["n_patches"] == 14 * 64
    assert run_command("predict", photographs, "--out", new, *given(run), *QUICK) == 0
    sizes = [SAE.from_pretrained(folder / "sae").config.backbone.framing.size for folder in (run, new)]
    assert sizes == [(112, 112), (112, 112)]
    assert json.loads((new / "steps.json").read_text())["extract"]["counts"]["n_patches"] == 4 * 64


def test_the_backbone_of_a_release_may_lie_in_any_folder_with_the_same_weights(
    photographs, tmp_path, capsys, monkeypatch
):
    model, run = save_model("dinov2", tmp_path / "vit"), tmp_path / "run"
    features = ["--backbone", model, "--layer", "2", "--image-size", "56", "--framing", "crop"]
    assert run_command("run", collection(tmp_path / "images"), "--out", run, *features, *SMALL[2:], *QUICK) == 0
    stage_saes(run / "sae", tmp_path / "published")
    moved = model.rename(tmp_path / "elsewhere")
    others = save_model("dinov2", tmp_path / "others" / "vit", seed=1)
    of_release = ["--latents", run / "dataset", "--sae", tmp_path / "published", *QUICK]

    def predict(out, *options):
        capsys.readouterr()
        code = run_command("predict", photographs, "--out", tmp_path / out, *of_release, *options)
        return code, capsys.readouterr().err.strip().splitlines()[-1]

    code, error = predict("new")
    assert code == 1
    assert "folder vit does not exist, and its weights (sha256:" in error
    assert "--backbone FOLDER" in error
    code, error = predict("new", "--backbone", others)
    assert code == 1
    assert f"{others} has revision sha256:" in error
    assert predict("new", "--backbone", moved)[0] == 0
    said = ["--latents", run / "dataset", "--sae", tmp_path / "published", "--backbone", moved, *QUICK]
    assert run_command("run", photographs, "--no-labels", "--out", tmp_path / "long", *said) == 0
    (tmp_path / "vit").symlink_to(moved)
    monkeypatch.chdir(tmp_path)
    assert predict("named")[0] == 0
    traits = [(tmp_path / out / "traits" / "traits.parquet").read_bytes() for out in ("new", "long", "named")]
    assert traits[0] == traits[1] == traits[2]
    again = SAE.from_pretrained(tmp_path / "new" / "sae").config.backbone
    assert (again.layer, again.framing.size, again.framing.mode) == (2, (56, 56), "crop")


def test_what_the_run_of_the_dataset_learnt_of_backgrounds_holds_for_new_photographs(
    finished, photographs, tmp_path, capsys
):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    d_model = SAE.from_pretrained(run / "sae").config.d_model
    a_quarter = Background(np.zeros(d_model, np.float32), -math.log(3), 0.9)
    a_quarter.save(run / "background.safetensors")
    latents = ["--latents", run / "dataset"]

    def backgrounds(*options):
        assert run_command("predict", photographs, "--out", tmp_path / "new", *latents, *QUICK, *options) == 0
        traits = list(read_traits(tmp_path / "new" / "traits" / "traits.parquet"))
        assert traits
        return list({trait.candidate.background for trait in traits})

    assert backgrounds("--sae", run / "sae") == pytest.approx([0.25], abs=0.003)
    Background(a_quarter.weights, math.log(2 / 3), 0.9).save(run / "background.safetensors")
    assert backgrounds("--sae", run / "sae") == pytest.approx([0.4], abs=0.003), "the codes are of the former"
    assert backgrounds("--sae", run / "sae", "--background", "off") == [None]
    other = SAE.from_pretrained(run / "sae")
    other.W_enc.data[0, 0] += 1
    other.save_pretrained(run / "sae")
    assert backgrounds("--sae", finished / "sae", "--background", "auto") == [None]
    assert "has another SAE than its dataset" in capsys.readouterr().err


def test_the_card_says_so_and_names_no_place_on_this_machine(described, finished):
    card = (described / "dataset" / "README.md").read_text()
    assert "No label of these images was used" in card
    assert "images that came without labels" in " ".join(card.split())
    assert "come from the train split alone" not in card
    assert str(finished) not in card
    assert "firing" not in card.split("Contrast</summary>")[1].split("</details>")[0]
    assert "No label of these" not in (finished / "dataset" / "README.md").read_text()


def test_what_cannot_be_used_is_in_problems_and_the_report_leaves_the_species_out(described):
    with (described / "problems.csv").open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["sub/broken.jpg"]
    results = json.loads((described / "evaluation" / "results.json").read_text())
    assert results["tasks"]["text_quality"]["n_unlabelled"] == results["annotation"]["n_traits"] > 0
    assert results["tasks"]["text_quality"]["agreement"] == []
    report = (described / "evaluation" / "report.md").read_text()
    assert "descriptions are of photographs without a label" in report
    assert "species' own name is in" not in report


def test_the_same_command_again_does_nothing_and_another_describes_anew(
    described, photographs, finished, tmp_path, capsys
):
    run = Path(shutil.copytree(described, tmp_path / "run"))
    before = (run / "dataset" / "README.md").read_bytes(), (run / "steps.json").read_bytes()
    assert run_command("predict", photographs, "--out", run, *given(finished), *QUICK) == 0
    captured = capsys.readouterr()
    assert captured.err.count("skipped") == 8
    assert "4 without labels; 1 problems" in captured.out
    assert ((run / "dataset" / "README.md").read_bytes(), (run / "steps.json").read_bytes()) == before
    assert run_command("annotate", run, "--traits-per-image", "1") == 0
    assert len(list(read_traits(run / "traits" / "traits.parquet"))) == 4
    assert run_command("latents", run) == 0


def test_latents_and_sae_must_belong_together(finished, photographs, tmp_path, capsys):
    def fails(code, *arguments, words):
        assert run_command(*arguments, "--out", tmp_path / "run") == code
        error = capsys.readouterr().err
        assert all(word in error for word in words), error

    other = Path(shutil.copytree(finished / "sae", tmp_path / "other"))
    sae = SAE.from_pretrained(other)
    sae.W_enc.data[0, 0] += 1
    sae.save_pretrained(other)
    latents = ["--latents", finished / "dataset"]
    fails(1, "predict", photographs, *latents, "--sae", other, words=["are those of the SAE local@sha256:", "other"])
    alone = shutil.copytree(finished / "dataset", tmp_path / "alone" / "dataset")
    fails(2, "predict", photographs, "--latents", alone, words=["not on the Hub, and", "say with --sae where it is"])
    fails(2, "predict", photographs, words=["--latents DATASET"])
    fails(1, "predict", photographs, "--latents", finished, words=["is not a dataset", "run/dataset"])
    fails(2, "run", photographs, *latents, words=["--latents needs --sae"])
    assert not (tmp_path / "run" / "activations").exists()


def annotated(finished, folder, rename, *options):
    """A copy of the finished run with other labels of validation and test, annotated anew."""
    run = Path(shutil.copytree(finished, folder))
    old = Collection.load(run / "images.parquet")
    records = [
        one if one.split == "train" else replace(one, taxon=Taxon(genus="Fictus", species=rename(one.species)))
        for one in old.images
    ]
    collected(replace(old, images=tuple(records)), run)
    assert run_command("annotate", run, "--describer-workers", "1", *options) == 0
    return run


def traits_of(run):
    """What was said of each trait, by the split that its image's name stands for."""
    found = {"train": set(), "held out": set()}
    for trait in read_traits(run / "traits" / "traits.parquet"):
        split = "held out" if trait.trait_id[1] in "56" else "train"
        found[split].add((trait.trait_id, trait.candidate.contrast, trait.description))
    return found


def test_a_label_free_run_describes_held_out_images_without_their_labels(finished, tmp_path):
    first, second = COLOURS

    def exchange(species):
        return first if species == second else second

    run = annotated(finished, tmp_path / "truth", lambda species: species, "--label-free")
    exchanged = annotated(finished, tmp_path / "exchanged", exchange, "--label-free")
    unheard = annotated(finished, tmp_path / "unheard", lambda species: "Fictus novus", "--label-free")
    assert traits_of(run) == traits_of(exchanged) == traits_of(unheard)
    assert traits_of(run)["held out"]
    believed = traits_of(annotated(finished, tmp_path / "believed", exchange))
    assert believed["train"] == traits_of(run)["train"]
    assert believed["held out"] != traits_of(run)["held out"]
    card = (run / "dataset" / "README.md").read_text()
    assert "Images of validation and test were described as if they had no labels" in card
    assert "--label-free" in card
    assert {row["species"] for row in rows_of(run / "dataset", "default", tmp_path)} <= {*COLOURS}


def test_what_a_label_free_description_must_not_be_told_is_refused(finished, capsys):
    naming = ["--describer", "server", "--describer-model", "m", "--name-species"]
    for options in (["--label-free"], ["--latents", "museum/traits"]):
        assert run_command("annotate", finished, *options, *naming) == 2
        assert "--name-species would tell the describer the labels" in capsys.readouterr().err
    assert run_command("annotate", finished, "--label-free", "--latents", "museum/traits") == 2
    assert "adds nothing" in capsys.readouterr().err
    assert run_command("annotate", finished, "--latents-revision", "main") == 2
    assert "--latents-revision is an option of --contrast released" in capsys.readouterr().err


def publish(hub, finished, folder):
    """The SAE and the dataset of a run on the Hub, the dataset naming the SAE's commit; the commits of both."""
    client = HfApi(endpoint=hub.url, token=hub.token)
    client.create_repo("museum/sae")
    sae = client.upload_folder(repo_id="museum/sae", folder_path=finished / "sae").oid
    dataset = Path(shutil.copytree(finished / "dataset", folder))
    for file in (dataset / "data" / "latents").glob("*.parquet"):
        table = pq.read_table(file)
        names = pa.array([f"museum/sae@{sae}"] * len(table))
        pq.write_table(table.set_column(table.schema.get_field_index("sae"), "sae", names), file)
    client.create_repo("museum/traits", repo_type="dataset")
    return sae, client.upload_folder(repo_id="museum/traits", repo_type="dataset", folder_path=dataset).oid


def predict_from_hub(photographs, out, environment):
    """`sae-traits predict` in a process of its own."""
    command = [sys.executable, "-m", "sae_traits.cli", "predict", photographs, "--out", out]
    command += ["--latents", "museum/traits", *QUICK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_dataset_of_the_hub_brings_its_sae_and_both_commits_are_kept(
    hub, hub_environment, finished, photographs, described, tmp_path
):
    sae, dataset = publish(hub, finished, tmp_path / "dataset")
    predict_from_hub(photographs, tmp_path / "run", hub_environment)
    options = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (options["train"]["sae"], options["train"]["revision"]) == ("museum/sae", sae)
    assert options["regions"]["contrast"]["revision"] == dataset
    card = (tmp_path / "run" / "dataset" / "README.md").read_text()
    assert sae in card
    assert dataset in card
    found, expected = (list(read_traits(run / "traits" / "traits.parquet")) for run in (tmp_path / "run", described))
    assert found == expected


@pytest.mark.slow
def test_what_came_from_the_hub_is_not_needed_again(hub, hub_environment, finished, photographs, tmp_path):
    publish(hub, finished, tmp_path / "dataset")
    predict_from_hub(photographs, tmp_path / "run", hub_environment)
    offline = hub_environment | {"HF_HUB_OFFLINE": "1"}
    assert predict_from_hub(photographs, tmp_path / "run", offline).count("skipped") == 8
