"""From codes to trait rows, with describers that fail in the ways that describers fail."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.sparse import csr_array

from sae_traits.config import ContrastConfig
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo, Collection, Description, Specimen, Taxon
from sae_traits.traits.annotate import describe_candidates, export_traits, plan_annotation
from sae_traits.traits.describers import Answer
from sae_traits.traits.encode import SpecimenCodes
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_latents, read_traits

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Scripted:
    """Says what the region's first patch tells it to, and notes in a file that it was asked."""

    log: Path
    name: str = "scripted"
    model: str = "none@1"
    prompt: str = "v1"

    def describe(self, image, region, measurement):
        with self.log.open("a") as file:
            file.write(f"{region.patches[0]}\n")
        if region.patches[0] == 5:
            return Answer(description=None, raw="not json", error="no JSON in the answer")
        text = f"A part, {measurement.color_name}."
        return Answer(description=Description(text=text, is_background=region.patches[0] == 10), raw="{}")


class MemoryCodes:
    """Codes of four specimens of two species: latent 0 marks Gen a, latent 1 Gen b, latent 2 everything."""

    thresholds = np.ones(4, dtype=np.float32)
    fired = ({0: (0, 1), 2: (5,)}, {0: (2,), 2: (5,), 3: (10,)}, {1: (3,), 2: (5,)}, {1: (15,), 2: (6,)})

    def __init__(self, rows=(0, 1, 2, 3)):
        self.rows = rows

    def specimens(self):
        for row in self.rows:
            pairs = [(z, p) for z, patches in self.fired[row].items() for p in patches]
            latents, patches = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
            yield SpecimenCodes(row, latents, patches, np.full(len(pairs), 2, np.float32))

    def firing_counts(self):
        counts = np.zeros((4, 4), dtype=np.int64)
        for row, found in enumerate(self.fired):
            for latent, patches in found.items():
                counts[row, latent] = len(patches)
        return csr_array(counts)


@pytest.fixture
def collection(tmp_path):
    specimens = []
    for row in range(4):
        species = "Gen a" if row < 2 else "Gen b"
        Image.new("RGB", (80, 60), (200, 120, 40)).save(tmp_path / f"{row}.png")
        specimens.append(
            Specimen(
                specimen_id=f"s{row}", file=f"{row}.png", taxon=Taxon(species=species, genus="Gen"), split="train",
                width=80, height=60, sha256=str(row),
            )
        )  # fmt: skip
    return Collection(tmp_path, tuple(specimens))


def annotate(collection, tmp_path, describer, codes=None, workers=1):
    plan = plan_annotation(collection, codes or MemoryCodes(), INFO, ContrastConfig())
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        describe_candidates(plan, describer, ledger, workers=workers)
        counts = ledger.counts()
        annotation = export_traits(
            plan, describer, ledger, traits_file=tmp_path / "traits.parquet", latents_file=tmp_path / "latents.parquet"
        )
    return annotation, counts


def test_valid_answers_become_traits_and_the_others_are_kept_and_counted(collection, tmp_path):
    annotation, counts = annotate(collection, tmp_path, Scripted(tmp_path / "log"))
    traits = list(read_traits(tmp_path / "traits.parquet"))
    assert {t.trait_id for t in traits} == {"s0-0", "s1-0", "s2-1", "s3-1"}
    assert annotation.n_traits == 4
    assert annotation.n_specimens == 4
    assert annotation.n_background == 1
    assert counts["ok"] == 5
    assert annotation.species_without_latents == ()
    first = traits[0]
    assert first.region.box == (0.0, 0.0, 40.0, 15.0)
    assert first.description.text == "A part, orange."
    assert first.measurement.color_name == "orange"
    assert (first.describer, first.describer_model, first.prompt) == ("scripted", "none@1", "v1")
    chosen = read_latents(tmp_path / "latents.parquet")
    assert [(latent.species, latent.latent, latent.n_fired) for latent in chosen] == [("Gen a", 0, 2), ("Gen b", 1, 2)]


def test_a_second_run_asks_nothing_again_and_writes_the_same_bytes(collection, tmp_path):
    describer = Scripted(tmp_path / "log")
    annotate(collection, tmp_path, describer)
    asked, written = describer.log.read_text(), (tmp_path / "traits.parquet").read_bytes()
    annotate(collection, tmp_path, describer)
    assert describer.log.read_text() == asked
    assert (tmp_path / "traits.parquet").read_bytes() == written


def test_several_processes_give_the_same_bytes_as_one(collection, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        annotate(collection, tmp_path / name, Scripted(tmp_path / name / "log"), workers=workers)
    assert (tmp_path / "one/traits.parquet").read_bytes() == (tmp_path / "two/traits.parquet").read_bytes()


def test_only_what_is_missing_is_asked_after_a_partial_run(collection, tmp_path):
    describer = Scripted(tmp_path / "log")
    annotate(collection, tmp_path, describer, MemoryCodes(rows=(0, 1)))
    first = describer.log.read_text()
    annotation, _ = annotate(collection, tmp_path, describer)
    assert describer.log.read_text().removeprefix(first).split() == ["3", "15"]
    whole = tmp_path / "whole"
    whole.mkdir()
    expected, _ = annotate(collection, whole, Scripted(whole / "log"))
    assert annotation == expected
    assert pq.read_table(tmp_path / "traits.parquet").equals(pq.read_table(whole / "traits.parquet"))


def test_another_prompt_is_another_question(collection, tmp_path):
    annotate(collection, tmp_path, Scripted(tmp_path / "log"))
    n_asked = len((tmp_path / "log").read_text().split())
    annotate(collection, tmp_path, replace(Scripted(tmp_path / "log"), prompt="v2"))
    assert len((tmp_path / "log").read_text().split()) == 2 * n_asked


def test_an_image_that_is_gone_is_a_failed_call_that_names_it_and_the_rest_goes_on(collection, tmp_path):
    (tmp_path / "1.png").unlink()
    annotation, counts = annotate(collection, tmp_path, Scripted(tmp_path / "log"))
    assert annotation.n_failed == counts["failed"] == 2
    assert annotation.n_specimens == 3
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert all("1.png" in str(entry.error) for entry in ledger if entry.state == "failed")


def test_an_answer_that_cannot_be_used_is_quarantined(collection, tmp_path):
    class Found(MemoryCodes):
        fired = ({0: (5,)}, {0: (2,)}, {1: (3,)}, {1: (15,)})

    annotation, counts = annotate(collection, tmp_path, Scripted(tmp_path / "log"), Found())
    assert annotation.n_invalid == counts["invalid"] == 1
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        bad = next(entry for entry in ledger if entry.state == "invalid")
    assert (bad.raw, bad.error, bad.trait_id) == ("not json", "no JSON in the answer", "s0-0")


def test_species_without_training_specimens_are_reported_not_guessed(collection, tmp_path):
    held = [replace(s, split="test") if s.species == "Gen b" else s for s in collection.specimens]
    annotation, _ = annotate(Collection(tmp_path, tuple(held)), tmp_path, Scripted(tmp_path / "log"))
    assert annotation.species_without_latents == ("Gen b",)
    assert {t.trait_id.split("-")[0] for t in read_traits(tmp_path / "traits.parquet")} == {"s0", "s1"}
