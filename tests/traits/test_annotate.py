"""From codes to trait rows, with describers that fail in the ways that describers fail."""

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_traits import firings_of_all
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sae_traits.config.regions import SAERegions
from sae_traits.describers import Answer
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.errors import CollectionError, DescriberError
from sae_traits.geometry import Framing
from sae_traits.io import hash_of_file
from sae_traits.schema import BackboneInfo, Collection, Description, ImageRecord, Taxon
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.codes import ImageCodes
from sae_traits.traits.ledger import MAX_ATTEMPTS, Ledger
from sae_traits.traits.plan import plan_regions
from sae_traits.traits.table import read_latents, read_traits

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Scripted:
    """Says what the region's first patch tells it to, and notes in a file that it was asked."""

    log: Path
    prompt: str = "v1"
    images_per_description: int = 1
    names_species: bool = False
    reads_masks: bool = False
    batch_size: int = 2
    in_flight: int = 3
    stops_at: int | None = None
    """The first patch of a region at which it gives up for good."""
    name = "scripted"
    model = "none@1"
    settings: tuple[tuple[str, Any], ...] = ()

    def look(self, image, region, measurement, mask):
        return region.patches[0], measurement.color_name

    @asynccontextmanager
    async def open(self):
        yield self.ask

    async def ask(self, questions):
        return [self.say(question.looks) for question in questions]

    def say(self, looks):
        patches = [patch for patch, _ in looks]
        with self.log.open("a") as file:
            file.write(f"{'+'.join(map(str, patches))}\n")
        if self.stops_at in patches:
            raise DescriberError("out of order")
        if 5 in patches:
            return Answer(description=None, raw="not json", error="no JSON in the answer", usage={"tokens": 2})
        text = f"A part, {' and '.join(color for _, color in looks)}."
        return Answer(description=Description(text=text, is_background=10 in patches), raw="{}", usage={"tokens": 2})


class MemoryCodes:
    """Codes of four images of two species: latent 0 marks Gen a, latent 1 Gen b, latent 2 everything."""

    thresholds = np.ones(4, dtype=np.float32)
    latent_background = None
    latent_places = None
    n_latents = 4
    fired = ({0: (0, 1), 2: (5,)}, {0: (2,), 2: (5,), 3: (10,)}, {1: (3,), 2: (5,)}, {1: (15,), 2: (6,)})

    def __init__(self, rows=(0, 1, 2, 3)):
        self.rows = rows

    def images(self):
        for row in self.rows:
            pairs = [(z, p) for z, patches in self.fired[row].items() for p in patches]
            latents, patches = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
            yield ImageCodes(row, latents, patches, np.full(len(pairs), 2, np.float32))

    def firing_counts(self):
        counts = np.zeros((len(self.fired), 4), dtype=np.int64)
        for row, found in enumerate(self.fired):
            for latent, patches in found.items():
                counts[row, latent] = len(patches)
        yield firings_of_all(counts)


def saved(image, path):
    """Hash of a photograph's file, which is like no other: it holds its own name."""
    name = PngInfo()
    name.add_text("name", path.name)
    image.save(path, pnginfo=name)
    return hash_of_file(path)


@pytest.fixture
def collection(tmp_path):
    records = []
    for row in range(4):
        species = "Gen a" if row < 2 else "Gen b"
        sha256 = saved(Image.new("RGB", (80, 60), (200, 120, 40)), tmp_path / f"{row}.png")
        records.append(
            ImageRecord(
                image_id=f"s{row}", file=f"{row}.png", taxon=Taxon(species=species, genus="Gen"), split="train",
                width=80, height=60, sha256=sha256,
            )
        )  # fmt: skip
    return Collection(tmp_path, tuple(records))


def annotate(collection, tmp_path, describer, codes=None, workers=1, use_masks=False):
    plan = plan_regions(SAERegions(outline="patches"), collection, INFO, codes=codes or MemoryCodes())
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        describe_candidates(plan, describer, ledger, workers=workers, use_masks=use_masks)
        counts = Counter(call.state for call in ledger)
        files = {"traits_file": tmp_path / "traits.parquet", "latents_file": tmp_path / "latents.parquet"}
        annotation = export_traits(plan, ledger, **files, withhold=getattr(describer, "withhold", None))
    return annotation, counts


def test_valid_answers_become_traits_and_the_others_are_kept_and_counted(collection, tmp_path):
    annotation, counts = annotate(collection, tmp_path, Scripted(tmp_path / "log"))
    traits = list(read_traits(tmp_path / "traits.parquet"))
    assert {t.trait_id for t in traits} == {"s0-0", "s1-0", "s2-1", "s3-1"}
    assert annotation.n_traits == 4
    assert annotation.n_images == 4
    assert annotation.n_background == 1
    assert counts["ok"] == 5
    assert annotation.species_without_latents == ()
    first = next(t for t in traits if t.trait_id == "s0-0")
    assert first.region.box == (0.0, 0.0, 40.0, 15.0)
    assert first.description.text == "A part, orange."
    assert first.measurement.color_name == "orange"
    assert (first.describer, first.describer_model, first.prompt) == ("scripted", "none@1", "v1")
    chosen = read_latents(tmp_path / "latents.parquet")
    assert [(latent.species, latent.latent, latent.n_fired) for latent in chosen] == [("Gen a", 0, 2), ("Gen b", 1, 2)]


@pytest.mark.parametrize("n", [1, 2])
def test_an_annotation_goes_through_the_candidates_once_to_ask_and_once_to_write(collection, tmp_path, n):
    passes = []

    class Counted(MemoryCodes):
        def images(self):
            passes.append("candidates")
            return super().images()

    annotate(collection, tmp_path, replace(Scripted(tmp_path / "log"), images_per_description=n), Counted())
    assert passes == ["candidates"] * 2


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
    assert sorted(describer.log.read_text().removeprefix(first).split()) == ["15", "3"]
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
    assert annotation.n_failed == annotation.n_open == counts["failed"] == 2
    assert annotation.n_images == 3
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert all("1.png" in str(entry.error) for entry in ledger if entry.state == "failed")


@pytest.mark.parametrize("size", [(80, 60), (40, 30)])
def test_a_photograph_that_has_changed_is_a_failed_call_that_names_it_and_the_rest_goes_on(collection, tmp_path, size):
    Image.new("RGB", size, (0, 0, 0)).save(tmp_path / "1.png")
    annotate(collection, tmp_path, MeasuredDescriber())
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        failed = {entry.trait_id[:2]: entry.error for entry in ledger if entry.state == "failed"}
        assert {entry.trait_id[:2] for entry in ledger if entry.state == "ok"} == {"s0", "s2", "s3"}
    assert failed.keys() == {"s1"}
    assert "1.png: has changed since the collection was read" in str(failed["s1"])


def test_an_answer_that_cannot_be_used_is_quarantined(collection, tmp_path):
    class Found(MemoryCodes):
        fired = ({0: (5,)}, {0: (2,)}, {1: (3,)}, {1: (15,)})

    annotation, counts = annotate(collection, tmp_path, Scripted(tmp_path / "log"), Found())
    assert annotation.n_invalid == counts["invalid"] == 1
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        bad = next(entry for entry in ledger if entry.state == "invalid")
    assert (bad.raw, bad.error, bad.trait_id) == ("not json", "no JSON in the answer", "s0-0")
    assert (bad.attempts, bad.usage) == (MAX_ATTEMPTS, {"tokens": 2 * MAX_ATTEMPTS})
    assert (tmp_path / "log").read_text().split().count("5") == MAX_ATTEMPTS
    assert annotation.n_open == 0


def test_species_without_training_images_are_reported_not_guessed(collection, tmp_path):
    held = [replace(s, split="test") if s.species == "Gen b" else s for s in collection.images]
    annotation, _ = annotate(Collection(tmp_path, tuple(held)), tmp_path, Scripted(tmp_path / "log"))
    assert annotation.species_without_latents == ("Gen b",)
    assert {t.trait_id.split("-")[0] for t in read_traits(tmp_path / "traits.parquet")} == {"s0", "s1"}


def test_a_describer_that_stops_leaves_the_rest_open_and_takes_no_attempt_from_it(collection, tmp_path, caplog):
    describer = replace(Scripted(tmp_path / "log"), stops_at=2, in_flight=1, batch_size=1)
    annotation, counts = annotate(collection, tmp_path, describer)
    # Pictures may be prepared in another order, so it is not certain how many are answered before.
    assert counts["pending"] == 1
    assert annotation.n_open == 5 - counts["ok"] > 0
    assert annotation.n_failed == 0
    assert "stopped: out of order; what was answered is kept" in caplog.text
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert [entry.attempts for entry in ledger if entry.state == "pending"] == [0]
    again, _ = annotate(collection, tmp_path, replace(describer, stops_at=None))
    assert again.n_open == 0
    assert again.n_traits == 4
    assert (tmp_path / "log").read_text().split().count("0") == 1


def test_an_error_on_the_way_takes_no_attempt_and_is_not_hidden_in_a_group(collection, tmp_path):
    class Broken(Scripted):
        def say(self, looks):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        annotate(collection, tmp_path, Broken(tmp_path / "log"))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert {entry.attempts for entry in ledger} == {0}


def test_images_of_a_species_and_split_share_a_description(collection, tmp_path):
    class Found(MemoryCodes):
        fired = ({0: (0, 1)}, {0: (2,)}, {1: (3,)}, {1: (15,)})

    describer = replace(Scripted(tmp_path / "log"), images_per_description=2)
    annotation, counts = annotate(collection, tmp_path, describer, Found())
    assert sorted(describer.log.read_text().split()) == ["0+2", "3+15"]
    assert (annotation.n_traits, counts["ok"]) == (4, 2)
    traits = list(read_traits(tmp_path / "traits.parquet"))
    assert [t.trait_id for t in traits] == ["s0-0", "s1-0", "s2-1", "s3-1"]
    assert {t.n_images for t in traits} == {2}
    assert {t.description.text for t in traits} == {"A part, orange and orange."}
    assert traits[0].region.box != traits[1].region.box
    annotate(collection, tmp_path, describer, Found())
    assert len(describer.log.read_text().split()) == 2


def test_what_is_said_of_training_images_does_not_depend_on_test_images(collection, tmp_path):
    class Found(MemoryCodes):
        fired = ({0: (0, 1)}, {0: (2,)}, {1: (3,)}, {1: (15,)})

    held = [replace(s, split="test") if s.image_id == "s1" else s for s in collection.images]
    describer = replace(Scripted(tmp_path / "log"), images_per_description=2)
    annotate(Collection(tmp_path, tuple(held)), tmp_path, describer, Found())
    assert sorted(describer.log.read_text().split()) == ["0", "2", "3+15"]
    assert {t.trait_id: t.n_images for t in read_traits(tmp_path / "traits.parquet")} == {
        "s0-0": 1, "s1-0": 1, "s2-1": 2, "s3-1": 2
    }  # fmt: skip


def test_the_scale_of_an_image_changes_millimetres_without_asking_again(collection, tmp_path):
    describer = Scripted(tmp_path / "log")
    annotate(collection, tmp_path, describer)
    asked = describer.log.read_text()
    scaled = Collection(tmp_path, tuple(replace(s, mm_per_pixel=0.5) for s in collection.images))
    annotate(scaled, tmp_path, describer)
    assert describer.log.read_text() == asked
    for trait in read_traits(tmp_path / "traits.parquet"):
        assert trait.measurement.length_mm == trait.measurement.length_px / 2


def test_an_image_that_is_in_the_collection_twice_is_asked_about_once(collection, tmp_path):
    twice = [replace(s, sha256=collection.images[0].sha256, file="0.png") for s in collection.images]

    class Found(MemoryCodes):
        fired = ({0: (2,)}, {0: (2,)}, {1: (3,)}, {1: (3,)})

    annotation, _ = annotate(Collection(tmp_path, tuple(twice)), tmp_path, Scripted(tmp_path / "log"), Found())
    assert sorted((tmp_path / "log").read_text().split()) == ["2", "3"]
    assert annotation.n_traits == 4


@pytest.fixture
def masked(collection, tmp_path):
    """Of all images but the last the animal is a blue stripe on top of an orange ground: the upper quarter."""
    mask = np.zeros((60, 80), np.uint8)
    mask[:15] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    records = []
    for row, record in enumerate(collection.images):
        image = np.full((60, 80, 3), (230, 120, 20), np.uint8)
        image[:2] = 40, 60, 200
        sha256 = saved(Image.fromarray(image), tmp_path / record.file)
        records.append(replace(record, sha256=sha256, mask_file=None if row == 3 else "mask.png"))
    return Collection(tmp_path, tuple(records))


class TopRows(MemoryCodes):
    """Regions of the two upper rows of patches, half of which lies on the animal."""

    fired = ({0: (0, 4)}, {0: (1, 5)}, {1: (2, 6)}, {1: (3, 7)})


def test_masks_change_what_is_measured_of_images_that_have_one_and_only_when_asked(masked, tmp_path):
    annotate(masked, tmp_path, MeasuredDescriber(), TopRows())
    plain = {t.trait_id: t for t in read_traits(tmp_path / "traits.parquet")}
    annotate(masked, tmp_path, MeasuredDescriber(), TopRows(), use_masks=True)
    found = {t.trait_id: t for t in read_traits(tmp_path / "traits.parquet")}
    assert {t.measurement.on_animal for t in plain.values()} == {None}
    assert found["s0-0"].measurement.on_animal == pytest.approx(0.5)
    assert found["s0-0"].measurement.share_of_animal == pytest.approx(0.25)
    assert found["s0-0"].measurement.position_along_axis == pytest.approx(0.75)  # the centroid is 10 of 80 pixels in
    assert found["s0-0"].region == plain["s0-0"].region
    # 2 in 15 of the animal's pixels in the region are blue, 1 in 15 of all
    assert "blue markings" in found["s0-0"].description.text
    assert "markings" not in plain["s0-0"].description.text
    assert found["s3-1"] == plain["s3-1"]


def test_a_model_is_not_asked_again_when_masks_come_or_go_but_the_measurements_follow(masked, tmp_path):
    describer = Scripted(tmp_path / "log")
    for workers, use_masks in ((1, False), (1, True), (2, False)):
        annotate(masked, tmp_path, describer, TopRows(), workers=workers, use_masks=use_masks)
        measured = {t.trait_id: t.measurement.on_animal for t in read_traits(tmp_path / "traits.parquet")}
        half = pytest.approx(0.5) if use_masks else None
        assert measured == {"s0-0": half, "s1-0": half, "s2-1": half, "s3-1": None}
    assert len(describer.log.read_text().split()) == 4


def test_measurements_that_only_another_way_of_measuring_left_are_made(masked, tmp_path):
    describer = Scripted(tmp_path / "log")
    annotate(masked, tmp_path, describer, TopRows(), use_masks=True)
    (tmp_path / "0.png").unlink()
    with pytest.raises(CollectionError, match=r"0\.png.*described before"):
        annotate(masked, tmp_path, describer, TopRows())


class TwoSpecies(MemoryCodes):
    """Latent 0 marks the three images of Gen a, and latent 1 the three of Gen b."""

    fired = ({0: (0,)}, {0: (0,)}, {0: (0,)}, {1: (3,)}, {1: (3,)}, {1: (3,)})


def painted(tmp_path, *colours):
    """Images of two species, as many of each, in plain colours."""
    records = []
    for row, colour in enumerate(colours):
        species = "Gen a" if row < len(colours) / 2 else "Gen b"
        sha256 = saved(Image.new("RGB", (80, 60), colour), tmp_path / f"{row}.png")
        taxon = Taxon(species=species, genus="Gen")
        sizes = {"width": 80, "height": 60}
        records.append(
            ImageRecord(image_id=f"s{row}", file=f"{row}.png", taxon=taxon, split="train", sha256=sha256, **sizes)
        )
    return Collection(tmp_path, tuple(records))


def test_colours_that_no_two_individuals_of_a_species_share_are_withheld_there_and_measured_all_the_same(tmp_path):
    collection = painted(tmp_path, "red", "green", "blue", "red", "red", "blue")
    annotation, _ = annotate(collection, tmp_path, MeasuredDescriber(), TwoSpecies((0, 1, 2, 3, 4, 5)))
    assert (annotation.n_without_colour, annotation.n_latents_without_colour) == (3, 1)
    traits = {trait.trait_id: trait for trait in read_traits(tmp_path / "traits.parquet")}
    said = {
        name: [one.value for one in trait.description.attributes if one.name == "colour"]
        for name, trait in traits.items()
    }
    assert said == {"s0-0": [], "s1-0": [], "s2-0": [], "s3-1": ["red"], "s4-1": ["red"], "s5-1": ["blue"]}
    assert traits["s0-0"].description.text == "A medium, rounded area, plain and even in lightness."
    assert traits["s0-0"].measurement.color_name == "red"
    assert traits["s3-1"].description.text == "A medium, rounded red area, plain and even in lightness."
