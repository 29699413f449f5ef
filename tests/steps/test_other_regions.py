"""Regions of baselines, the whole way on drawn images: from the command to the dataset, and back to the SAE."""

import html
import shutil
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from datasets import load_dataset
from drawn_collections import some_of
from features.test_gradcam import save_classifier
from features.tiny_models import save_model

from sae_traits import SAE
from sae_traits.cli import main
from sae_traits.config.regions import Regions
from sae_traits.schema import Collection
from sae_traits.traits.codes import Codes
from sae_traits.traits.consistency import ConsistencyCounter
from sae_traits.traits.table import read_latents, read_traits
from sae_traits.vocabulary import REGION_SOURCES, RegionSource

SMALL = [
    "--n-latents", "128", "--k", "8", "--n-patches", "8000", "--batch-size", "512", "--workers", "0",
    "--describer-workers", "1", "--longest-side", "64", "--layer", "2", "--traits-per-image", "2",
]  # fmt: skip
NO_CONTRAST = ("latent", "sae", "f_species", "f_reference", "effect", "q_value", "significant", "reference_rank")


@pytest.fixture(scope="module")
def drawn(whole_drawn, tmp_path_factory):
    """Nine drawn species, two images each."""
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    return some_of(whole_drawn, folder, n_species=9, images_per_species=2)


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    """A finished run of the SAE, on features of a small random classifier."""
    folder = tmp_path_factory.mktemp("runs")
    save_classifier("resnet", folder / "classifier")
    command = ["run", str(drawn), "--out", str(folder / "run"), "--backbone", str(folder / "classifier"), *SMALL]
    assert main(command) == 0
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module", params=["gradcam", "whole"])
def without_latents(request, finished, tmp_path_factory):
    """A kind of regions without latents, and a copy of the finished run annotated with it; not to be changed."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp(request.param) / "run"))
    assert annotate(folder, request.param) == 0
    return request.param, folder


def annotate(run, regions):
    return main(["annotate", str(run), "--regions", regions, "--format", "json"])


def rows_of(run):
    """All rows of the dataset's default config, without the images."""
    splits = load_dataset(str(run / "dataset"), cache_dir=str(run / "cache"))
    return [row for split in splits.values() for row in split.remove_columns("image")]


def files(path):
    """The content of a file, or of every file below a folder."""
    inside = [path] if path.is_file() else [one for one in sorted(path.rglob("*")) if one.is_file()]
    return {str(one.relative_to(path)): one.read_bytes() for one in inside}


def test_the_option_names_what_the_schema_names_and_describes():
    assert tuple(regions.kind for regions in get_args(Regions)) == get_args(RegionSource) == tuple(REGION_SOURCES)


def test_a_baseline_goes_the_same_way_as_the_sae_and_says_that_it_is_none(run, capsys):
    sae, before = files(run / "sae"), {trait.trait_id for trait in read_traits(run / "traits/traits.parquet")}
    assert annotate(run, "pca") == 0
    pca = SAE.from_pretrained(run / "baselines/pca")
    assert pca.config.n_latents == 2 * pca.config.d_model  # fewer than 128, because PCA cannot have more
    assert pca.config.training["method"] == "pca"
    assert 0.99 < pca.config.training["metrics"]["explained_variance"] <= 1
    assert not list((run / "sae/figures").glob("latent-*"))  # the codes are not those of the SAE
    assert files(run / "sae")["model.safetensors"] == sae["model.safetensors"]
    rows = rows_of(run)
    assert {row["region_source"] for row in rows} == {"pca"}
    assert {row["sae"].partition("@")[0] for row in rows} == {"pca"}
    assert all(0 <= row["latent"] < pca.config.n_latents and row["effect"] > 0 for row in rows)
    assert before.isdisjoint(row["trait_id"] for row in rows)
    assert {latent.latent for latent in read_latents(run / "traits/latents.parquet")} == {row["latent"] for row in rows}
    card = (run / "dataset/README.md").read_text()
    assert "baseline, not of a sparse autoencoder" in card
    assert "principal components" in card
    assert "coded by a sparse autoencoder" not in card
    assert main(["latents", str(run), "0", "--strongest", "1"]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert "Regions: principal components" in (run / "evaluation/report.md").read_text()
    assert "of a baseline's regions, pca" in "".join(summary_lines(run, capsys))


def summary_lines(run, capsys):
    capsys.readouterr()
    assert main(["annotate", str(run)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_going_back_to_the_sae_gives_the_same_dataset_and_keeps_the_baselines(run, finished, capsys):
    ledger = (run / "traits/ledger.sqlite").read_bytes()
    for regions in ("random", "sae"):
        assert annotate(run, regions) == 0
    assert (run / "traits/ledger.sqlite").read_bytes() == ledger  # no call of a baseline is in it
    for part in ("dataset/data", "traits/traits.parquet", "codes"):
        assert files(run / part) == files(finished / part), part
    weights = (run / "baselines/random/model.safetensors").stat().st_mtime_ns
    assert annotate(run, "random") == 0
    assert (run / "baselines/random/model.safetensors").stat().st_mtime_ns == weights  # fitted once
    assert "encode: complete" not in capsys.readouterr().err  # codes are made again for other regions


def test_regions_without_latents_have_no_contrast_and_one_region_an_image(without_latents):
    regions, run = without_latents
    rows = rows_of(run)
    assert {row["region_source"] for row in rows} == {regions}
    assert all(row[column] is None for row in rows for column in NO_CONTRAST)
    assert all(row["text"] and row["species"] and len(row["box"]) == 4 for row in rows)
    assert [row["trait_id"] for row in rows] == [f"{row['image_id']}-{regions}" for row in rows]
    assert len({row["image_id"] for row in rows}) == len(rows) > 9
    assert regions != "whole" or len(rows) == 18
    assert not (run / "dataset/data/latents").exists()
    assert read_latents(run / "traits/latents.parquet") == []
    card = (run / "dataset/README.md").read_text()
    assert REGION_SOURCES[regions].partition(";")[0].replace("'", "&#39;") in card
    assert "significant traits" not in card
    assert "None" not in card


def test_regions_without_latents_are_evaluated_and_have_no_pages_of_latents(without_latents, capsys):
    regions, run = without_latents
    assert main(["evaluate", str(run)]) == 0
    assert f"Regions: {REGION_SOURCES[regions]}." in html.unescape((run / "evaluation/report.md").read_text())
    capsys.readouterr()
    assert main(["latents", str(run)]) == 2
    assert "has no latents; annotate with other --regions first" in capsys.readouterr().err


def test_a_baseline_is_not_published_as_the_sae(without_latents, capsys):
    regions, run = without_latents
    assert main(["publish", str(run), "--model-repo", "a/b", "--dataset-repo", "a/c", "--dry-run"]) == 1
    assert f"has regions of a baseline (--regions {regions})" in capsys.readouterr().err


def test_the_images_of_a_species_are_compared_without_latents(without_latents):
    _, run = without_latents
    collection = Collection.load(run / "images.parquet")
    traits = list(read_traits(run / "traits/traits.parquet"))
    described = Counter(collection.images[trait.candidate.image].species for trait in traits)
    counter = ConsistencyCounter(collection.images)
    for trait in traits:
        counter.add(trait, collection.images[trait.candidate.image])
    (colour,) = [found for found in counter.agreement() if found.facet == "colour"]
    assert colour.n_pairs == sum(n == 2 for n in described.values())  # two images of each species were drawn


def test_grad_cam_of_a_backbone_without_a_classifier_is_refused_before_anything_is_done(drawn, tmp_path, capsys):
    command = ["run", str(drawn), "--out", str(tmp_path / "run"), "--backbone", "texture", "--regions", "gradcam"]
    assert main(command) == 1
    assert "texture has no classifier" in capsys.readouterr().err
    assert not (tmp_path / "run/images.parquet").exists()


def test_an_unknown_kind_of_regions_is_a_usage_error(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        annotate(run, "kmeans")
    assert "did you mean k_means?" in capsys.readouterr().err


def test_a_refused_kind_of_regions_leaves_the_run_as_it_was(drawn, tmp_path, capsys):
    headless, run = save_model("resnet", tmp_path / "headless"), tmp_path / "run"
    features = ["--backbone", str(headless), "--layer", "2", "--workers", "0"]
    assert main(["extract", str(drawn), "--out", str(run), *features]) == 0
    assert main(["train", str(run), "--n-latents", "64", "--n-patches", "2000", "--batch-size", "512"]) == 0
    before = files(run)
    assert annotate(run, "gradcam") == 1
    assert "hold no classifier" in capsys.readouterr().err
    assert files(run) == before


def test_the_papers_contrast_keeps_what_fires_above_its_threshold(run):
    n_fired = {}
    for threshold in (0.25, 0.5):
        arguments = ["--contrast", "paper", "--firing-threshold", str(threshold), "--format", "json"]
        assert main(["annotate", str(run), *arguments]) == 0
        codes = Codes.open(run / "codes")
        values = np.concatenate([image.values for image in codes.images()])
        assert set(codes.thresholds.tolist()) == {threshold}
        assert values.min() > threshold
        n_fired[threshold] = len(values)
    assert n_fired[0.5] < n_fired[0.25]
