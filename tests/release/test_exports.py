"""Other communities' formats: what their own readers find in them is what the dataset said."""

import csv
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import xmlschema
from dwca.read import DwCAReader
from PIL import Image
from pycocotools.coco import COCO

from sae_traits.cli import main
from sae_traits.errors import ReleaseError
from sae_traits.release.exports import export
from sae_traits.release.exports import webdataset as shards
from sae_traits.release.exports.matrix import MAX_ATTRIBUTES
from sae_traits.release.loading import Released
from sae_traits.release.tables import COLUMNS, CONFIG_NAMES, features
from sae_traits.vocabulary import EXPORT_FORMATS

DWC = "http://rs.tdwg.org/dwc/terms/"
MEASUREMENT_OR_FACT = f"{DWC}MeasurementOrFact"


def picture(colour, kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(content, kind)
    return {"bytes": content.getvalue(), "path": None}


def trait(number, colour, *, text=None, part="wing", latent=7):
    values = dict.fromkeys(column.name for column in COLUMNS["default"])
    return {name: value for name, value in values.items() if name not in ("image", "image_id", "species")} | {
        "trait_id": f"t{number}",
        "text": text or f"A {colour} area.",
        "part": part,
        "attributes": [{"name": "colour", "value": colour}],
        "box": [10.0, 5.0, 20.0, 10.0],
        "polygons": [[10.0, 5.0, 30.0, 5.0, 30.0, 15.0, 10.0, 15.0]],
        "latent": latent,
        "sae": "org/sae@1",
        "describer": "server",
        "describer_model": "model@2",
        "prompt": "region-1",
        "area_fraction": 1 / 6,
        "elongation": 2.0,
        "share_of_animal": 0.25,
        "length_mm": 4.0,
        "color_lab": [50.0, 1.0, -2.0],
        "color_name": colour,
    }


def record(number, species, traits, *, url=None, image="PNG", **changed):
    taxon = dict.fromkeys(("kingdom", "phylum", "class", "order", "family", "genus", "species"))
    genus = species.split()[0] if species else None
    return (
        taxon
        | {
            "image": picture((number, 100, 200), image) if image else None,
            "image_id": f"s{number}",
            "genus": genus,
            "species": species,
            "traits": traits,
            "license": "CC-BY-4.0",
            "rights_holder": "A\tMuseum\nof all",
            "source_url": url,
            "source_id": f"../{number}.png",
            "source_sha256": "0" * 64,
        }
        | changed
    )


SPECIMENS = {
    "train": [
        record(1, "Aus bus", [trait(1, "red"), trait(2, "black", part=None)], url="https://a.org/1?x=1&y=2"),
        record(2, "Aus bus", [trait(3, "red")], image="JPEG"),
        record(3, "Aus cus", []),
    ],
    "test": [
        record(4, "Aus cus", [trait(4, "red", text="=1+1\tor <b>red</b>\nand more")]),
        record(5, None, [trait(5, "blue", latent=None)]),
    ],
}


def rows_of(config, records):
    """The rows of a config that are made of some images."""
    if config == "images":
        return records
    if config == "default":
        return [
            trait | {name: one[name] for name in one if name != "traits"} for one in records for trait in one["traits"]
        ]
    if config == "captions":
        return [one for one in records if "caption" in one]
    return []


def release(folder, records):
    """A dataset folder as `load_dataset` reads it, of the released columns."""
    lines = ["---", "configs:"]
    for config in CONFIG_NAMES:
        of_splits = {split: rows_of(config, members) for split, members in records.items()}
        if config == "captions":  # which a split, or a dataset, has none of
            of_splits = {split: rows for split, rows in of_splits.items() if rows}
        if not of_splits:
            continue
        lines += [f"- config_name: {config}", "  data_files:"]
        for split, members in of_splits.items():
            path = folder / "data" / config / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            names = [column.name for column in COLUMNS[config]]
            rows = [{name: row.get(name) for name in names} for row in members]
            pq.write_table(pa.Table.from_pylist(rows, features(config).arrow_schema), path)
            lines += [f"  - split: {split}", f"    path: data/{config}/{split}.parquet"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return release(tmp_path_factory.mktemp("released"), SPECIMENS)


def test_a_darwin_core_archive_is_read_by_its_reader_and_fits_the_schema(released, tmp_path):
    written = export(released, "darwin-core", tmp_path / "out")
    (archive,) = written.files
    schema = xmlschema.XMLSchema(Path(__file__).with_name("darwin_core_archive.xsd"))
    schema.validate(zipfile.ZipFile(archive).read("meta.xml").decode())
    with DwCAReader(archive) as reader:
        assert reader.descriptor.core.type == f"{DWC}Occurrence"
        rows = list(reader)
        assert [row.id for row in rows] == ["s1", "s2", "s3", "s4", "s5"]
        first = rows[0]
        assert first.data[f"{DWC}scientificName"] == "Aus bus"
        assert first.data[f"{DWC}taxonRank"] == "species"
        assert first.data["http://purl.org/dc/terms/rightsHolder"] == "A Museum of all"
        assert rows[4].data[f"{DWC}scientificName"] == ""
        facts = [one.data for one in first.extensions if one.rowtype == MEASUREMENT_OR_FACT]
        media = [one.data for one in first.extensions if one.rowtype != MEASUREMENT_OR_FACT]
    assert [one["http://purl.org/dc/terms/identifier"] for one in media] == ["https://a.org/1?x=1&y=2"]
    named = {(f[f"{DWC}measurementID"], f[f"{DWC}measurementType"]): f for f in facts}
    assert named["t1/said/0", "description"][f"{DWC}measurementValue"] == "A red area."
    assert named["t1/said/1", "colour"][f"{DWC}measurementValue"] == "red"
    length = named["t1/length_mm", "length mm"]
    assert (length[f"{DWC}measurementValue"], length[f"{DWC}measurementUnit"]) == ("4", "mm")
    share = named["t1/share_of_animal", "share of animal"]
    assert (share[f"{DWC}measurementValue"], share[f"{DWC}measurementUnit"]) == ("0.25", "share of the animal")
    assert named["t1/color_lab", "color lab"][f"{DWC}measurementValue"] == "50.00, 1.00, -2.00"
    assert ("t1/width_mm", "width mm") not in named
    assert len({f[f"{DWC}measurementID"] for f in facts}) == len(facts)
    assert written.counts == {"occurrences": 5, "measurements": 5 * 8, "media": 1}


def test_text_with_tabs_and_line_breaks_stays_one_field_of_a_darwin_core_archive(released, tmp_path):
    (archive,) = export(released, "darwin-core", tmp_path / "out").files
    with DwCAReader(archive) as reader:
        said = [one.data[f"{DWC}measurementValue"] for one in reader.get_corerow_by_id("s4").extensions]
    assert "'=1+1 or <b>red</b> and more" in said, "and no spreadsheet takes it for a formula"


def test_the_matrix_has_shares_of_images_and_means_of_measures(released, tmp_path):
    written = export(released, "matrix", tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out" / "matrix.parquet").set_index("species")
    assert list(table.index) == ["Aus bus", "Aus cus"]
    assert table.loc["Aus bus", "wing: colour = red"] == 1.0
    assert table.loc["Aus cus", "wing: colour = red"] == 0.5
    assert "colour = black" not in table.columns
    assert table.loc["Aus bus", "n_images"] == 2
    assert table.loc["Aus bus", "n_traits"] == 3
    assert table.loc["Aus bus", "elongation (mean)"] == 2.0
    assert np.isnan(table.loc["Aus cus", "elongation (standard deviation)"])
    assert written.counts == {
        "species": 2,
        "attributes": 1,
        "rarer attributes left out": 1,
        "images without a species left out": 1,
    }
    rows = list(csv.DictReader((tmp_path / "out" / "matrix.csv").open(encoding="utf-8")))
    assert [row["species"] for row in rows] == ["Aus bus", "Aus cus"]
    assert float(rows[1]["wing: colour = red"]) == 0.5


def test_pycocotools_finds_the_regions_on_the_images(released, tmp_path):
    written = export(released, "coco", tmp_path / "out")
    assert written.counts == {"images": 5, "regions": 5}
    coco = COCO(tmp_path / "out" / "train.json")
    assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == {"wing", "region"}
    wings = coco.getAnnIds(catIds=coco.getCatIds(catNms=["wing"]))
    assert [one["trait_id"] for one in coco.loadAnns(wings)] == ["t1", "t3"]
    (annotation, _) = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    mask = coco.annToMask(annotation)
    assert mask.shape == (30, 40)
    assert mask.sum() == annotation["area"] == 200
    assert mask[5:15, 10:30].all()
    image = coco.loadImgs([2])[0]
    with Image.open(tmp_path / "out" / image["file_name"]) as opened:
        assert (opened.format, opened.size) == ("JPEG", (image["width"], image["height"]))


def test_webdataset_reads_pairs_of_image_and_sentence(released, tmp_path):
    assert shards.write(Released.open(released), tmp_path, samples_per_shard=2) == {"samples": 5, "shards": 3}
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["test-000000.tar", "train-000000.tar", "train-000001.tar"]
    reader = webdataset.WebDataset(str(tmp_path / "train-{000000..000001}.tar"), shardshuffle=False)
    samples = list(reader.decode("pil"))
    assert [sample["txt"] for sample in samples] == ["A red area.", "A black area.", "A red area."]
    assert samples[0]["json"]["species"] == "Aus bus"
    assert samples[0]["png"].getpixel((0, 0)) == (1, 100, 200)
    assert samples[2]["jpg"].size == (40, 30)


def test_webdataset_reads_the_captions_of_images_that_have_traits(tmp_path):
    records = {
        "train": [
            record(1, "Aus bus", [trait(1, "red"), trait(2, "black")], caption="A red and black bee."),
            record(2, "Aus bus", [trait(3, "red")]),
            record(3, "Aus cus", [], caption="A bee of which nothing else was said."),
        ],
        "test": [record(4, "Aus cus", [trait(4, "red")])],
    }
    counts = export(release(tmp_path / "released", records), "webdataset", tmp_path / "out").counts
    assert counts == {"samples": 4, "shards": 2, "captions": 1, "captions of images without a trait left out": 1}
    reader = webdataset.WebDataset(str(tmp_path / "out" / "train-000000.tar"), shardshuffle=False)
    samples = list(reader.decode())
    assert [sample.get("caption.txt") for sample in samples] == ["A red and black bee."] * 2 + [None]
    assert [sample["txt"] for sample in samples] == ["A red area.", "A black area.", "A red area."]


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_the_same_dataset_gives_the_same_bytes(released, tmp_path, to):
    def hashes(folder):
        files = export(released, to, folder).files
        return {file.relative_to(folder): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


@pytest.mark.parametrize("to", ["coco", "webdataset"])
def test_a_dataset_without_its_images_says_what_to_do_and_leaves_nothing(tmp_path, to):
    source = release(tmp_path / "released", {"train": [record(1, "Aus bus", [trait(1, "red")], image=None)]})
    with pytest.raises(ReleaseError, match="sae-traits rehydrate"):
        export(source, to, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["released"]


def test_the_command_says_what_it_wrote_and_refuses_a_folder_in_use(released, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", released, str(out), "--to", "coco", "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == {"images": 5, "regions": 5}
    assert sorted(said["files"]) == sorted(str(path) for path in out.rglob("*") if path.is_file())
    assert main(["export", released, str(out), "--to", "coco"]) == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "x"), "--to", "coco"]) == 1
    assert "cannot read the dataset" in capsys.readouterr().err


def test_a_part_is_the_same_category_in_all_splits(tmp_path):
    records = {
        "train": [record(1, "Aus bus", [trait(1, "red", part="wing")])],
        "test": [record(2, "Aus bus", [trait(2, "red", part="eye"), trait(3, "red", part="wing")])],
    }
    export(release(tmp_path / "released", records), "coco", tmp_path / "out")
    train, test = (COCO(tmp_path / "out" / f"{split}.json") for split in ("train", "test"))
    assert train.cats == test.cats == {1: {"id": 1, "name": "eye"}, 2: {"id": 2, "name": "wing"}}
    assert [one["category_id"] for one in test.dataset["annotations"]] == [1, 2]


def test_a_name_in_the_head_of_the_matrix_is_no_formula(tmp_path):
    said = [trait(1, "red", part="=HYPERLINK(1)"), trait(2, "red", part="=HYPERLINK(1)")]
    records = {"train": [record(n, "Aus bus", [one]) for n, one in enumerate(said)]}
    export(release(tmp_path / "released", records), "matrix", tmp_path / "out")
    with (tmp_path / "out" / "matrix.csv").open(newline="") as file:
        head = next(csv.reader(file))
    assert head[-1] == "'=HYPERLINK(1): colour = red"


def test_which_of_equally_frequent_attributes_the_matrix_keeps_is_decided_by_their_names(tmp_path):
    colours = [f"shade {number:04}" for number in range(MAX_ATTRIBUTES + 3)]
    for place, said in enumerate((colours, colours[::-1])):
        records = {"train": [record(n, "Aus bus", [trait(n, one) for one in said]) for n in (1, 2)]}
        export(release(tmp_path / f"released-{place}", records), "matrix", tmp_path / f"out-{place}")
        columns = pd.read_parquet(tmp_path / f"out-{place}" / "matrix.parquet").columns
        assert [name.split(" = ")[1] for name in columns if " = " in name] == colours[:-3]


def test_photographs_without_labels_make_no_matrix(tmp_path):
    source = release(tmp_path / "released", {"test": [record(1, None, [trait(1, "red")])]})
    with pytest.raises(ReleaseError, match=r"no image of .* has a species"):
        export(source, "matrix", tmp_path / "out")


def test_a_dataset_of_regions_without_latents_is_exported(tmp_path):
    source = Path(release(tmp_path / "released", {"train": [record(1, "Aus bus", [trait(1, "red", latent=None)])]}))
    card = (source / "README.md").read_text().splitlines()
    at = card.index("- config_name: latents")
    (source / "README.md").write_text(
        "\n".join(card[:at] + card[at + 4 :])
    )  # there is no such table, as of --regions whole
    shutil.rmtree(source / "data" / "latents")
    assert export(str(source), "coco", tmp_path / "out").counts == {"images": 1, "regions": 1}


def test_a_damaged_table_is_one_line_and_leaves_nothing(tmp_path):
    source = Path(release(tmp_path / "released", {"train": [record(1, "Aus bus", [trait(1, "red")])]}))
    table = source / "data" / "images" / "train.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(ReleaseError, match="cannot read the dataset"):
        export(str(source), "coco", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["released"]


def test_what_a_portal_would_make_a_link_or_a_formula_of_stays_text(tmp_path):
    urls = ["javascript:alert(1)", "file:///etc/passwd", "HTTPS://a.org/6", "data:text/html,x", "ftp://a.org/x"]
    records = [record(number, "Aus bus", [], url=url) for number, url in enumerate(urls, start=1)]
    texts = ["=1+1", "@cmd", "-2+3+cmd|' /C calc'!A0", "+49 30 1234", "-1.5", "\u202e=1", "\x1b[31mred\x1b[0m"]
    records.append(record(9, "=Aus bus", [trait(n, "red", text=text) for n, text in enumerate(texts)]))
    released = release(tmp_path / "released", {"train": records})
    (archive,) = export(released, "darwin-core", tmp_path / "out").files
    with DwCAReader(archive) as reader:
        rows = {row.id: row for row in reader}
        links = [one.data for row in rows.values() for one in row.extensions if one.rowtype.endswith("Multimedia")]
        cells = [one.data for one in rows["s9"].extensions]
    assert [link["http://purl.org/dc/terms/identifier"] for link in links] == ["HTTPS://a.org/6"]
    assert rows["s9"].data[f"{DWC}scientificName"] == "'=Aus bus"
    said = [cell[f"{DWC}measurementValue"] for cell in cells if cell[f"{DWC}measurementType"] == "description"]
    assert said == ["'=1+1", "'@cmd", "'-2+3+cmd|' /C calc'!A0", "+49 30 1234", "-1.5", "'=1", "[31mred [0m"]
    export(released, "coco", tmp_path / "coco")
    document = json.loads((tmp_path / "coco" / "train.json").read_text())
    assert [image["coco_url"] for image in document["images"]] == ["", "", "HTTPS://a.org/6", "", "", ""]


@pytest.mark.parametrize("to", ["coco", "webdataset"])
def test_nan_is_null_in_json(tmp_path, to):
    unknown = trait(1, "red") | {"elongation": float("nan"), "box": [float("inf"), 1.0, 2.0, 3.0]}
    released = release(tmp_path / "released", {"train": [record(1, "Aus bus", [unknown])]})
    files = export(released, to, tmp_path / "out").files
    texts = [file.read_bytes() for file in files if file.suffix in (".json", ".tar")]
    assert texts
    for text in texts:
        assert b"NaN" not in text
        assert b"Infinity" not in text
        assert b"null" in text
