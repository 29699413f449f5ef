"""What a run says of itself on its cards: read from its files, and naming no place on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sae_traits.config import (
    CollectionConfig,
    FeaturesConfig,
    ReleaseConfig,
    RunConfig,
    SAERegions,
    Server,
    Texture,
    WholeImage,
)
from sae_traits.config.tree import public_name
from sae_traits.describers import make_describer
from sae_traits.release.facts import source_of
from sae_traits.runs.context import Context
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.release import gallery_of, provenance_of
from sae_traits.schema import Collection, ImageRecord, Taxon
from sae_traits.steps import STEPS
from sae_traits.traits.ledger import CallIdentity, Ledger, Outcome

HEX = "0" * 64
DESCRIBER = Server(model="org/model", revision="main", prompt_price=2.0, answer_price=8.0)


def record(number: int, revision: str | None) -> ImageRecord:
    return ImageRecord(
        image_id=str(number),
        file=f"{number}.png",
        taxon=Taxon(species="Aus bus"),
        split="train",
        width=224,
        height=224,
        sha256=HEX,
        source_revision=revision,
    )


def collection(folder: Path, *revisions: str | None) -> Collection:
    return Collection(folder / "moths", tuple(record(number, revision) for number, revision in enumerate(revisions)))


@pytest.fixture
def run(tmp_path: Path) -> Context:
    """A run of whole images with streamed texture features, whose ledger has calls of two describers."""
    config = RunConfig(
        collection=CollectionConfig(source=str(tmp_path / "moths")),
        features=FeaturesConfig(backbone=Texture(), stream=True, device="cpu"),
        regions=WholeImage(),
        describer=DESCRIBER,
        release=ReleaseConfig(images="reference"),
    )
    run = Context(RunFolder(tmp_path / "run"), config, STEPS)
    run.folder.path.mkdir()
    collection(tmp_path, "v2", "v1", "v2", None).save(run.folder.images)
    run.steps.records.update(
        collect={
            "fingerprint": "a",
            "after": {},
            "seconds": 1.5,
            "counts": {"n_problems": 2, "n_near_identical": {"split": 3}},
        },
        annotate={"fingerprint": "b", "after": {}, "seconds": 9.0, "counts": {}},
    )
    describer = make_describer(DESCRIBER)
    with Ledger(run.folder.ledger("whole")) as ledger:
        for key, name in (("a", describer.name), ("b", describer.name), ("c", "measured")):
            call = CallIdentity(key=key, trait_id=key, describer=name, model=describer.model, prompt=describer.prompt)
            ledger.begin([call], {})
            ledger.begin([call], {})
            usage = {"prompt_tokens": 1_000_000, "completion_tokens": 250_000}
            ledger.record([Outcome(key=key, state="invalid", usage=usage, seconds=1.5)])
    return run


def test_calls_tokens_and_cost_are_those_of_this_describer(run: Context):
    facts = provenance_of(run, is_public=False)
    assert facts.calls is not None
    assert (facts.calls.n_calls, facts.calls.n_attempts, facts.calls.seconds) == (2, 2, 3.0)
    assert facts.calls.tokens == {"prompt_tokens": 2_000_000, "completion_tokens": 500_000}
    assert facts.calls.cost == 2 * 2.0 + 0.5 * 8.0
    assert facts.seconds == {"collect": 1.5, "annotate": 9.0}
    assert (facts.n_problems, facts.n_across_splits) == (2, 3)


def test_without_prices_there_is_no_cost(run: Context):
    free = replace(run, config=replace(run.config, describer=replace(DESCRIBER, prompt_price=0.0, answer_price=0.0)))
    assert free.calls.n_calls == 2
    assert free.calls.cost is None


def test_the_source_is_named_with_its_versions_and_without_its_place(run: Context, tmp_path: Path):
    facts = provenance_of(run, is_public=True)
    assert facts.source is not None
    assert facts.source.name == "moths"
    assert facts.source.revisions == ("v2", "v1")
    assert not facts.source.is_bioscan
    assert str(tmp_path) not in repr(facts)
    assert facts.command.startswith("sae-traits run moths --stream --backbone texture --regions whole")
    assert public_name(str(tmp_path)) == tmp_path.name
    assert public_name("org/model") == "org/model"


def test_regions_without_latents_have_neither_contrast_nor_dictionary(run: Context):
    facts = provenance_of(run, is_public=False)
    assert (facts.regions, facts.contrast, facts.contrast_in_words, facts.dictionary_metrics) == ("whole", {}, "", {})
    assert facts.latents is None


@pytest.mark.parametrize("source", ["bioscan5m", "hf://datasets/bioscan-ml/BIOSCAN-5M@main"])
def test_bioscan_is_recognised_as_a_folder_and_on_the_hub(tmp_path: Path, source: str):
    metadata = tmp_path / "bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv"
    metadata.parent.mkdir(parents=True)
    metadata.touch()
    given = source if source.startswith("hf://") else str(tmp_path / source)
    named = source_of(given, collection(tmp_path))
    assert named.is_bioscan
    assert named.name == source


def test_images_that_may_not_be_embedded_are_not_shown(run: Context, tmp_path: Path):
    of_latents = replace(run, config=replace(run.config, regions=SAERegions()))
    assert gallery_of(of_latents, tmp_path) == ()


def test_results_of_an_earlier_annotation_are_not_quoted(run: Context):
    run.folder.evaluation.mkdir()
    run.folder.results.write_text("of an earlier annotation")
    assert run.results is None
