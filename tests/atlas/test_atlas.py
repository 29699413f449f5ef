"""The pages of an atlas, read without a browser."""

import json
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from atlas.pages import page
from atlas.small_atlases import HOSTILE, NAME, SUGGESTION, hostile_release, hostile_sheet, made_firing
from evaluation.made_results import made_results
from release.small_releases import bytes_of
from shapely import Point, Polygon, make_valid

from sae_traits.atlas import build_atlas
from sae_traits.atlas.building import _paged
from sae_traits.atlas.comparing import comparison_data, telling
from sae_traits.atlas.drawing import close_up, histogram, letter_places, outline_of
from sae_traits.atlas.page_names import PageNames
from sae_traits.atlas.reading import read_atlas
from sae_traits.errors import ReleaseError
from sae_traits.evaluation.statistics import Interval


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    return hostile_release(folder / "dataset", folder / "photographs")


@pytest.fixture(scope="module")
def site(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "atlas"
    built = build_atlas(dataset, folder, costs=[("calls", "3")], suggestions={1: SUGGESTION, 2: "leg"}, workers=2)
    assert (built.n_species, built.n_images) == (3, 7)
    assert built.n_files == len(bytes_of(folder))
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: page(path) for path in sorted(site.rglob("*.html"))}


def without_labels(dataset, folder, *, but_for=()):
    """A copy of a release in which images have no label, but for those of some species."""
    copy = Path(shutil.copytree(dataset, folder))
    for file in (copy / "data" / "images").rglob("*.parquet"):
        table = pq.read_table(file)
        keeps = pa.array([name in but_for for name in table["species"].to_pylist()])
        for rank in ("species", "genus", "family"):
            column = pc.if_else(keeps, table[rank], pa.scalar(None, table[rank].type))
            table = table.set_column(table.schema.get_field_index(rank), rank, column)
        pq.write_table(table, file)
    return copy


def numbers_of(site):
    """The numbers at the top of the first page, by their names."""
    numbers = next(one for one in page(site / "index.html").all("dl") if "numbers" in one.classes)
    return {next(one.all("dt")).text: next(one.all("dd")).text for one in numbers.all("div")}


def test_photographs_without_a_label_are_no_species(dataset, tmp_path):
    built = build_atlas(without_labels(dataset, tmp_path / "none"), tmp_path / "atlas")
    assert (built.n_species, built.n_images, built.n_unlabelled) == (0, 7, 7)
    assert ": 7 images without a label, " in built.lines()[0]
    numbers = numbers_of(tmp_path / "atlas")
    assert "species" not in numbers
    assert (numbers["photographs"], numbers["without a label"]) == ("7", "7")
    (group,) = (tmp_path / "atlas" / "species").iterdir()
    assert "No species: what these photographs show has no name here" in page(group).text
    for path in (tmp_path / "atlas").rglob("*.html"):
        assert not [one for one in page(path).all("a") if one.text in ("Species", "Compare")]
        assert "Photograph of Photographs" not in path.read_text()


def test_photographs_without_a_label_are_counted_beside_the_species_of_others(dataset, tmp_path):
    built = build_atlas(without_labels(dataset, tmp_path / "some", but_for=[HOSTILE]), tmp_path / "atlas")
    assert built.n_species == 1
    assert f": 1 species, 7 images, {built.n_unlabelled} without a label, " in built.lines()[0]
    assert numbers_of(tmp_path / "atlas")["species"] == "1"
    assert [name for _, name in data(tmp_path / "atlas", "species")] == [HOSTILE]


def data(site, name):
    """The values of a file of data, as a browser gets them."""
    text = (site / "data" / f"{name}.js").read_text(encoding="ascii")
    return json.loads(text.partition("=")[2].removesuffix(";\n"))


def test_every_link_leads_to_a_file_of_the_atlas_and_none_to_another_host_but_to_sources(site, pages):
    sources = set()
    for path, tree in pages.items():
        for element in tree.all("a", "img", "image", "script", "link"):
            target = element.attributes.get("href") or element.attributes.get("src")
            assert target, element.attributes
            parts = urlsplit(target)
            if parts.scheme == "https":
                assert element.name == "a"
                assert "noopener" in element.attributes["rel"]
                sources.add(target)
            elif parts.scheme == "data":
                assert target == "data:,"
            elif parts.path:
                assert parts.scheme == ""
                assert (path.parent / unquote(parts.path)).resolve().is_file(), f"{path}: {target}"
            else:
                assert any(found.attributes.get("id") == parts.fragment for found in tree.all("main")), target
    assert 'https://museum.example/Aus_bus/large.jpg?a=1&b="2"' in sources
    assert len(sources) == 6


def test_nothing_of_the_style_or_the_script_is_fetched_from_elsewhere(site):
    for name in ("atlas.css", "atlas.js"):
        text = (site / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text
        assert "innerHTML" not in text
        assert "url(" not in text


def test_pages_are_the_same_for_the_same_release(site, dataset, tmp_path):
    again = {1: SUGGESTION, 2: "leg"}
    build_atlas(dataset, tmp_path / "again", costs=[("calls", "3")], suggestions=again, workers=1)
    assert bytes_of(tmp_path / "again") == bytes_of(site)


def test_names_and_sentences_are_shown_as_text(pages, site):
    (path,) = [path for path in pages if path.parent.name == "species" and "onerror" in path.name]
    assert next(pages[path].all("h1")).text == HOSTILE
    texts = [tree.text for tree in pages.values()]
    assert sum("</small><script>alert(2)</script>" in text for text in texts) >= 2
    assert any("A small area of </script> 1 & more." in text for text in texts)
    assert any(NAME in text for text in texts)
    for tree in pages.values():
        assert not [element for element in tree.all("b", "i") if element.text in ("abdomen", "of")]
        assert len(list(tree.all("script"))) == 1
        assert not [name for element in tree.all("img", "a") for name in element.attributes if name.startswith("on")]
    assert HOSTILE in [name for _, name in data(site, "species")]


def test_an_address_that_is_none_of_the_web_is_no_link(pages):
    for tree in pages.values():
        assert "javascript" not in "".join(str(link.attributes.get("href")) for link in tree.all("a"))


def test_every_picture_has_its_attribution(pages):
    n_pictures = 0
    for path, tree in pages.items():
        for picture in tree.all("img", "image"):
            holder = picture
            while holder is not None and not any("rights" in small.classes for small in holder.all("small")):
                holder = holder.parent
                assert holder is None or holder.name not in ("ul", "main"), f"{path}: {picture.attributes}"
            assert holder is not None
            n_pictures += 1
    assert n_pictures > 30


def test_every_region_of_an_image_is_on_its_page_with_its_letter(pages):
    for path, tree in pages.items():
        if path.parent.parent.name != "images":
            continue
        regions = [group.attributes["data-region"] for group in tree.all("g")]
        chips = [chip.text for chip in tree.all("span") if "chip" in chip.classes]
        assert len(regions) == len(chips)
        assert chips == ["A", "B", "C"][: len(chips)]


def test_the_search_has_every_trait(site):
    columns = data(site, "search")
    assert len(columns["images"]) == 7
    assert len(columns["traits"]) == 3 * 5 * 3  # five of seven images have three traits each
    text, besides = columns["texts"][columns["traits"][1]]
    assert (text, besides) == ("A small area of </script> 0 & more.", "colour blue")
    assert [2, NAME] in columns["latents"]


def test_side_by_side_has_what_a_species_is_told_by(site):
    compared = data(site, "compare/aus-bus")
    assert compared["name"] == "Aus bus"
    assert 2 in [row["latent"] for row in compared["latents"]]
    assert ["colour", "blue", 100] in compared["attributes"]


def test_side_by_side_knows_all_latents_and_attributes_also_those_that_are_not_drawn(site, dataset, tmp_path):
    atlas = read_atlas(dataset, tmp_path, workers=1)
    species = atlas.species[0]
    (first, *_) = species.latents
    for number in range(100, 130):
        atlas.latents[number] = replace(atlas.latents[first.latent], number=number)
        species.latents.append(replace(first, latent=number))
    compared = comparison_data(atlas, species, None)
    assert compared["all_latents"] == [one.latent for one in species.latents]
    assert len(compared["latents"]) == 12
    assert len(compared["attributes"]) == len(species.attribute_shares)


def test_what_tells_a_species_from_another_is_by_the_shares_of_these_two(dataset, tmp_path):
    atlas = read_atlas(dataset, tmp_path, workers=1)
    own, other = (atlas.species_by_name[name] for name in ("Aus bus", "Aus cus"))
    first, second = [one.latent for one in own.shown_latents]
    firing = made_firing({own.name: {first: 9, second: 9}, other.name: {first: 3}})
    found = telling(own, other, firing)
    assert [one.latent.latent for one in found] == [second, first]
    assert found[1].said(other.name).replace("\u00a0", " ") == (
        "in 90 % of its individuals and 30 % of those of Aus cus; found again in 80 % and 20 % of those held out"
    )
    assert telling(other, own, firing) == []
    compared = comparison_data(atlas, other, firing)
    assert (compared["individuals"], compared["fired"]) == ([10, 10], {first: [3, 2]})
    build_atlas(dataset, tmp_path / "atlas", firing=firing)
    assert "30\u00a0% of those of Aus cus" in (tmp_path / "atlas" / own.page).read_text(encoding="utf-8")


def test_the_second_page_of_a_species_is_no_page_of_another_one():
    names = PageNames()
    first, other = (names.of(species) for species in ("Camponotus maculatus", "Camponotus maculatus 2"))
    pages = [path for path, _ in _paged(f"species/{first}", range(100), 24)]
    assert len(set(pages)) == 5
    assert f"species/{other}.html" not in pages


def test_a_release_by_reference_shows_outlines_on_an_empty_frame(tmp_path):
    dataset = hostile_release(tmp_path / "dataset", tmp_path / "photographs", images="reference")
    build_atlas(dataset, tmp_path / "atlas")
    assert not list((tmp_path / "atlas").rglob("*.webp"))
    first = page(next((tmp_path / "atlas" / "species").glob("aus-bus.html")))
    assert "7 photographs that the release names" in page(tmp_path / "atlas" / "index.html").text
    assert list(first.all("path"))
    assert not list(first.all("img", "image"))


def test_a_folder_that_is_no_atlas_is_not_replaced(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ReleaseError, match="is no atlas"):
        build_atlas(dataset, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_is_no_release_is_refused_in_one_line(tmp_path):
    (tmp_path / "dataset").mkdir()
    with pytest.raises(ReleaseError, match="has no config `images`"):
        build_atlas(tmp_path / "dataset", tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


def test_names_of_pages_are_plain_and_no_two_alike():
    names = PageNames()
    texts = ["Aus bus", "Aus  bus", "aus bus", "Aus/bus", "../../Aus bus", "", "Ä" * 300, "日本", "Aus bus"]
    found = [names.of(text) for text in texts]
    assert found[0] == found[-1] == "aus-bus"
    assert len(set(found)) == len(texts) - 1
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and 0 < len(name) < 80 for name in found)


def test_a_close_up_is_square_and_within_the_picture():
    for box in [(0, 0, 10, 10), (90, 40, 10, 10), (0, 0, 100, 50)]:
        x, y, width, height = close_up(box, (100, 50))
        assert width == height
        assert x >= 0
        assert y >= 0
        assert x + width <= 100
        assert y + height <= 50


def test_a_histogram_counts_every_value_once():
    bars = histogram([0.0, 1.0, 1.0, 2.0], n_bars=4)
    assert [bar.n for bar in bars] == [1, 0, 2, 1]
    assert max(bar.height for bar in bars) == 100
    assert histogram([]) == []
    assert [bar.n for bar in histogram([3.0, 3.0])] == [2]


def test_an_outline_is_in_pixels_of_the_picture():
    assert outline_of([[0, 0, 10, 0, 10.2, 0.1, 10, 20]], (0.5, 0.5)) == "M0 0 5 0 5 10Z"


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


@pytest.mark.parametrize(
    "regions",
    [
        [square(0, 0, 100)],
        [square(0, 0, 100), square(0, 0, 100), square(0, 0, 100)],
        [square(0, 0, 200), square(90, 90, 20)],
        [[[0, 0, 100, 0, 100, 10, 10, 10, 10, 100, 0, 100]], square(0, 0, 60), square(2, 2, 20)],
        [[*square(0, 0, 10), *square(200, 200, 80)]],
        [[[0, 0, 60, 60, 60, 0, 0, 60]]],
    ],
)
def test_letters_lie_within_their_regions_and_off_each_other(regions):
    places = letter_places(regions, 12)
    for rings, place in zip(regions, places, strict=True):
        largest = max((make_valid(Polygon(np.reshape(ring, (-1, 2)))) for ring in rings), key=lambda shape: shape.area)
        assert largest.covers(Point(place))
    assert all(Point(one).distance(Point(other)) >= 12 for one, other in combinations(places, 2))


def test_letters_of_small_regions_at_one_place_are_as_far_apart_as_these_allow():
    first, other = letter_places([square(0, 0, 10), square(0, 0, 10)], 12)
    assert first == (5, 5)
    assert Point(other).distance(Point(first)) > 5


def test_the_letter_of_a_region_is_drawn_within_its_outline(pages):
    n_letters = 0
    for tree in pages.values():
        for group in tree.all("g"):
            for letter in group.all("text"):
                outline = np.array(re.findall(r"\d+", next(group.all("path")).attributes["d"]), dtype=float).reshape(
                    -1, 2
                )
                place = Point(float(letter.attributes["x"]), float(letter.attributes["y"]))
                assert Polygon(outline).contains(place)
                n_letters += 1
    assert n_letters > 20


def test_the_first_page_is_light(site):
    assert sum(len(path.read_bytes()) for path in [site / "index.html", site / "atlas.css", site / "atlas.js"]) < 60_000
    assert Path(site / "index.html").stat().st_size < 20_000


def test_a_damaged_table_is_one_clear_error_and_leaves_nothing(dataset, tmp_path):
    damaged = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    table = next((damaged / "data" / "images").glob("train-*.parquet"))
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(ReleaseError, match="cannot read the dataset"):
        build_atlas(damaged, tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


@pytest.mark.parametrize(
    ("gone", "message"), [(("part_source", "background", "length_mm"), None), (("polygons",), "lacks 'polygons'")]
)
def test_a_release_may_lack_columns_that_can_be_null_and_no_others(dataset, tmp_path, gone, message):
    other = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    for path in (other / "data" / "images").glob("*.parquet"):
        table = pq.read_table(path)
        rows = [[{k: v for k, v in one.items() if k not in gone} for one in row] for row in table["traits"].to_pylist()]
        pq.write_table(table.set_column(table.column_names.index("traits"), "traits", pa.array(rows)), path)
    if message is None:
        assert build_atlas(other, tmp_path / "atlas").n_traits == 15
    else:
        with pytest.raises(ReleaseError, match=message):
            build_atlas(other, tmp_path / "atlas")


def test_a_species_says_what_can_be_trusted_and_both_pages_say_how_often_in_the_same_words(pages, site):
    latents = {row["latent"]: row for row in data(site, "compare/aus-bus")["latents"]}
    text = pages[site / "species" / "aus-bus.html"].text
    assert list(latents) == [1, 2], "those to trust first"
    assert latents[2]["often"].endswith("; found again in 20\u00a0% and 10\u00a0% of those held out")
    assert "individuals (3 of 4)" in latents[2]["often"]
    assert latents[2]["verdict"].startswith("look first: ")
    shown = [row["often"] for row in latents.values() if row["where"]]
    assert shown
    assert all(often in text for often in shown)
    cards = [card.text for card in pages[site / "index.html"].all("li") if "card" in card.classes]
    assert sum("0 of 2 latents to trust" in card for card in cards) == 2, "of four individuals little is known"


def test_regions_beside_the_organism_by_the_evaluation_of_the_run_are_not_to_be_used(dataset, tmp_path):
    scored = Interval(0.5, 0.4, 0.6, 9)
    results = made_results(on_animal=scored, random=scored, by_latent={"Aus bus": {"1": 0.3}})
    build_atlas(dataset, tmp_path / "atlas", results=results)
    verdicts = {row["latent"]: row["verdict"] for row in data(tmp_path / "atlas", "compare/aus-bus")["latents"]}
    assert verdicts[1].startswith("do not use: beside the organism")
    assert "beside" not in verdicts[2]


def test_what_people_said_of_a_trait_is_on_its_page_and_counted_on_the_first(pages, site):
    said = [tree.text for tree in pages.values() if "Reviewed on a blind sheet" in tree.text]
    assert len(said) == 1
    assert "accepted by 2 people, score 4.2 of 5" in said[0]
    assert "100\u00a0%accepted by people" in pages[site / "index.html"].text


def test_a_latent_that_held_out_individuals_do_not_bear_out_is_not_trusted(site):
    text = (site / "latents" / "2.html").read_text(encoding="utf-8")
    assert "not so in held-out individuals" in text
    assert "not so in held-out individuals" not in (site / "latents" / "0.html").read_text(encoding="utf-8")


def test_a_suggestion_is_marked_as_one_and_a_name_goes_before_it(site):
    assert data(site, "suggested") == {"1": SUGGESTION}
    text = page(site / "latents" / "1.html").text
    assert f"latent 1 ({SUGGESTION}?)" in text
    assert "nobody has accepted it" in text
    assert "leg?" not in page(site / "latents" / "2.html").text


def test_a_blind_sheet_says_nothing_of_what_its_items_are(dataset, tmp_path):
    sheet = hostile_sheet(dataset.parent / "photographs")
    build_atlas(dataset, tmp_path / "atlas", sheet=sheet)
    review = tmp_path / "atlas" / "review"
    assert "Review" in [link.text for link in page(tmp_path / "atlas" / "index.html").all("a")]
    found = json.loads((review / "sheet.js").read_text().removeprefix("window.sheet=").removesuffix(";\n"))
    assert found["name"] == sheet.name
    assert [item["text"] for item in found["items"]] == [item.text for item in sheet.items]
    assert set(found["items"][0]) == {"text", "rights", "size", "view", "outline"}
    for pictures in ("pictures", "outlined"):
        assert {path.name for path in (review / pictures).iterdir()} == {f"{number}.webp" for number in range(1, 9)}
    for name, content in bytes_of(review).items():
        assert b"secret" not in content, name
        assert sheet.items[0].image_id.encode() not in content, name
        assert b"another place" not in content, name
    assert not list(page(review / "index.html").all("a")), "nothing leads to where the answers are"
    gone = replace(sheet, items=(replace(sheet.items[0], image_id="gone"),))
    with pytest.raises(ReleaseError, match="not in the release any more"):
        build_atlas(dataset, tmp_path / "other", sheet=gone)


def test_a_species_without_latents_says_what_is_known_of_why(dataset, tmp_path):
    def pages_of(name, change, split="train"):
        other = Path(shutil.copytree(dataset, tmp_path / name))
        (path,) = (other / "data" / "latents").glob("*.parquet")
        rows = [change(row) for row in pq.read_table(path).to_pylist() if row["species"] != "Aus bus"]
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
        for images in (other / "data" / "images").glob(f"{split}-*.parquet"):
            table = pq.read_table(images)
            pq.write_table(table.filter([species != "Aus bus" for species in table["species"].to_pylist()]), images)
        build_atlas(other, tmp_path / f"{name}-atlas")
        return [page(tmp_path / f"{name}-atlas" / path).text for path in ("species/aus-bus.html", "index.html")]

    species, first = pages_of("tested", lambda row: row, split="none")
    assert "No latent passed the test" in species
    assert "--no-significant-only" in species
    assert "With few individuals" not in species
    assert "no latent passed the test" in first
    species, first = pages_of("held-out", lambda row: row)
    assert "Nothing is known: latents are chosen from labelled photographs of the train split" in species
    assert "passed the test" not in species + first
    species, first = pages_of("untested", lambda row: row | {"q_value": None, "significant": False}, split="none")
    assert "No latent that has regions here was chosen for it" in species
    assert "passed the test" not in species + first
