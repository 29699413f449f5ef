"""A model on images of another size than its own: the same as in transformers, and what cannot be is refused."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from PIL import Image
from tiny_models import KINDS, PREPROCESSOR, SIDE, save_model

from sae_traits.config.features import VisionModel
from sae_traits.errors import BackboneError, ConfigError
from sae_traits.features.backbone import Backbone, load_backbone, restore_backbone
from sae_traits.features.estimate import flops_per_image
from sae_traits.features.gradcam import load_gradcam
from sae_traits.features.preprocessing import with_image_size
from sae_traits.geometry import Framing
from sae_traits.sae.extractor import Extractor
from sae_traits.schema import BackboneInfo

LAYER = 2
RANDOM = torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(kind, root / kind) for kind in ("dinov2", "dinov3", "clip", "siglip", "vit", "mobilenet")}


def loaded(folder: Path, image_size: int | None, **more: Any) -> Backbone:
    return load_backbone(VisionModel(model=str(folder), layer=LAYER, image_size=image_size), device="cpu", **more)


def states_in_transformers(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    """The hidden state of the vision model at the size of the pixels, as its own options say."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    tower = getattr(model, "vision_model", model)
    told = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
    options = {"interpolate_pos_encoding": True} if told else {}
    with torch.no_grad():
        return tower(pixel_values=pixels, output_hidden_states=True, **options).hidden_states[LAYER]


@pytest.mark.parametrize("kind", ["dinov2", "dinov3", "clip", "siglip", "vit", "mobilenet"])
def test_images_of_twice_the_size_give_four_times_the_patches_as_in_transformers(folders, kind):
    own, twice = loaded(folders[kind], None), loaded(folders[kind], 2 * SIDE)
    assert (twice.info.rows, twice.info.columns) == (2 * own.info.rows, 2 * own.info.columns)
    assert twice.info.framing.size == (2 * SIDE, 2 * SIDE)
    assert twice.info.d_model == own.info.d_model
    pixels = torch.randn(2, 3, 2 * SIDE, 2 * SIDE, generator=RANDOM)
    expected = states_in_transformers(folders[kind], pixels)
    n_patches = twice.info.rows * twice.info.columns
    expected = expected.flatten(2).transpose(1, 2) if expected.dim() == 4 else expected[:, -n_patches:]
    torch.testing.assert_close(twice.encode(pixels), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["dinov2", "clip", "mobilenet"])
def test_the_size_is_restored_from_what_was_recorded(folders, kind):
    backbone = loaded(folders[kind], 2 * SIDE, framing="letterbox")
    recorded = BackboneInfo.from_dict(json.loads(json.dumps(backbone.info.to_dict())))
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    restored = restore_backbone(recorded, device="cpu")
    assert restored.info == backbone.info
    assert torch.equal(Extractor(restored)(image)[0], Extractor(backbone)(image)[0])


def test_the_models_own_size_changes_nothing_that_is_recorded(folders):
    assert loaded(folders["clip"], SIDE).info == loaded(folders["clip"], None).info


def test_a_larger_square_shows_as_much_of_an_image(folders):
    cropped = Framing(mode="crop", size=(224, 224), shortest_side=256)
    assert with_image_size(cropped, None) == cropped
    assert with_image_size(cropped, 448) == Framing(mode="crop", size=(448, 448), shortest_side=512)
    squashed = Framing(mode="squash", size=(240, 224), resample="bilinear")
    assert with_image_size(squashed, 448) == Framing(mode="squash", size=(448, 448), resample="bilinear")
    for framing, shortest in (("crop", 128), ("letterbox", None), ("squash", None)):
        info = loaded(folders["dinov2"], 2 * SIDE, framing=framing).info
        assert (info.framing.mode, info.framing.shortest_side) == (framing, shortest)
    own, twice = (loaded(folders["dinov2"], size).info.grid((300, 200)) for size in (None, 2 * SIDE))
    assert own.box(0)[:2] == pytest.approx(twice.box(0)[:2], abs=200 / SIDE)  # to a pixel of the smaller input
    assert own.box(own.n_patches - 1)[0] < twice.box(twice.n_patches - 1)[0]


def test_a_patch_of_the_larger_grid_sees_the_pixels_it_is_made_of(folders):
    backbone = loaded(folders["clip"], 2 * SIDE, framing="squash")
    plain = Image.new("RGB", (230, 110), "white")
    for patch in (0, 7, 29, 63):
        x, y, width, height = backbone.info.grid(plain.size).box(patch)
        marked = plain.copy()
        marked.paste("black", (round(x + 3), round(y + 3), round(x + width - 3), round(y + height - 3)))
        before, _ = Extractor(backbone)(plain)
        after, _ = Extractor(backbone)(marked)
        assert (after - before).norm(dim=1).argmax() == patch


def test_the_estimate_counts_the_larger_images(folders):
    own, twice = (flops_per_image(loaded(folders["mobilenet"], size)) for size in (None, 2 * SIDE))
    assert 3.5 * own < twice < 4.5 * own


@pytest.mark.parametrize("kind", ["vit", "siglip", "resnet"])
def test_class_maps_lie_on_the_same_patches(kind, tmp_path):
    save_model(kind, tmp_path)
    config = KINDS[kind].config()
    hf.AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    info = loaded(tmp_path, 2 * SIDE).info
    (class_map,) = load_gradcam(info, torch.device("cpu"))(torch.randn(1, 3, 2 * SIDE, 2 * SIDE, generator=RANDOM))
    assert class_map.values.shape == (info.rows * info.columns,)


def test_a_size_that_would_cut_patches_is_refused_with_the_nearest_that_do_not(folders):
    with pytest.raises(BackboneError, match=r"clip has patches of 14 pixels, .* 100 is no multiple; .* 98 or 112$"):
        loaded(folders["clip"], 100)
    with pytest.raises(BackboneError, match=r"patches of 14 pixels, of which 10 is no multiple; .*--image-size 14$"):
        loaded(folders["dinov2"], 10)
    with pytest.raises(BackboneError, match=r"mobilenet at layer 2 has patches of \d+ pixels, of which 110 is no"):
        loaded(folders["mobilenet"], 110)
    with pytest.raises(ConfigError, match="image_size must be 1 or more, not 0"):
        VisionModel(image_size=0)


def test_a_model_that_cannot_see_other_sizes_is_refused_with_those_that_it_can_see(tmp_path):
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = hf.Aimv2VisionConfig(**small, image_size=SIDE, patch_size=14)
    hf.Aimv2VisionModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    with pytest.raises(
        BackboneError, match=r"cannot run on 112 x 112 pixels \(.*\); choose --image-size 56$"
    ) as refused:
        loaded(tmp_path, 2 * SIDE)
    assert "\n" not in str(refused.value)
    assert loaded(tmp_path, SIDE).info.rows == 4
