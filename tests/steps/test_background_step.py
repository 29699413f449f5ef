"""Background in a run: learnt or read off masks by `encode`, and said by traits, latents and the dataset."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from features.tiny_models import save_model
from steps.small_runs import SMALL

from sae_traits.cli import main
from sae_traits.images.decode import open_mask
from sae_traits.schema import Collection
from sae_traits.traits.chosen import MAX_BACKGROUND
from sae_traits.traits.codes import Codes
from sae_traits.traits.released_latents import read_released_latents
from sae_traits.traits.table import read_latents, read_traits


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """A run whose regions keep to the masks."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "run"))
    assert main(["annotate", str(folder), "--background", "masks"]) == 0
    return folder


def encoded(run):
    return json.loads((run / "steps.json").read_text())["encode"]["counts"]


def test_masks_say_what_is_background(run):
    collection, codes = Collection.load(run / "images.parquet"), Codes.open(run / "codes")
    assert encoded(run)["background"] == "masks"
    assert not (run / "background.safetensors").exists()
    for found in codes.images():
        mask = collection.mask_path(collection.images[found.image])
        assert mask is not None
        assert found.background is not None
        assert np.nanmean(found.background) == pytest.approx(1 - open_mask(mask).mean(), abs=0.02)


def test_the_card_says_that_masks_had_a_say_and_how_many_latents_were_left_out_for_it(run):
    counts = json.loads((run / "steps.json").read_text())["annotate"]["counts"]
    n_left_out = sum("on background" in reason for reason in counts["dropped_latents"])
    card = (run / "dataset" / "README.md").read_text()
    assert "What lies outside the masks of the collection is background (--background masks)." in card
    assert f"because they fire on background: {n_left_out} of {encoded(run)['n_latents_used']}." in card
    told = {latent.species for latent in read_latents(run / "traits/latents.parquet") if latent.contrast.significant}
    untold = {*counts["species_too_few"], *counts["species_none_passed"]}
    assert not told & untold
    assert set(counts["species_only_on_background"]) <= untold


def test_rows_and_latents_say_how_probably_they_are_background(run):
    traits, latents = list(read_traits(run / "traits" / "traits.parquet")), read_latents(run / "traits/latents.parquet")
    assert traits
    assert all(trait.candidate.background is not None for trait in traits)
    assert all(choice.background is not None and choice.background <= MAX_BACKGROUND for choice in latents)
    assert len({choice.usual_place for choice in latents}) > 2  # and where on the organism they fire
    assert None not in {choice.usual_place for choice in latents}
    kept = read_released_latents(str(run / "dataset")).choices
    assert {z: choice.usual_place for z, choice in kept.items()} == {c.latent: c.usual_place for c in latents}
    rows = [row for split in load_dataset(str(run / "dataset"), cache_dir=str(run / "cache")).values() for row in split]
    shares = {trait.trait_id: trait.candidate.background for trait in traits}
    assert {row["trait_id"]: row["background"] for row in rows} == pytest.approx(shares)


@pytest.mark.slow
def test_background_that_is_learnt_or_off_is_another_encoding(run, capsys):
    assert main(["annotate", str(run), "--background", "auto"]) == 0
    assert (run / "background.safetensors").is_file()
    learnt = Codes.open(run / "codes").backgrounds
    assert bool(learnt) == (encoded(run)["background"] == "auto")
    assert ("told apart with an AUC" in capsys.readouterr().err) == bool(learnt)
    assert main(["annotate", str(run), "--background", "off"]) == 0
    assert Codes.open(run / "codes").backgrounds == ()
    assert all(trait.candidate.background is None for trait in read_traits(run / "traits" / "traits.parquet"))


def test_masks_that_no_image_has_are_refused_in_a_line(drawn, tmp_path: Path, capsys):
    folder = tmp_path / "photographs"
    for number, path in enumerate(sorted((drawn / "images").rglob("*.png"))[:8]):
        place = folder / ("Aus bus" if number % 2 else "Cus dus") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    assert main(["run", str(folder), "--out", str(tmp_path / "run"), "--background", "masks", *SMALL]) == 2
    assert "no image of the collection has a mask" in capsys.readouterr().err


@pytest.mark.slow
def test_features_whose_backbone_is_gone_say_how_to_go_on(drawn, tmp_path: Path, capsys):
    backbone = save_model("dinov2", tmp_path / "backbone")
    folder = tmp_path / "run"
    command = ["extract", str(drawn), "--out", str(folder), "--backbone", str(backbone), "--layer", "1"]
    assert main([*command, "--workers", "0"]) == 0
    assert main(["train", str(folder), *SMALL[2:10]]) == 0
    shutil.rmtree(backbone)
    capsys.readouterr()
    assert main(["annotate", str(folder), "--traits-per-image", "2"]) == 1
    assert "--background off" in capsys.readouterr().err
    few = ["--traits-per-image", "2", "--describer-workers", "1", "--no-significant-only"]
    assert main(["annotate", str(folder), *few, "--background", "off"]) == 0
