import csv
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import read_collection
from sae_traits.images.note import NOTE_FILE
from sae_traits.schema import Collection
from sae_traits.testbench.demo import prepare_demo
from sae_traits.testbench.drawn import Truth, draw_collection, part_labels_file
from sae_traits.testbench.drawn.anatomy import outlines
from sae_traits.testbench.drawn.painter import SIZE, draw_specimen
from sae_traits.testbench.drawn.world import ATTRIBUTES, NOTE, PALETTE, PARTS, WORLD, true_world

N_IMAGES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_collection(folder, seed=4, images_per_species=N_IMAGES, workers=1)
    return folder


def metadata(folder):
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@cache
def individuals(binomial, n):
    number, species = next((i, s) for i, s in enumerate(WORLD) if s.binomial == binomial)
    return [draw_specimen(species, np.random.default_rng([7, number, k])) for k in range(n)]


def test_every_row_of_the_metadata_has_its_image_mask_and_label_map(folder):
    rows = metadata(folder)
    assert len(rows) == len(WORLD) * N_IMAGES
    for row in rows:
        image = Image.open(folder / row["file"])
        mask = np.asarray(Image.open(folder / row["mask_file"]))
        labels = Image.open(folder / part_labels_file(row["file"]))
        assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
        assert (labels.mode, labels.size) == ("L", (SIZE, SIZE))
        assert set(np.unique(mask)) == {0, 255}
        assert np.array_equal(mask == 255, np.asarray(labels) > 0)
        assert row["license"] == "CC0-1.0"
        assert "drawn" in row["rights_holder"]
        assert 0.01 < float(row["mm_per_pixel"]) < 0.5


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(folder, tmp_path):
    draw_collection(tmp_path, seed=4, images_per_species=N_IMAGES, workers=2)
    assert digests(tmp_path) == digests(folder)


def test_another_seed_draws_other_individuals_of_the_same_world(folder, tmp_path):
    draw_collection(tmp_path, seed=5, images_per_species=1, workers=1)
    ours, theirs = digests(tmp_path), digests(folder)
    assert all(ours[name] != theirs[name] for name in ours if name.startswith("images/"))
    assert ours["truth.json"] == theirs["truth.json"]


def test_an_image_does_not_depend_on_how_many_are_drawn(folder, tmp_path):
    draw_collection(tmp_path, seed=4, images_per_species=1, workers=1)
    few, many = digests(tmp_path), digests(folder)
    assert all(few[name] == many[name] for name in few if name.startswith(("images/", "masks/", "parts/")))


def test_drawing_again_is_allowed_and_changes_nothing_but_other_images_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = digests(tmp_path)
    draw_collection(tmp_path, seed=4, images_per_species=N_IMAGES, workers=1)
    assert digests(tmp_path) == before
    with pytest.raises(CollectionError, match=r"16 images that would not be drawn.*another folder"):
        draw_collection(tmp_path, seed=4, images_per_species=1, workers=1)
    assert digests(tmp_path) == before


def test_at_least_one_image_a_species(tmp_path):
    with pytest.raises(CollectionError, match="at least 1, not 0"):
        draw_collection(tmp_path / "none", images_per_species=0)
    assert not (tmp_path / "none").exists()


def test_the_world_has_genera_of_three_two_and_one_species_in_families_with_relatives():
    genera = [species.genus.name for species in WORLD]
    sizes = sorted(genera.count(genus) for genus in set(genera))
    assert sizes == [1, 1, 1, 2, 2, 3, 3, 3]
    for species in WORLD:
        assert sum(other.genus.family == species.genus.family for other in WORLD) > 1


@pytest.mark.parametrize("species", true_world(WORLD).species, ids=lambda species: species.species)
def test_every_species_differs_from_its_relatives_in_two_or_three_traits_that_can_be_seen(species):
    assert 2 <= len(species.diagnostic) <= 3
    for trait in species.diagnostic:
        assert trait.part not in ("legs", "antennae", "head"), "thinner than a patch"
        relatives = [
            other
            for other in true_world(WORLD).species
            if other.species != species.species
            and (other.family if species.alone_in_genus else other.genus)
            == (species.family if species.alone_in_genus else species.genus)
        ]
        assert relatives
        assert all(other.value(trait.part, trait.attribute) != trait.value for other in relatives)


def test_values_come_from_the_shared_vocabulary():
    allowed = {
        "colour": set(PALETTE),
        "pattern": {"plain", "banded", "spotted"},
        "shape": {"rounded", "elongated"},
    }
    traits = [trait for species in true_world(WORLD).species for trait in species.traits]
    assert {trait.attribute for trait in traits} == set(ATTRIBUTES)
    assert all(trait.value in allowed[trait.attribute] for trait in traits)
    assert all(species.parts[part].marks in PALETTE for species in WORLD for part in species.parts)


def test_the_truth_can_be_read_back(folder, tmp_path):
    assert Truth.load(folder) == true_world(WORLD)
    assert "test bench" in json.loads((folder / "truth.json").read_text())["note"]
    with pytest.raises(CollectionError, match="only drawn collections"):
        Truth.load(tmp_path)
    (tmp_path / "truth.json").write_text("{}")
    with pytest.raises(CollectionError, match="cannot be read"):
        Truth.load(tmp_path)
    with pytest.raises(CollectionError, match="Homo sapiens is no species"):
        Truth.load(folder).of("Homo sapiens")


def test_a_drawn_collection_says_so_wherever_it_goes(folder, tmp_path):
    collection = read_collection(CollectionConfig(source=str(folder)))
    assert collection.note == NOTE
    collection.save(tmp_path / "images.parquet")
    assert Collection.load(tmp_path / "images.parquet").note == NOTE


def test_the_demo_does_not_draw_what_is_there(tmp_path):
    (tmp_path / "collection").mkdir()
    (tmp_path / "collection" / NOTE_FILE).write_text(f'note: "{NOTE}"')
    options = prepare_demo(tmp_path)
    assert [path.name for path in (tmp_path / "collection").iterdir()] == [NOTE_FILE]
    assert Path(options["collection"]["source"]) == (tmp_path / "collection").resolve()
    assert (Path(options["zero_shot"]["clip"]) / "config.json").is_file()


def test_an_individual_shows_all_parts_of_its_species_and_no_others():
    for species in WORLD:
        drawn = {piece.part for piece in outlines(species, np.random.default_rng(0))}
        assert drawn == set(species.parts)
    for species in WORLD:
        seen = np.unique(np.asarray(individuals(species.binomial, 1)[0].labels))
        assert {PARTS[value] for value in seen} <= {"background", *species.parts}


def test_the_animal_fills_enough_of_the_image_and_lies_inside_it():
    for species in WORLD:
        for drawing in individuals(species.binomial, 3):
            labels = np.asarray(drawing.labels)
            rows, columns = np.nonzero((labels > 0) & (labels != PARTS.index("legs")))
            assert 0.4 < max(np.ptp(rows), np.ptp(columns)) / SIZE <= 1
            assert 0.06 < (labels > 0).mean() < 0.45


def test_parts_have_the_colour_that_the_truth_says():
    """The median colour of a part is nearest to its own name in CIELAB, under the light of most individuals."""
    names, table = list(PALETTE), rgb2lab(np.array(list(PALETTE.values()))[None] / 255)[0]
    right = []
    for species in WORLD:
        for drawing in individuals(species.binomial, 3):
            lab, labels = rgb2lab(np.asarray(drawing.image) / 255), np.asarray(drawing.labels)
            for part, look in species.parts.items():
                pixels = lab[labels == PARTS.index(part)]
                if look.pattern == "plain" and len(pixels) > 500:
                    distance = np.linalg.norm(table - np.median(pixels, axis=0), axis=1)
                    right.append(names[int(distance.argmin())] == look.colour)
    assert len(right) > 100
    assert np.mean(right) > 0.93


def test_marks_are_visible_and_cover_less_than_the_base_colour():
    for species in WORLD:
        for part, look in species.parts.items():
            if look.pattern == "plain":
                continue
            base, marks = (rgb2lab(np.array(PALETTE[c])[None, None] / 255)[0, 0] for c in (look.colour, look.marks))
            for drawing in individuals(species.binomial, 3):
                lab = rgb2lab(np.asarray(drawing.image) / 255)[np.asarray(drawing.labels) == PARTS.index(part)]
                marked = np.linalg.norm(lab - marks, axis=1) < np.linalg.norm(lab - base, axis=1)
                assert 0.08 < marked.mean() < 0.5, f"{species.binomial}: {part}"


def test_rounded_parts_are_stouter_than_elongated_ones():
    def stoutness(binomial, part):
        drawing = individuals(binomial, 1)[0]
        points = np.argwhere(np.asarray(drawing.labels) == PARTS.index(part))
        spread = np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))
        return spread[0] / spread[1]

    assert stoutness("Fictacara sphaerica", "elytra") > 1.4 * stoutness("Fictacara ignita", "elytra")
    assert stoutness("Apifex cingulata", "abdomen") > 1.4 * stoutness("Apifex longula", "abdomen")


def test_individuals_vary_in_scale_light_place_and_damage():
    drawings = individuals("Pictavela aurantia", 24)
    assert np.std([d.mm_per_pixel for d in drawings]) / np.mean([d.mm_per_pixel for d in drawings]) > 0.03
    corners = [np.asarray(d.image)[:20, :20].mean() for d in drawings]
    assert np.std(corners) > 20
    lost = [PARTS.index("antennae") in np.asarray(d.labels) for d in drawings]
    sizes = [(np.asarray(d.labels) == PARTS.index("antennae")).sum() for d in drawings]
    assert min(sizes) < 0.7 * max(sizes) or not all(lost)
