"""The zero-shot task with a real, if untrained, CLIP."""

import dataclasses
import hashlib

import numpy as np
import pytest
from clip_folders import make_open_clip_folder
from evaluation.made_results import made_evidence, section
from PIL import Image
from traits.made_traits import collection_of, described, trait_of

from sae_traits.config.zero_shot import ZeroShotConfig
from sae_traits.evaluation.report import render_report
from sae_traits.evaluation.results import Results, run_tasks
from sae_traits.evaluation.tasks import ZeroShot
from sae_traits.models.clip.model import load_clip
from sae_traits.schema import Taxon


@pytest.fixture
def evidence(tmp_path):
    """Two species with a training, a validation and a test image each, and traits of all of them."""
    make_open_clip_folder(tmp_path / "clip")
    collection = collection_of(["Aus bus", "Cus dus"] * 3, root=tmp_path)
    records = []
    for row, record in enumerate(collection.images):
        noise = np.random.default_rng(row).integers(0, 255, (record.height, record.width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / record.file)
        sha256 = hashlib.sha256((tmp_path / record.file).read_bytes()).hexdigest()
        split = ("train", "validation", "test")[row // 2]
        records.append(dataclasses.replace(record, sha256=sha256, split=split))
    traits = [trait_of(row, 1, described(f"A part of {row % 2}.")) for row in range(6)]
    clip = load_clip(tmp_path / "clip", device="cpu")
    config = ZeroShotConfig(clip=str(tmp_path / "clip"), text_type="asis")
    return made_evidence(
        dataclasses.replace(collection, images=tuple(records)), traits, clip=clip, zero_shot=config,
        embeddings=tmp_path / "embeddings",
    )  # fmt: skip


def test_what_was_asked_is_recorded_and_shown_in_whole_tables(evidence):
    results = run_tasks(evidence, [ZeroShot()])
    found = results.zero_shot
    assert found is not None
    assert (found.n_validation, found.n_test, found.n_classes) == (2, 2, 2)
    assert found.clip == "clip"
    assert found.model == evidence.clip.info.to_dict()
    assert (found.settings["text_type"], found.settings["n_templates"]) == ("asis", 1)
    assert Results.from_json(results.to_json()) == results
    assert list(evidence.embeddings.rglob("*.safetensors"))
    report = render_report("T", results).partition("## Sparse autoencoder")[0]
    tables = [line for line in report.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in tables[-13:]] == [10] * 7 + [8] * 6


def test_without_a_clip_the_report_says_that_it_was_skipped(evidence):
    without = dataclasses.replace(evidence, clip=None)
    assert ZeroShot().run(without) is None
    assert section(ZeroShot(), without) == "Skipped: no --clip was given, or no image has a label."


def test_images_without_labels_are_not_embedded_and_the_report_says_so(evidence):
    images = evidence.collection.images
    bare = [dataclasses.replace(record, taxon=Taxon()) for record in images]
    without = dataclasses.replace(evidence, collection=dataclasses.replace(evidence.collection, images=tuple(bare)))
    assert ZeroShot().run(without) is None
    assert not evidence.embeddings.exists()
    assert "or no image has a label" in section(ZeroShot(), without)
    some = dataclasses.replace(evidence.collection, images=(*images, dataclasses.replace(bare[-1], image_id="7")))
    found = ZeroShot().run(dataclasses.replace(evidence, collection=some))
    assert found is not None
    assert found.n_test == 2
