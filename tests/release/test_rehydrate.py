"""Releases by reference: no pixel in them, and with the originals at hand the same bytes as a release with images."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from photograph_server import PhotographServer, running_photograph_server
from PIL import Image
from small_releases import bytes_of, many_images, odd_photographs, release, traits_of

from sae_traits.cli import main
from sae_traits.errors import ReleaseError
from sae_traits.release.facts import RELEASE_FILE, DatasetFacts
from sae_traits.release.loading import dataset_folder
from sae_traits.release.rehydrate import rehydrate
from sae_traits.release.tables import CONFIG_NAMES, features
from sae_traits.schema import Collection, ImageRecord, Trait

ROWS = {"default": "train", "images": "train", "preview": "train"}


@pytest.fixture(scope="module")
def server() -> Iterator[PhotographServer]:
    with running_photograph_server() as running:
        yield running


@pytest.fixture(scope="module")
def world(server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Collection, list[Trait], Path]:
    """Photographs on a server, their traits, and the folder with both releases: embedded/dataset and referred."""
    folder = tmp_path_factory.mktemp("world")
    server.folder = folder / "collection"
    collection = odd_photographs(server.folder, server.url_of)
    traits = traits_of(collection, 2)
    release(folder / "embedded" / "dataset", collection, traits)
    release(folder / "referred", collection, traits, images="reference")
    return collection, traits, folder


@pytest.fixture(autouse=True)
def _no_faults(server) -> None:
    server.faults.clear()
    server.requests.clear()


def rehydrated(world, tmp_path: Path, photographs: Path | None = None):
    return rehydrate(
        world[2] / "referred",
        tmp_path / "dataset",
        photographs=photographs,
        connections=3,
        workers=2,
        allow_private_addresses=True,
    )


def table_of(folder: Path, config: str, split: str = "train") -> pa.Table:
    return pa.concat_tables(pq.read_table(p) for p in sorted((folder / "data" / config).glob(f"{split}-*.parquet")))


def test_a_release_by_reference_has_sizes_and_no_pixels(world):
    folder = world[2]
    for config in CONFIG_NAMES:
        assert "image" not in features(config, "reference")
        with_images = features(config)
        has_size = config not in ("captions", "latents", "traits")
        expected = ["width", "height", *list(with_images)[1:]] if has_size else list(with_images)
        assert list(features(config, "reference")) == expected
    assert not any(
        b"\xff\xd8\xff" in content or b"\x89PNG" in content for content in bytes_of(folder / "referred").values()
    )
    for config in ROWS:
        embedded = table_of(folder / "embedded/dataset", config)
        referred = table_of(folder / "referred", config)
        sizes = [Image.open(io.BytesIO(image["bytes"])).size for image in embedded["image"].to_pylist()]
        assert list(zip(referred["width"].to_pylist(), referred["height"].to_pylist(), strict=True)) == sizes
        assert referred.drop_columns(["width", "height"]).equals(embedded.drop_columns(["image"]))
    assert set(referred["source_revision"].to_pylist()) == {"v2"}


def test_fetched_images_give_the_bytes_of_a_release_with_images(world, server, tmp_path):
    done = rehydrated(world, tmp_path)
    assert done.missing == ()
    assert bytes_of(tmp_path / "dataset") == bytes_of(world[2] / "embedded/dataset")
    assert sum(server.requests.values()) == len(world[0].images)
    again = rehydrated(world, tmp_path)
    assert again.summary == done.summary
    assert sum(server.requests.values()) == len(world[0].images)  # nothing was fetched twice


def test_originals_are_found_by_what_they_are_not_by_their_names(world, server, tmp_path):
    for number, record in enumerate(world[0].images):
        path = tmp_path / "originals" / str(number % 2) / f"DSC{number:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(world[0].path(record), path)
    (tmp_path / "originals" / "notes.txt").write_text("from the drawer")
    done = rehydrated(world, tmp_path, photographs=tmp_path / "originals")
    assert done.missing == ()
    assert bytes_of(tmp_path / "dataset") == bytes_of(world[2] / "embedded/dataset")
    assert not server.requests


def test_rehydrated_shards_are_cut_where_embedded_ones_are(tmp_path):
    collection = many_images(tmp_path / "collection", 200)
    traits = traits_of(collection, 1)
    release(tmp_path / "embedded" / "dataset", collection, traits)
    release(tmp_path / "referred", collection, traits, images="reference")
    rehydrate(
        tmp_path / "referred", tmp_path / "dataset", photographs=tmp_path / "collection", connections=1, workers=2
    )
    embedded = bytes_of(tmp_path / "embedded" / "dataset")
    segments = DatasetFacts.load(tmp_path / "referred" / RELEASE_FILE).segments["train"]
    assert segments != tuple(sorted(segments)), "the names of shards do not say their order"
    assert bytes_of(tmp_path / "dataset") == embedded


def test_what_is_gone_or_changed_is_left_out_and_reported_and_the_rest_is_there(world, server, tmp_path):
    files = [record.file for record in world[0].images]
    server.faults = {files[1]: ["gone"], files[3]: ["changed"], files[4]: ["busy"], files[5]: ["cut"]}
    done = rehydrated(world, tmp_path)
    reasons = {missing.source_id: missing.reason for missing in done.missing}
    assert set(reasons) == {files[1], files[3]}
    assert "410" in reasons[files[1]]
    assert "another image at its address" in reasons[files[3]]
    assert server.requests[files[4]] == server.requests[files[5]] == 2
    kept = {
        row["source_id"] for s in ("train", "test") for row in table_of(tmp_path / "dataset", "images", s).to_pylist()
    }
    assert kept == set(files) - set(reasons)
    left = table_of(tmp_path / "dataset", "default")["source_id"].to_pylist()
    assert not set(left) & set(reasons)
    assert done.summary
    assert done.summary.n_images == len(kept)
    with (tmp_path / "dataset.missing.csv").open() as file:
        assert {row["source_id"]: row["reason"] for row in csv.DictReader(file)} == reasons


def test_a_picture_that_a_server_sent_for_the_moment_is_asked_for_again_by_the_next_command(world, server, tmp_path):
    file = world[0].images[3].file
    server.faults = {file: ["changed"]}
    assert [missing.source_id for missing in rehydrated(world, tmp_path).missing] == [file]
    assert not rehydrated(world, tmp_path).missing
    assert server.requests[file] == 2


def test_an_image_that_changed_in_the_folder_is_told_from_one_that_is_not_there(world, tmp_path):
    shutil.copytree(world[0].root, tmp_path / "originals")
    files = [record.file for record in world[0].images]
    (tmp_path / "originals" / files[0]).write_bytes(b"other")
    (tmp_path / "originals" / files[1]).unlink()
    done = rehydrated(world, tmp_path, photographs=tmp_path / "originals")
    reasons = {missing.source_id: missing.reason for missing in done.missing}
    assert set(reasons) == set(files[:2])
    assert "another file than it was" in reasons[files[0]]
    assert "no file of" in reasons[files[1]]


def test_a_report_of_missing_images_goes_when_nothing_is_missing(world, server, tmp_path):
    server.faults = {world[0].images[0].file: ["busy"] * 9}
    assert len(rehydrated(world, tmp_path, photographs=None).missing) == 1
    server.faults.clear()
    assert rehydrated(world, tmp_path).missing == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dataset", "dataset.photographs"]
    assert bytes_of(tmp_path / "dataset") == bytes_of(world[2] / "embedded/dataset")


def referred_with(world, folder: Path, **changes: object) -> Path:
    """A release by reference whose first image says something else of its source."""
    collection, traits, _ = world
    first: ImageRecord = replace(collection.images[0], **changes)
    release(folder, Collection(collection.root, (first, *collection.images[1:])), traits, images="reference")
    return folder


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "it has no address"),
        ("file:///etc/passwd", "no address of the web"),
        ("../../secret", "no address of the web"),
        ("http://[::1", "cannot be used"),
        ("http://127.0.0.1:9/\n<b>x</b>", "it"),
    ],
)
def test_an_address_leads_nowhere_but_to_the_web(world, tmp_path, url, reason):
    dataset = referred_with(world, tmp_path / "referred", source_url=url)
    done = rehydrate(
        dataset,
        tmp_path / "out" / ".." / "dataset",
        photographs=None,
        connections=2,
        workers=1,
        allow_private_addresses=True,
    )
    (missing,) = done.missing
    assert missing.source_url == url
    assert reason in missing.reason


@pytest.mark.parametrize("file", ["../../../etc/passwd", "/etc/passwd", "a\nb/<script>.jpg", "nul\x00.jpg"])
def test_a_path_of_the_dataset_opens_no_file_outside_of_the_photographs(world, tmp_path, file):
    dataset = referred_with(world, tmp_path / "referred", file=file, sha256="0" * 64)
    done = rehydrate(dataset, tmp_path / "dataset", photographs=world[0].root, connections=2, workers=1)
    (missing,) = done.missing
    assert missing.reason == f"no file of {world[0].root} has its sha256"


def test_other_folders_are_refused(world, tmp_path):
    embedded, referred = world[2] / "embedded/dataset", world[2] / "referred"

    def refused(dataset: Path, out: Path, message: str, photographs: Path | None = None) -> None:
        with pytest.raises(ReleaseError, match=message):
            rehydrate(dataset, out, photographs=photographs, connections=1, workers=1)

    refused(embedded, tmp_path / "out", "was not released with --images reference")
    refused(referred, referred, "is the dataset itself")
    refused(referred, tmp_path / "out", "is not a folder; name the one", photographs=tmp_path / "nowhere")
    damaged = tmp_path / "damaged"
    shutil.copytree(referred, damaged)
    shard = next((damaged / "data/images").iterdir())
    pq.write_table(pq.read_table(shard).drop_columns(["width"]), shard)
    refused(damaged, tmp_path / "out", "not a table of a release by reference")
    shard.write_bytes(b"PAR1")
    refused(damaged, tmp_path / "out", "cannot read")
    (damaged / "release.json").write_text('{"images": "reference"}')
    refused(damaged, tmp_path / "out", r"cannot read .*release\.json \(title: Field required\)")
    with pytest.raises(ReleaseError, match="is a folder and has no revision"):
        dataset_folder(str(referred), "main")
    assert not (tmp_path / "out").exists()


def without(table: pa.Table, *names: str) -> pa.Table:
    """A table without some columns, neither of its own nor of its traits."""
    if "traits" in table.column_names:
        rows = table["traits"].to_pylist()
        fields = [field for field in table.schema.field("traits").type.value_type if field.name not in names]
        traits = pa.array(rows, pa.list_(pa.struct(fields)))  # pyright: ignore[reportArgumentType]
        table = table.set_column(table.column_names.index("traits"), "traits", traits)
    return table.drop_columns([name for name in names if name in table.column_names])


def test_columns_that_came_with_a_later_version_are_null_and_others_are_missed(world, tmp_path):
    older = Path(shutil.copytree(world[2] / "referred", tmp_path / "older"))
    tables = {path: pq.read_table(path) for path in older.glob("data/*/*.parquet")}
    for path, table in tables.items():
        pq.write_table(without(table, "review_score", "review_sheet", "reviewed", "n_raters", "part_source"), path)
    done = rehydrate(older, tmp_path / "dataset", photographs=world[0].root, connections=1, workers=1)
    assert not done.missing
    for config, split in ROWS.items():
        assert table_of(tmp_path / "dataset", config, split).equals(
            table_of(world[2] / "embedded/dataset", config, split)
        )
    for path, table in tables.items():
        pq.write_table(without(table, "polygons"), path)
    with pytest.raises(ReleaseError, match="of this version of sae-traits or an earlier one"):
        rehydrate(older, tmp_path / "other", photographs=world[0].root, connections=1, workers=1)


def test_without_any_image_nothing_is_written(world, tmp_path):
    (tmp_path / "empty").mkdir()
    done = rehydrated(world, tmp_path, photographs=tmp_path / "empty")
    assert done.summary is None
    assert len(done.missing) == len(world[0].images)
    assert not (tmp_path / "dataset").exists()


def test_the_command_says_what_is_there_and_what_is_not(world, server, tmp_path, capsys):
    referred, out = str(world[2] / "referred"), str(tmp_path / "dataset")
    server.faults = {world[0].images[2].file: ["gone"]}
    assert main(["rehydrate", referred, out, "--allow-private-addresses", "--format", "json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["n_images"], said["n_rehydrated"], len(said["missing"])) == (7, 6, 1)
    assert main(["rehydrate", referred, out, "--photographs", str(world[0].root)]) == 0
    assert capsys.readouterr().out == f"{out}: 7 of 7 images have their image\n"
    run = tmp_path / "run"
    shutil.copytree(referred, run / "dataset")
    (run / "config.yaml").touch()
    assert main(["rehydrate", str(run), out, "--photographs", str(world[0].root)]) == 0
    assert capsys.readouterr().out == f"{out}: 7 of 7 images have their image\n"
    assert main(["rehydrate", str(tmp_path / "dataset"), out + "2"]) == 1
    assert "was not released with --images reference" in capsys.readouterr().err
    assert main(["rehydrate", referred, out, "--connections", "0"]) == 2
    assert capsys.readouterr().err == "sae-traits rehydrate: connections must lie between 1 and 64, not 0\n"
    assert main(["rehydrate", "no/such/folder", out]) == 1
    assert "cannot read the dataset" in capsys.readouterr().err
