"""What the organism looks like, learnt by a run with labels, and what its regions make of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from steps.small_runs import SMALL, collected
from steps.test_sharded_steps import make

from sae_traits.cli import main
from sae_traits.features.background import Background
from sae_traits.features.store import FeatureStore
from sae_traits.schema import Collection
from sae_traits.traits.candidates import organism_odds
from sae_traits.traits.codes import Codes
from sae_traits.traits.table import read_latents, read_traits

COLOURS = {"Aus bus": (205, 60, 50), "Aus cus": (60, 70, 200), "Bus dus": (220, 200, 60)}
SIDE, RADIUS = 120, 26


def disc():
    y, x = np.mgrid[:SIDE, :SIDE]
    return (x - SIDE / 2) ** 2 + (y - SIDE / 2) ** 2 < RADIUS**2


def write_photographs(folder):
    """Discs, a colour per species, on grounds of any grey and green, and a table that names them."""
    generator = np.random.default_rng(5)
    rows = ["file,species"]
    for number, (name, colour) in enumerate(sorted(COLOURS.items()) * 30):
        ground = generator.uniform((60, 90, 60), (120, 170, 120))
        pixels = generator.normal(ground, 18, (SIDE, SIDE, 3))
        pixels[disc()] = generator.normal(colour, 18, (int(disc().sum()), 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{name}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


def run_of(folder):
    assert main(["run", str(folder / "metadata.csv"), "--out", str(folder / "run"), *SMALL]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("organism")
    write_photographs(folder)
    return run_of(folder)


def test_a_run_with_labels_learns_what_the_organism_looks_like_and_holds_regions_to_it(run):
    assert Background.open(run / "background.safetensors").organism is not None
    codes, records = Codes.open(run / "codes"), Collection.load(run / "images.parquet").images
    assert codes.knows_organism
    traits = list(read_traits(run / "traits" / "traits.parquet"))
    assert len({trait.candidate.image for trait in traits}) > 0.9 * len(records)
    odds = {found.image: organism_odds(found, 256) for found in codes.images()}
    for trait in traits:
        of_image = odds[trait.candidate.image]
        assert of_image[list(trait.candidate.patches)].min() >= 0.6 * of_image.max()
    grid = FeatureStore.open(run / "activations").info.grid((SIDE, SIDE))
    share = grid.patch_means(disc())
    assert np.mean([share[list(trait.candidate.patches)].mean() for trait in traits]) > 0.95
    assert share.mean() < 0.2


def test_two_species_of_a_genus_alone_are_compared_as_the_contrast_compared_them(run, capsys):
    assert main(["compare", str(run), "Aus bus", "Aus cus", "--format", "json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    chosen = read_latents(run / "traits" / "latents.parquet")
    of_contrast = {(one.species, one.latent): one.contrast.q_value for one in chosen}
    n_compared = 0
    for species, found in zip(compared["species"], compared["telling"], strict=True):
        for row in found:
            assert row["q_value"] == pytest.approx(of_contrast[species, row["latent"]], rel=1e-6)
            n_compared += 1
    assert n_compared > 1


def test_shards_learn_the_same(run, tmp_path):
    sharded = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(sharded / "codes")
    make(sharded, "encode", 2)
    files = [folder / "background.safetensors" for folder in (run, sharded)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert Codes.open(sharded / "codes").knows_organism
    for part in Codes.open(run / "codes").backgrounds:
        assert pq.read_table(run / "codes" / part).equals(pq.read_table(sharded / "codes" / part))


def test_other_labels_are_another_encoding_and_other_options_of_the_contrast_are_not(run, tmp_path):
    again = Path(shutil.copytree(run, tmp_path / "run"))
    before = (again / "background.safetensors").read_bytes()
    assert main(["annotate", str(again), "--max-species-share", "0.9"]) == 0
    assert (again / "background.safetensors").read_bytes() == before
    collection = Collection.load(again / "images.parquet")
    records = list(collection.images)
    others = [row for row, record in enumerate(records) if record.split == "train" and record.species == "Aus bus"][:8]
    for row in others:  # nothing else changes: neither features nor splits, nor which SAE is trained
        records[row] = replace(records[row], taxon=replace(records[row].taxon, species="Aus cus"))
    collected(replace(collection, images=tuple(records)), again)
    assert main(["annotate", str(again)]) == 0
    assert (again / "background.safetensors").read_bytes() != before
    assert Codes.open(again / "codes").knows_organism


def test_new_photographs_are_held_to_what_the_run_of_their_latents_learnt(run, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    ground = np.full((SIDE, SIDE, 3), (90, 130, 90), np.uint8)
    for number, (left, colour) in enumerate([(0, (205, 60, 50)), (SIDE // 3, (220, 200, 60))]):
        pixels = ground.copy()
        pixels[np.roll(disc(), left - SIDE // 6, axis=1)] = colour  # not in the middle
        Image.fromarray(pixels).save(new / f"{number}.png")
    latents = ["--latents", str(run / "dataset"), "--sae", str(run / "sae")]
    described = tmp_path / "described"
    assert main(["predict", str(new), "--out", str(described), *latents, "--workers", "0"]) == 0
    assert (described / "background.safetensors").read_bytes() == (run / "background.safetensors").read_bytes()
    codes = Codes.open(described / "codes")
    assert codes.knows_organism
    odds = {found.image: organism_odds(found, 256) for found in codes.images()}
    traits = list(read_traits(described / "traits" / "traits.parquet"))
    assert {trait.candidate.image for trait in traits} == {0, 1}
    for trait in traits:
        of_image = odds[trait.candidate.image]
        assert of_image[list(trait.candidate.patches)].min() >= 0.6 * of_image.max()


def test_algorithm_1_knows_no_organism(run, tmp_path):
    paper = Path(shutil.copytree(run, tmp_path / "run"))
    assert main(["annotate", str(paper), "--contrast", "paper"]) == 0
    assert Background.open(paper / "background.safetensors").organism is None
    assert not Codes.open(paper / "codes").knows_organism
