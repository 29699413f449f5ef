"""What a whole run does once: how often it opens photographs, plans regions, contrasts species and loads weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from counted_calls import counting_calls
from drawn_collections import some_of
from features.tiny_models import save_model
from opened_files import counting_opens

from sae_traits.cli import main
from sae_traits.config.features import VisionModel
from sae_traits.errors import ImageError
from sae_traits.features.backbone import load_backbone
from sae_traits.images.decode import examine_image
from sae_traits.schema import Collection
from sae_traits.traits.contrast import specimen_contrast
from sae_traits.traits.plan import plan_regions

WEIGHTS = "model.safetensors"
SMALL = [
    "--n-latents", "64", "--k", "4", "--n-patches", "4000", "--batch-size", "256", "--layer", "2", "--workers", "0",
    "--describer-workers", "1", "--image-batch-size", "8",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(whole_drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine drawn species, two images each."""
    folder = tmp_path_factory.mktemp("counted") / "collection"
    return some_of(whole_drawn, folder, n_species=9, images_per_species=2)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random DINOv2."""
    return save_model("dinov2", tmp_path_factory.mktemp("model") / "dinov2")


def test_calls_are_counted_whatever_name_they_are_called_by(tmp_path: Path):
    called_otherwise = examine_image
    with counting_calls(examine_image, plan_regions) as n_calls:
        for _ in range(2):
            with pytest.raises(ImageError):
                called_otherwise(tmp_path / "no_such.png")
    assert n_calls == {"examine_image": 2, "plan_regions": 0}


def test_a_run_opens_each_photograph_four_times_and_plans_and_loads_once(images: Path, backbone: Path, tmp_path: Path):
    with counting_opens(backbone) as once:
        load_backbone(VisionModel(model=str(backbone), layer=2), framing="auto", device="cpu")
    command = ["run", str(images), "--out", str(tmp_path / "run"), "--backbone", str(backbone), *SMALL]
    with (
        counting_opens(images) as opened,
        counting_opens(backbone) as loaded,
        counting_calls(plan_regions, specimen_contrast) as n_calls,
    ):
        assert main([*command, "--longest-side", "64"]) == 0
    photographs = {record.file for record in Collection.load(tmp_path / "run" / "images.parquet").images}
    # To examine them with their hashes, for features, for descriptions, and to copy their bytes into the dataset.
    n_opened = {file: opened[file] for file in photographs}
    assert max(n_opened.values()) <= 4, n_opened
    # Once for all steps; the evaluation, as there are masks, for two baselines and with shuffled labels besides.
    assert n_calls == {"plan_regions": 4, "specimen_contrast": 4}
    assert loaded[WEIGHTS] == once[WEIGHTS] > 0


@pytest.mark.slow
def test_a_streamed_run_plans_once_and_loads_the_weights_once(images: Path, backbone: Path, tmp_path: Path):
    with counting_opens(backbone) as once:
        load_backbone(VisionModel(model=str(backbone), layer=2), framing="auto", device="cpu")
    command = ["run", str(images), "--out", str(tmp_path / "run"), "--backbone", str(backbone), *SMALL, "--stream"]
    with counting_opens(backbone) as loaded, counting_calls(plan_regions, specimen_contrast) as n_calls:
        assert main(command) == 0
    # For all steps, and by the evaluation with shuffled labels; baselines would run the backbone again.
    assert n_calls == {"plan_regions": 2, "specimen_contrast": 2}
    assert loaded[WEIGHTS] == once[WEIGHTS] > 0
