"""An SAE over a backbone in a folder of this machine: others can use what is published, or are told what they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_releases import PROVENANCE, odd_photographs

from sae_traits import SAE, SAEConfig
from sae_traits.release.publication import published_backbone, stage_saes, warnings_of
from sae_traits.schema import BackboneInfo

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SNAPSHOT = f"/home/ann/.cache/huggingface/hub/models--org--some-vit/snapshots/{COMMIT}"
WEIGHTS = "sha256:" + "ab" * 32


def backbone(name: str, revision: str = WEIGHTS) -> BackboneInfo:
    return replace(PROVENANCE.backbone, backbone=name, revision=revision)


@pytest.mark.parametrize(
    ("name", "revision", "public"),
    [
        ("/home/ann/models/vit", WEIGHTS, ("vit", WEIGHTS)),
        (SNAPSHOT, WEIGHTS, ("org/some-vit", COMMIT)),
        ("facebook/dinov2-base", COMMIT, ("facebook/dinov2-base", COMMIT)),
        ("texture", "texture-1", ("texture", "texture-1")),
    ],
)
def test_a_backbone_is_named_by_what_others_can_find(tmp_path: Path, name: str, revision: str, public: tuple[str, str]):
    info = backbone(name, revision)
    found = published_backbone(info)
    assert (found.backbone, found.revision) == public
    config = SAEConfig(
        architecture="topk", d_model=info.d_model, n_latents=8, k=2, backbone=info,
        training={"metrics": {"monosemanticity": {"embedding": f"{name}, layer 3"}}},
    )  # fmt: skip
    SAE.from_config(config, seed=0).save_pretrained(tmp_path / "sae")
    stage_saes(tmp_path / "sae", tmp_path / "staged")
    staged = SAE.from_pretrained(tmp_path / "staged").config
    assert staged.backbone == found
    assert staged.training["metrics"]["monosemanticity"]["embedding"] == f"{public[0]}, layer 3"
    assert "/home/" not in (tmp_path / "staged" / "config.json").read_text()


def test_a_publisher_is_told_of_a_backbone_that_readers_cannot_fetch(tmp_path: Path):
    collection = odd_photographs(tmp_path, lambda name: None)
    (warning,) = warnings_of(collection, backbone("/home/ann/models/vit"), embeds_images=True)
    assert "/home/ann/models/vit is a folder of this machine" in warning
    assert f"published as 'vit': readers need a copy of it, with the weights {WEIGHTS}" in warning
    assert "predict --backbone FOLDER and load_extractor" in warning
    for name in (SNAPSHOT, "facebook/dinov2-base", "texture"):
        assert warnings_of(collection, backbone(name), embeds_images=True) == []
    unlicensed = replace(collection, images=tuple(replace(image, license=None) for image in collection.images))
    assert len(warnings_of(unlicensed, backbone("/home/ann/models/vit"), embeds_images=True)) == 2
