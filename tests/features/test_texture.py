"""The backbone without weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from PIL import Image, ImageDraw

from sae_traits.config.features import Texture
from sae_traits.errors import BackboneError
from sae_traits.features.backbone import load_backbone, restore_backbone
from sae_traits.features.texture import describe, texture_info
from sae_traits.sae.extractor import Extractor
from sae_traits.schema import BackboneInfo


def noise(seed: int, side: int = 256) -> Image.Image:
    """A smooth random picture in colour."""
    small = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def test_it_needs_nothing_but_its_name_and_comes_back_from_its_record():
    backbone = load_backbone(Texture())
    assert backbone.info.layer == 0  # whatever the configuration says
    assert (backbone.info.rows, backbone.info.columns, backbone.info.patch) == (16, 16, 16)
    restored = restore_backbone(BackboneInfo.from_dict(backbone.info.to_dict()))
    features, grid = Extractor(backbone)(noise(0, side=320))
    assert features.shape == (256, backbone.info.d_model)
    assert len(grid.valid) == 256
    assert Extractor(restored)(noise(0, side=320))[0].equal(features)


def test_features_of_another_version_are_not_mixed_with_these():
    record = texture_info().to_dict() | {"revision": "0"}
    with pytest.raises(BackboneError, match="texture features than recorded: revision 1, not 0"):
        restore_backbone(BackboneInfo.from_dict(record))


@given(seed=integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_all_numbers_are_finite_and_of_comparable_size(seed):
    features = describe(np.asarray(noise(seed)))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 25


def test_where_a_patch_lies_does_not_matter():
    flat = describe(np.full((256, 256, 3), (180, 90, 40), dtype=np.uint8))
    np.testing.assert_allclose(flat, np.broadcast_to(flat[0], flat.shape), atol=1e-5)

    spot = Image.new("RGB", (256, 256), "beige")
    ImageDraw.Draw(spot).ellipse((104, 104, 120, 120), fill="black")
    moved = Image.new("RGB", (256, 256), "beige")
    ImageDraw.Draw(moved).ellipse((136, 120, 152, 136), fill="black")  # two patches right, one down
    before = describe(np.asarray(spot)).reshape(16, 16, -1)
    after = describe(np.asarray(moved)).reshape(16, 16, -1)
    np.testing.assert_allclose(after[5:12, 6:13], before[4:11, 4:11], atol=2e-3)


def test_a_spotted_wing_differs_from_a_plain_and_from_a_banded_one():
    plain, spotted, banded = (Image.new("RGB", (256, 256), "white") for _ in range(3))
    for image in (plain, spotted, banded):
        ImageDraw.Draw(image).rectangle((64, 64, 192, 192), fill="orange")
    for x in range(72, 192, 16):
        ImageDraw.Draw(banded).rectangle((x, 64, x + 7, 192), fill="black")
        for y in range(72, 192, 16):
            ImageDraw.Draw(spotted).ellipse((x, y, x + 8, y + 8), fill="black")
    middle = [describe(np.asarray(image)).reshape(16, 16, -1)[7, 7] for image in (plain, spotted, banded)]
    ground = describe(np.asarray(plain)).reshape(16, 16, -1)[0, 0]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(middle[one] - middle[other]) > 3
    assert np.linalg.norm(middle[0] - ground) > 3


@pytest.mark.parametrize("framing", ["squash", "crop", "letterbox"])
def test_images_are_framed_as_the_user_wants(framing):
    backbone = load_backbone(Texture(), framing=framing)
    features, grid = Extractor(backbone)(noise(1).resize((300, 150)))
    assert backbone.info.framing.mode == framing
    assert len(features) == (128 if framing == "letterbox" else 256) == len(grid.valid)
    assert restore_backbone(backbone.info).info == backbone.info
