"""Part evidence of made methods on made images: known answers, the same number of regions, and what is written."""

import math
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation.made_results import made_evidence, section

from sae_traits.errors import StoreError
from sae_traits.evaluation.part_files import Keypoint, PartFiles
from sae_traits.evaluation.part_measuring import measure_parts, with_shuffled_labels
from sae_traits.evaluation.part_regions import Method, gather, sample_of_species
from sae_traits.evaluation.part_truth import PartTruth
from sae_traits.evaluation.results import run_tasks
from sae_traits.evaluation.tasks.parts import Parts
from sae_traits.geometry import Framing
from sae_traits.io import write_text
from sae_traits.runs.part_evidence import StoredPartEvidence, read_part_evidence, write_part_evidence
from sae_traits.schema import BackboneInfo, Candidate, Collection, Contrast, ImageRecord, Taxon
from sae_traits.traits.codes import CODE_SCHEMA, Codes
from sae_traits.traits.plan import Plan
from sae_traits.traits.regions import make_region

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
HEAD, TAIL, SKY = 5, 10, 3
"""Patches. The animal is the four in the middle; the upper left is its head, the lower right its tail."""
N_IMAGES = 24
CONTRAST = Contrast(f_species=1, f_reference=0, effect=1, q_value=0.01, significant=True, reference_rank="genus")


@pytest.fixture
def collection(tmp_path):
    """Two species of twelve images, of which four each are held out."""
    records = tuple(
        ImageRecord(
            image_id=str(row), file=f"{row}.png", taxon=Taxon(species=f"Parus {'ab'[row % 2]}us"),
            split="test" if row >= 16 else "train", width=64, height=64, sha256="", animal_box=(16.0, 16.0, 32.0, 32.0),
        )
        for row in range(N_IMAGES)
    )  # fmt: skip
    return Collection(tmp_path, records)


@pytest.fixture
def truth(collection):
    points = [Keypoint("head", 24, 24), Keypoint("tail", 40, 40)]
    return PartTruth(collection, PartFiles(keypoints=dict.fromkeys(range(N_IMAGES), points)))


def method(folder, collection, place_of, significant=True):
    """Regions of one patch, and codes that fire there.

    Args:
        place_of: row of an image -> latent -> its patch, the strongest latent first.
    """
    folder.mkdir()
    rows = [(row, latent, patch, 1.0) for row in range(N_IMAGES) for latent, patch in sorted(place_of(row).items())]
    columns = [pa.array(values).cast(f.type) for values, f in zip(zip(*rows, strict=True), CODE_SCHEMA, strict=True)]
    pq.write_table(pa.Table.from_arrays(columns, schema=CODE_SCHEMA), folder / "part.parquet")
    contrast = replace(CONTRAST, significant=significant)

    def candidates():
        for row, record in enumerate(collection.images):
            found = [
                Candidate(image=row, latent=latent, patches=(patch,), peak=1.0, contrast=contrast)
                for latent, patch in place_of(row).items()
            ]
            grid = INFO.grid((64, 64))
            yield record, [(candidate, make_region(candidate.patches, grid)) for candidate in found]

    codes = Codes(folder, np.zeros(3, dtype=np.float32), N_IMAGES, ("part.parquet",))
    return Method(Plan(collection, candidates), codes)


@pytest.fixture
def methods(collection, tmp_path):
    """One whose latents are a head and a tail, and one whose latents take turns, beside a third in the sky."""
    return {
        "sae": method(tmp_path / "sae", collection, lambda row: {0: HEAD, 1: TAIL}),
        "random": method(
            tmp_path / "random",
            collection,
            lambda row: {0: HEAD if row // 2 % 2 else TAIL, 1: TAIL if row // 2 % 2 else HEAD, 2: SKY},
            significant=False,
        ),
    }


def measured(methods, collection, truth):
    return measure_parts(methods, collection, INFO, truth, lambda other: methods["sae"].plan)


def test_latents_of_parts_score_one_and_those_that_take_turns_one_half(methods, collection, truth):
    evidence = measured(methods, collection, truth)
    sae, random = (evidence.methods[name].measures for name in ("sae", "random"))
    assert {name: measure.value for name, measure in sae.items()} == {
        "inside": 1, "inside_significant": 1, "pointing": 1, "on_part": 1, "purity": 1, "held_out_part": 1,
        "held_out_part_learnt": 1, "location": 1, "repeats": 1,
    }  # fmt: skip
    assert (sae["inside"].null, sae["pointing"].null) == (0.25, 0.25)
    assert 0.5 <= sae["purity"].null < 0.8
    assert 0.35 < sae["held_out_part"].null < 0.65
    assert -0.8 < sae["location"].null < 0.1
    assert "inside_significant" not in random  # it has none
    assert (random["inside"].value, random["purity"].value, random["held_out_part"].value) == (1, 0.5, 0.5)
    assert random["location"].value == 0
    assert sae["purity"].by_species == {"Parus aus": 1, "Parus bus": 1}


def test_a_perfect_detector_of_parts_explains_what_their_own_places_do(methods, collection, truth):
    evidence = measured(methods, collection, truth)
    assert evidence.location_of_parts == 1
    turned = [[Keypoint("head", x, 24), Keypoint("tail", 64 - x, 40)] for x in (24, 40)]
    files = PartFiles(keypoints={row: turned[row // 2 % 2] for row in range(N_IMAGES)})
    evidence = measured(methods, collection, PartTruth(collection, files))
    assert evidence.location_of_parts == 0.5  # of left and right nothing, of above and below all
    assert "as a perfect detector: 0.500" in "\n".join(evidence.lines())
    assert any("R2 of location" in line and "(a perfect detector of parts: 0.500)" in line
               for line in Parts().lines(evidence))  # fmt: skip
    without = measured(methods, collection, PartTruth(collection))
    assert (math.isnan(without.location_of_parts), without.parts_in_words) == (True, None)


def test_a_baseline_has_at_most_as_many_regions_per_image_and_is_compared_on_as_many(methods, collection, truth):
    evidence = measured(methods, collection, truth)
    assert [of.n_regions for of in evidence.methods.values()] == [2 * N_IMAGES, 2 * N_IMAGES]
    assert evidence.n_images == N_IMAGES
    other_way_round = measure_parts(
        {"random": methods["random"], "sae": methods["sae"]}, collection, INFO, truth, lambda _: methods["sae"].plan
    )
    assert [of.n_regions for of in other_way_round.methods.values()] == [3 * N_IMAGES, 2 * N_IMAGES]
    assert other_way_round.methods["random"].measures["inside"].value == pytest.approx(2 / 3)
    assert other_way_round.differences["sae"]["inside"].mean == 0  # of the two strongest


def test_detectors_need_no_contrast_and_enough_firings(methods, collection, truth):
    counts = measured(methods, collection, truth).methods["sae"].detectors
    assert counts.n_latents == 0  # eight held-out images are too few
    held_out = replace(collection, images=tuple(replace(record, split="test") for record in collection.images))
    truth = PartTruth(held_out, truth.files)
    counts = measured(methods, held_out, truth).methods["sae"].detectors
    assert (counts.n_latents, counts.by_part, counts.n_parts) == (2, {"head": 1, "tail": 1}, 2)
    assert counts.by_species == {"Parus aus": 2, "Parus bus": 2}


def test_differences_are_those_of_the_values_over_species(methods, collection, truth):
    evidence = measured(methods, collection, truth)
    difference = evidence.differences["random"]["held_out_part"]
    assert (difference.mean, difference.low, difference.high, difference.n_groups) == (0.5, 0.5, 0.5, 2)
    assert "inside_significant" not in evidence.differences["random"]
    null = {name: evidence.methods[name].measures["held_out_part"].null for name in ("sae", "random")}
    above = evidence.differences["random"]["held_out_part_above_chance"]
    assert above.mean == pytest.approx(0.5 - null["sae"] + null["random"])
    assert evidence.named_differences["random"][-2][0] == "held-out part, all latents, above chance"


def test_without_any_truth_it_is_measured_how_places_repeat(methods, collection):
    nameless = replace(collection, images=tuple(replace(r, animal_box=None) for r in collection.images))
    evidence = measured(methods, nameless, PartTruth(nameless))
    assert {name: measure.value for name, measure in evidence.methods["sae"].measures.items()} == {"repeats": 1}
    assert evidence.methods["sae"].detectors is None


def test_species_below_chance_are_named_and_those_with_the_least_inside_come_first(methods, collection, tmp_path):
    sky = method(tmp_path / "sky", collection, lambda row: {0: SKY if row % 2 else HEAD})
    lines = measured({"sae": sky}, collection, PartTruth(collection)).lines()
    table = [line.split() for line in lines[lines.index("") :] if line.startswith("Parus")]
    assert [(row[1], row[2:4]) for row in table] == [("bus", ["0.000", "(0.250)"]), ("aus", ["1.000", "(0.250)"])]
    assert lines[-1] == "area inside the organism: 1 of 2 species below chance: Parus bus"


def test_a_species_of_which_nothing_was_measured_has_a_dash_though_chance_is_known(methods, collection, truth):
    evidence = measured(methods, collection, truth)
    sae = evidence.methods["sae"]
    purity = replace(sae.measures["purity"], by_species={"Parus bus": 1.0})
    others = {"sae": replace(sae, measures=sae.measures | {"purity": purity})}
    column = evidence.species_columns.index("purity")
    cells = [cells[column] for _, cells in replace(evidence, methods=others).species_rows]
    assert cells == ["–", f"1.000 ({purity.null_by_species['Parus bus']:.3f})"]


def test_a_terminal_says_which_parts_have_detectors_the_most_first(methods, collection, truth):
    held_out = replace(collection, images=tuple(replace(record, split="test") for record in collection.images))
    tails = replace(methods["sae"], codes=methods["random"].codes)
    evidence = measured({"sae": methods["sae"], "random": tails}, held_out, PartTruth(held_out, truth.files))
    assert evidence.detector_rows == [("head", ["1", "2"]), ("tail", ["1", "2"])]
    assert any(line.startswith("latents that detect each part ") for line in evidence.lines())


def test_a_sample_is_of_whole_species_as_far_as_they_fit_and_is_said_to_be_one(methods, collection):
    assert sample_of_species(collection, N_IMAGES) is None
    sample = sample_of_species(collection, 16)
    assert sample is not None
    numbers = np.bincount([row % 2 for row in sample])
    assert sorted(numbers) == [4, 12]
    assert sample != sample_of_species(collection, 16, seed=3)
    codes = replace(methods["sae"].codes, sample=sample)
    assert [fired.image for fired in codes.images()] == sorted(sample)
    assert sum(counts.sum() for _, counts in codes.firing_counts()) == 2 * N_IMAGES
    planned = [found for found in methods["sae"].plan.candidates() if found[1][0][0].image in sample]
    plan = replace(methods["sae"].plan, candidates=lambda: iter(planned))
    evidence = measure_parts({"sae": Method(plan, codes)}, collection, INFO, PartTruth(collection), lambda _: plan)
    assert evidence.images_in_words == "16 images of 2 species, of a random sample of the 24 images"
    assert evidence.labels.n_regions == 32


def test_a_region_on_no_named_part_counts_and_one_in_an_image_without_parts_does_not(methods, collection):
    head, tail = Keypoint("head", 24, 24), Keypoint("tail", 40, 40)
    points = {row: [head] if row in (0, 2, 4, 6) else [head, tail] for row in range(N_IMAGES) if row != 22}
    evidence = measured(methods, collection, PartTruth(collection, PartFiles(keypoints=points)))
    found = evidence.methods["sae"].measures["on_part"]
    assert found.by_species == {"Parus aus": pytest.approx(18 / 22), "Parus bus": 1}
    assert any(line.startswith("regions on a named part ") for line in evidence.lines())


def test_images_without_a_species_are_left_out(methods, collection, truth):
    images = tuple(replace(r, taxon=Taxon()) if r.split == "test" else r for r in collection.images)
    evidence = measured(methods, replace(collection, images=images), truth)
    assert (evidence.n_images, set(evidence.methods["sae"].measures)) == (
        16, {"inside", "inside_significant", "pointing", "on_part", "purity"},
    )  # fmt: skip


def test_shuffled_labels_are_those_of_training_individuals(collection):
    beetles = [replace(record, individual_id=f"beetle {row // 4}") for row, record in enumerate(collection.images)]
    beetles = [replace(record, taxon=Taxon(species=f"Parus {record.individual_id}")) for record in beetles]
    shuffled = with_shuffled_labels(replace(collection, images=tuple(beetles)), seed=2).images
    assert [r.taxon for r in shuffled[16:]] == [r.taxon for r in beetles[16:]]
    assert [r.taxon for r in shuffled] != [r.taxon for r in beetles]
    assert sorted(r.species for r in shuffled) == sorted(r.species for r in beetles)
    assert all(shuffled[row].taxon == shuffled[row - row % 4].taxon for row in range(16))


def test_what_is_written_is_read_back(methods, collection, truth, tmp_path):
    evidence = measured(methods, collection, truth)
    path = tmp_path / "evaluation" / "parts.json"
    written = StoredPartEvidence(encode="a", regions="b", files={"boxes": "b.csv"}, evidence=evidence)
    write_part_evidence(path, written)
    again = read_part_evidence(path)
    assert (again.encode, again.regions, again.files, again.baselines) == ("a", "b", {"boxes": "b.csv"}, ("random",))
    assert again.evidence.lines() == evidence.lines()
    write_text(path, path.read_text()[:50])
    with pytest.raises(StoreError, match=r"parts\.json .*run `sae-traits parts` again"):
        read_part_evidence(path)


def test_the_task_measures_with_what_the_table_has_and_shows_what_the_command_measured(methods, collection, truth):
    def part_methods(with_baselines):
        return methods if with_baselines else {"sae": methods["sae"]}

    evidence = made_evidence(collection, [], part_methods=part_methods, plan_with=lambda _: methods["sae"].plan)
    result = run_tasks(evidence, [Parts()]).tasks["parts"]
    assert set(result.methods["sae"].measures) == {"inside", "inside_significant", "pointing", "location", "repeats"}
    assert Parts().lines(result) == [
        "parts     area inside, significant regions: 1.000",
        "parts     R2 of location on the organism: 1.000, against 0.000 of random directions "
        "(1: a latent always at one place of the organism; 0 or less: anywhere)",
        "parts     area inside the organism: none of 2 species is below chance",
        "check     with shuffled labels 0 pairs of species and latent pass the test, 48 regions; with the labels 0, 48",
    ]
    stored = measured(methods, collection, truth)
    assert run_tasks(replace(evidence, part_evidence=stored), [Parts()]).tasks["parts"] is stored
    bare = replace(collection, images=tuple(replace(r, animal_box=None) for r in collection.images))
    of_bare = replace(evidence, collection=bare, part_note="boxes.csv is gone")
    without_truth = run_tasks(of_bare, [Parts()]).tasks["parts"]
    assert {name: list(of.measures) for name, of in without_truth.methods.items()} == {"sae": ["repeats"]}
    assert Parts().lines(without_truth) == [
        "parts     boxes.csv is gone",
        "parts     R2 of place, without truth: 1.000 "
        "(1: a latent in held-out images always at its place of the organism; 0 or less: anywhere)",
        "check     with shuffled labels 0 pairs of species and latent pass the test, 48 regions; with the labels 0, 48",
    ]
    text = section(Parts(), of_bare)
    assert text.startswith("**Note**: boxes.csv is gone\n\nFrom 24 images of 2 species. In brackets what chance")
    assert "`sae-traits parts RUN` measures the same of random directions and k-means" in text
    assert "| shuffled | 0 | 48 |" in text
    assert re.search(r"\| Parus aus \| 1.000 \(-0.\d+\) \|", text)
    assert "for a share" not in text
    assert "purity" not in text
    assert run_tasks(made_evidence(collection, []), [Parts()]).tasks["parts"] is None


def test_the_report_has_the_tables(methods, collection, truth):
    text = section(Parts(), made_evidence(collection, [], part_evidence=measured(methods, collection, truth)))
    assert "|  | sae | random |" in text
    assert re.search(r"\| R2 of location on the organism \| 1.000 \(-0.\d+\) \| 0.000 \(-0.\d+\) \|", text)
    assert "for R2, purity and the held-out part the latents dealt anew" in text
    assert "| held-out part, all latents | 0.500 [0.500, 0.500] |" in text
    assert "In short: sae is ahead of random in purity; held-out part, all latents; held-out part, latents" in text
    assert "| as they are | 0 | 48 |" in text
    assert "| head | 0 | 0 |" in text
    assert "| Parus aus | 1.000 (0.250) | 1.000 (0.250) | 1.000 (0.250) | 1.000 | 1.000 (" in text
    assert "In short, of the area inside the organism: none of 2 species is below chance." in text


class WithBackground:
    """Codes that know the left half of every image to be background, and nothing of the last row of patches."""

    def __init__(self, codes):
        self.codes, self.n_latents = codes, codes.n_latents

    def images(self):
        background = np.tile([0.9, 0.6, 0.1, 0.5], 4).astype(np.float32)
        background[12:] = np.nan
        return (replace(found, background=background) for found in self.codes.images())


def test_without_truth_a_place_is_relative_to_what_is_no_background(tmp_path, collection, truth):
    plain = method(tmp_path / "plain", collection, lambda _: {0: HEAD})
    known = Method(plain.plan, WithBackground(plain.codes))  # pyright: ignore[reportArgumentType]
    species = {"Parus aus": 0, "Parus bus": 1}
    tables, _ = gather({"sae": known, "random": plain}, collection, INFO, truth, species)
    (regions, _), (others, _) = tables.values()
    assert regions.estimated_place[0] == pytest.approx(others.estimated_place[0])  # of all methods as of the first
    centre_x, centre_y = (24 - 32) / 32, 24 / 48  # of the patch, in the box from (32, 0), 32 wide and 48 high
    assert regions.estimated_place[0] == pytest.approx([centre_x, centre_y])
    unknown, _ = gather({"sae": plain}, collection, INFO, truth, species)[0]["sae"]
    assert unknown.estimated_place[0] == pytest.approx([24 / 64, 24 / 64])


def test_no_part_is_asked_of_the_padding_of_a_letterboxed_image(methods, collection, truth):
    wide = replace(collection, images=tuple(replace(record, height=32) for record in collection.images))
    points = [Keypoint("head", 24, 8), Keypoint("tail", 40, 24)]
    files = PartFiles(keypoints=dict.fromkeys(range(N_IMAGES), points))
    letterboxed = replace(INFO, framing=Framing(mode="letterbox", size=(64, 64)))
    species = {"Parus aus": 0, "Parus bus": 1}
    tables, _ = gather({"sae": methods["sae"]}, wide, letterboxed, PartTruth(wide, files), species)
    _, firings = tables["sae"]
    assert firings.part.tolist() == [0, 1] * 8  # the upper two rows of patches that lie on the image, and the lower two
