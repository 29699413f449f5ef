"""The dataset folder: what `load_dataset` gives back, boxes in the right pixels, the same bytes, nothing half done."""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from release.small_releases import PROVENANCE

from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.images.decode import open_image
from sae_traits.images.pictures import PictureCache, released_picture
from sae_traits.release.cards import ENDS
from sae_traits.release.dataset import MAX_PREVIEWS, write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import DatasetFacts, DatasetSummary
from sae_traits.release.loading import Released, load_traits
from sae_traits.release.rows import SourceImage
from sae_traits.release.tables import (
    COLUMNS,
    CONFIG_NAMES,
    Images,
    caption_row,
    columns,
    default_row,
    features,
    image_row,
    latent_row,
    preview_row,
    scale_region,
)
from sae_traits.schema import (
    Attribute,
    Candidate,
    Caption,
    ChosenLatent,
    Collection,
    Contrast,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Taxon,
    Trait,
)
from sae_traits.vocabulary import Split

BLUE = (20, 60, 200)
CAPTIONS = [
    Caption(
        image=row,
        text=f"{species} with a blue area.",
        context_page=page,
        describer="server",
        describer_model="m@1",
        prompt="caption-1",
    )
    for row, species, page in ((1, "Aus bus", None), (3, "Aus cus", "Aus"))
]


def record_of(path: Path, root: Path, species: str, split: Split, **rights: str | None) -> ImageRecord:
    size = open_image(path).size
    return ImageRecord(
        image_id=path.stem,
        file=path.relative_to(root).as_posix(),
        taxon=Taxon(class_="Insecta", genus=species.split()[0], species=species),
        split=split,
        width=size[0],
        height=size[1],
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        license=rights.get("license", "CC BY 4.0"),
        rights_holder=rights.get("rights_holder", "A. Naturalist"),
    )


def contrast_of(q_value: float, significant: bool) -> Contrast:
    return Contrast(
        f_species=0.8,
        f_reference=0.1,
        effect=2.5,
        q_value=q_value,
        significant=significant,
        reference_rank="genus",
    )


def trait_of(row: int, record: ImageRecord, latent: int, box: Sequence[float], **changes: float | None) -> Trait:
    x, y, width, height = (float(v) for v in box)
    contrast = contrast_of(math.nan if latent == 3 else 0.01, latent != 3)
    return Trait(
        trait_id=f"{record.image_id}-{latent}",
        candidate=Candidate(image=row, latent=latent, patches=(1, 2), peak=1.5, contrast=contrast),
        region=Region(
            box=(x, y, width, height),
            polygons=((x, y, x + width, y, x + width, y + height, x, y + height),),
            patches=(1, 2),
            area_fraction=width * height / (record.width * record.height),
        ),
        description=Description(text="A small blue area.", attributes=(Attribute("colour", "blue"),)),
        measurement=Measurement(
            length_px=max(width, height),
            width_px=min(width, height),
            elongation=max(width, height) / min(width, height),
            texture_contrast=3.0,
            color_lab=(50.0, 10.0, -40.0),
            color_name="blue",
        ).with_scale(changes.get("mm_per_pixel")),
        describer=PROVENANCE.describer,
        describer_model=PROVENANCE.describer_model,
        prompt=PROVENANCE.prompt,
    )


def painted(size: tuple[int, int], box: tuple[int, int, int, int], seed: int) -> Image.Image:
    """Noise with a blue box."""
    pixels = np.random.default_rng(seed).integers(150, 200, (size[1], size[0], 3)).astype(np.uint8)
    x, y, width, height = box
    pixels[y : y + height, x : x + width] = BLUE
    return Image.fromarray(pixels)


def save_jpeg(image: Image.Image, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95, **options)  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collection, list[Trait], list[ChosenLatent]]:
    """Four images: a large photograph, a small PNG, a photograph that is stored turned, and one without traits."""
    root = tmp_path_factory.mktemp("collection")
    large = save_jpeg(painted((700, 500), (140, 200, 210, 100), 1), root / "Aus_bus" / "large.jpg")
    small = root / "Aus_bus" / "small.png"
    painted((80, 60), (8, 6, 40, 20), 2).save(small)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = save_jpeg(
        painted((300, 600), (30, 60, 90, 240), 3).rotate(90, expand=True), root / "Aus_cus" / "turned.jpg", exif=exif
    )
    bare = save_jpeg(painted((120, 90), (0, 0, 9, 9), 4), root / "Aus_cus" / "bare.jpg")
    records = (
        record_of(large, root, "Aus bus", "train"),
        record_of(small, root, "Aus bus", "test", license=None, rights_holder=None),
        record_of(turned, root, "Aus cus", "train"),
        record_of(bare, root, "Aus cus", "train"),
    )
    traits = [
        trait_of(0, records[0], 3, (140, 200, 210, 100)),
        trait_of(0, records[0], 7, (0, 0, 700, 500), mm_per_pixel=0.1),
        trait_of(1, records[1], 7, (8, 6, 40, 20)),
        trait_of(2, records[2], 9, (30, 60, 90, 240)),
    ]
    latents = [
        ChosenLatent(
            species="Aus bus", latent=n, threshold=0.4, contrast=contrast_of(0.01, True), n_fired=3, n_individuals=4
        )
        for n in (3, 7)
    ]
    return Collection(root, records), traits, latents


def write(
    folder: Path,
    world,
    *,
    longest_side: int = 256,
    images: Images = "embed",
    shard_megabytes: int = 64,
    workers: int = 2,
    cache: PictureCache | None = None,
) -> DatasetSummary:
    collection, traits, latents = world
    summary = write_dataset(
        folder,
        collection,
        iter(traits),
        latents,
        iter(CAPTIONS),
        sae="org/sae@0123",
        config=ReleaseConfig(longest_side=longest_side, images=images, shard_megabytes=shard_megabytes),
        workers=workers,
        cache=cache,
    )
    facts = DatasetFacts(title="Beetles", sae="org/sae@0123", longest_side=longest_side, provenance=PROVENANCE)
    write_dataset_card(folder, summary, facts)
    return summary


@pytest.fixture(scope="module")
def dataset(world, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "dataset"
    write(folder, world)
    return folder


def rows_of(folder: Path, config: str, split: str) -> list[dict]:
    files = sorted((folder / "data" / config).glob(f"{split}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def decode(row: dict) -> Image.Image:
    return Image.open(io.BytesIO(row["image"]["bytes"]))


def test_a_fresh_interpreter_offline_loads_every_config_with_the_declared_features(dataset, tmp_path):
    code = f"""
from datasets import load_dataset
from sae_traits.release.tables import CONFIG_NAMES, features
loaded = {{config: load_dataset({str(dataset)!r}, config) for config in CONFIG_NAMES}}
assert all(split.features == features(config) for config in loaded for split in loaded[config].values())
assert {{c: {{s: len(t) for s, t in loaded[c].items()}} for c in loaded}} == {{
    "default": {{"train": 3, "test": 1}}, "traits": {{"train": 3, "test": 1}}, "images": {{"train": 3, "test": 1}},
    "captions": {{"train": 1, "test": 1}}, "latents": {{"train": 2}}, "preview": {{"train": 2, "test": 1}}}}
assert load_dataset({str(dataset)!r}).keys() == loaded["default"].keys()
for config in ("default", "preview", "images"):
    for split in loaded[config].values():
        for row in split:
            assert row["image"].mode == "RGB" and row["image"].size[0] > 0, row
image = loaded["images"]["train"][0]
assert [t["latent"] for t in image["traits"]] == [3, 7], image
assert loaded["default"]["train"][0]["attributes"] == [{{"name": "colour", "value": "blue"}}]
print("loaded")
"""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "loaded", done.stderr


def test_the_snippet_of_the_card_runs(dataset, tmp_path):
    snippet = (dataset / "README.md").read_text().split("```python\n")[1].split("```")[0]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        env=environment,
        cwd=dataset.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    first, count = done.stdout.splitlines()
    assert first.startswith("Aus bus A small blue area. [51.2")
    assert count == "2 of 3"


@pytest.mark.parametrize(("config", "split"), [("default", "train"), ("default", "test")])
def test_boxes_and_outlines_lie_on_what_was_painted_in_the_row_s_own_image(dataset, config, split):
    for row in rows_of(dataset, config, split):
        image = decode(row)
        assert max(image.size) <= 256
        x, y, width, height = row["box"]
        assert min(x, y) >= 0
        assert x + width <= image.width + 1e-3
        assert y + height <= image.height + 1e-3
        (ring,) = row["polygons"]
        assert (min(ring[::2]), min(ring[1::2])) == (x, y)
        assert max(ring[::2]) - min(ring[::2]) == pytest.approx(width, abs=1e-3)
        if row["trait_id"] == "large-7":  # the whole image
            assert (width, height) == pytest.approx(image.size)
            continue
        pixels = np.asarray(image).astype(int)
        inside = pixels[math.ceil(y) + 1 : int(y + height) - 1, math.ceil(x) + 1 : int(x + width) - 1]
        blue = np.abs(pixels - BLUE).max(axis=2) < 30
        assert np.abs(inside - BLUE).max() < 30
        assert blue.sum() == pytest.approx(width * height, rel=0.1)


def test_images_keep_their_pixels_and_plain_files_their_bytes(dataset, world):
    collection = world[0]
    rows = {row["image_id"]: row for split in ("train", "test") for row in rows_of(dataset, "images", split)}
    assert set(rows) == {"large", "small", "turned", "bare"}
    for record in collection.images:
        row = rows[record.image_id]
        source = open_image(collection.path(record))
        assert np.array_equal(np.asarray(decode(row)), np.asarray(source))
        kept = row["image"]["bytes"] == collection.path(record).read_bytes()
        assert kept == (record.image_id != "turned")
    assert rows["bare"]["traits"] == []
    assert rows["large"]["traits"][0]["box"] == [140, 200, 210, 100]
    assert rows["small"]["license"] is None
    assert rows["large"]["rights_holder"] == "A. Naturalist"
    assert rows["large"]["class"] == "Insecta"
    assert rows["large"]["source_id"] == "Aus_bus/large.jpg"


def test_what_is_unknown_is_null(dataset):
    untested, scaled = rows_of(dataset, "default", "train")[:2]
    assert untested["q_value"] is None
    assert untested["length_mm"] is None
    assert untested["part"] is None
    assert untested["family"] is None
    assert scaled["q_value"] == pytest.approx(0.01)
    assert scaled["length_mm"] == pytest.approx(70)
    assert scaled["sae"] == "org/sae@0123"


def test_every_column_of_every_row_is_filled_by_name(world):
    collection, traits, latents = world
    record, size = collection.images[0], (350, 250)
    made = {
        "default": default_row(record, traits[0], size, "sae"),
        "traits": default_row(record, traits[0], size, "sae"),
        "images": image_row(record, traits[:2], "sae"),
        "captions": caption_row(record, CAPTIONS[0]),
        "latents": latent_row(latents[0], "sae"),
        "preview": preview_row(record, traits[0], size),
    }
    for config in CONFIG_NAMES:
        assert set(made[config]) == {c.name for c in columns(config, "reference")}
        assert {c.name for c in columns(config, "embed")} ^ set(made[config]) <= {"image", "width", "height"}
    assert list(features("default")) == [c.name for c in COLUMNS["default"]]
    assert "class" in features("default")


def test_captions_are_joined_to_their_images(dataset):
    captions_of = Released.open(str(dataset)).captions
    assert captions_of("train") == {"bare": "Aus cus with a blue area."}
    assert captions_of("test") == {"small": "Aus bus with a blue area."}
    assert captions_of("validation") == {}
    (row,) = load_traits(dataset, split="train", config="captions")
    assert (row["species"], row["context_page"], row["license"]) == ("Aus cus", "Aus", "CC BY 4.0")


def test_captions_in_another_order_are_refused(world, tmp_path):
    collection, traits, latents = world
    config = ReleaseConfig(images="reference")
    with pytest.raises(ValueError, match="captions are not in the order of the images"):
        write_dataset(tmp_path / "d", collection, traits, latents, CAPTIONS[::-1], sae=None, config=config, workers=1)


def test_a_small_plain_file_is_not_encoded_again(dataset, world):
    (row,) = rows_of(dataset, "default", "test")
    assert row["image"]["bytes"] == world[0].path(world[0].images[1]).read_bytes()
    assert row["image"]["path"] == "small.png"


def test_a_repeated_image_is_stored_once_a_group(tmp_path, world):
    collection, traits, latents = world
    many = [replace(traits[0], trait_id=f"large-{n}") for n in range(40)]
    write(tmp_path / "one", (collection, traits[:1], latents), longest_side=700)
    write(tmp_path / "many", (collection, many, latents), longest_side=700)
    one, forty = (next((tmp_path / n / "data/default").iterdir()).stat().st_size for n in ("one", "many"))
    assert len(rows_of(tmp_path / "many", "default", "train")) == 40
    assert forty < 1.2 * one


def test_the_same_input_gives_the_same_bytes_with_any_number_of_workers(dataset, world, tmp_path):
    again = tmp_path / "dataset"
    write(again, world, workers=1)
    files = sorted(path.relative_to(dataset) for path in dataset.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [Path(f).name for f in files if f.parent.name == "default"] == [
        "test-000000000000-000.parquet",
        "train-000000000000-000.parquet",
    ]
    for file in files:
        assert (dataset / file).read_bytes() == (again / file).read_bytes(), file


def test_writing_again_replaces_the_earlier_dataset_and_leaves_nothing_beside_it(world, tmp_path):
    folder = tmp_path / "dataset"
    collection, traits, latents = world
    write(folder, world)
    summary = write(folder, (collection, traits[:2], latents))
    assert summary.rows["default"] == {"train": 2}
    assert not list((folder / "data/default").glob("test*"))
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_the_summary_counts_what_was_written(world, tmp_path):
    summary = write(tmp_path / "dataset", world)
    assert (summary.n_traits, summary.n_images, summary.n_species, summary.n_described) == (4, 4, 2, 3)
    assert (summary.n_significant, summary.n_latents) == (3, 3)
    assert summary.reference_ranks == {"genus": 4}
    assert [(r.license, r.n_images) for r in summary.rights] == [("CC BY 4.0", 3), (None, 1)]


def test_previews_are_spread_evenly_over_the_species(world, tmp_path):
    collection, _, latents = world
    species = [f"Aus s{n:03d}" for n in range(90)]
    records, many = [], []
    for n in range(90 * 4):
        original = collection.images[1]
        record = replace(original, image_id=f"s{n}", taxon=Taxon(genus="Aus", species=species[n % 90]))
        records.append(record)
        many.append(trait_of(n, record, 7, (8, 6, 40, 20)))
    write(tmp_path / "dataset", (Collection(collection.root, tuple(records)), many, latents))
    shown = [row["species"] for row in rows_of(tmp_path / "dataset", "preview", "test")]
    assert len(shown) <= MAX_PREVIEWS
    assert sorted(shown) == sorted(species * 2)


def test_a_preview_shows_the_outline_where_the_region_is(dataset, world):
    row = next(r for r in rows_of(dataset, "preview", "train") if r["image_id"] == "turned")
    image = decode(row)
    assert image.size == (256, 512)
    x, y, width, height = scale_region(world[1][3].region, (300, 600), (256, 512)).box
    orange_y, orange_x = np.nonzero(np.abs(np.asarray(image).astype(int) - (230, 159, 0)).max(axis=2) < 40)
    found = [orange_x.min(), orange_y.min(), orange_x.max(), orange_y.max()]
    assert found == pytest.approx([x, y, x + width, y + height], abs=4)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA"])
def test_other_kinds_of_images_become_plain_rgb_without_losing_a_pixel(mode, tmp_path):
    image = painted((60, 40), (5, 5, 20, 20), 7).convert(mode)
    path = tmp_path / f"image{'.tif' if mode == 'CMYK' else '.png'}"
    image.save(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    source = SourceImage(path, sha256=sha256, size=image.size, name="image")
    kept = Image.open(io.BytesIO(source.at_source_size()["image"]["bytes"]))
    assert (kept.format, kept.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(kept), np.asarray(open_image(path)))
    reduced = Image.open(io.BytesIO(source.reduced(30)["image"]["bytes"]))
    assert (reduced.format, reduced.size) == ("JPEG", (30, 20))


def source_image(path: Path, suffix: str = "PNG", **options) -> SourceImage:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, suffix, **options)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return SourceImage(path, sha256=sha256, size=(64, 48), name=path.stem)


@pytest.mark.parametrize("exif", [b"garbage", b"II", b"Exif\0\0MM"])
def test_a_picture_whose_metadata_nobody_can_read_is_released_without_them(tmp_path, exif):
    source = source_image(tmp_path / "a.png", exif=exif)
    released = source.at_source_size()["image"]["bytes"]
    assert exif not in released
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(released))), np.asarray(open_image(source.path)))


def test_colours_of_another_profile_are_released_as_the_run_saw_them(tmp_path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    plain = source_image(tmp_path / "plain.png", icc_profile=bytes(profile))
    assert plain.at_source_size()["image"]["bytes"] == plain.data
    red, green = (
        profile.index(primary, 200) for primary in (profile_tag(profile, b"rXYZ"), profile_tag(profile, b"gXYZ"))
    )
    profile[red : red + 20], profile[green : green + 20] = profile[green : green + 20], profile[red : red + 20]
    source = source_image(tmp_path / "wide.png", icc_profile=bytes(profile))
    seen = np.asarray(open_image(source.path))
    assert not np.array_equal(seen, np.asarray(Image.open(source.path)))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(source.at_source_size()["image"]["bytes"]))), seen)


def profile_tag(profile: bytearray, name: bytes) -> bytes:
    """The content of a tag of an ICC profile."""
    for n in range(int.from_bytes(profile[128:132])):
        tag = profile[132 + 12 * n :][:12]
        if tag[:4] == name:
            begin = int.from_bytes(tag[4:8])
            return bytes(profile[begin : begin + int.from_bytes(tag[8:])])
    raise KeyError(name)


PLACE = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:GPSLatitude="12,34.5N" exif:GPSLongitude="1,2.3E"/>
</rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "zipped PNG"])
def test_where_a_photograph_was_taken_is_not_released_from_its_xmp_either(tmp_path, suffix):
    options = {"xmp": PLACE}
    if suffix != "JPEG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", PLACE.decode(), zip=suffix == "zipped PNG")
    source = source_image(tmp_path / "a", suffix.split()[-1], **options)
    assert "GPSLatitude" in str(Image.open(source.path).info)
    for row in (source.at_source_size(), source.reduced(100)):
        assert "GPSLatitude" not in str(Image.open(io.BytesIO(row["image"]["bytes"])).info)


def test_a_region_scales_along_each_axis():
    region = Region(box=(10, 20, 30, 40), polygons=((10, 20, 40, 20, 40, 60),), patches=(0,), area_fraction=0.1)
    scaled = scale_region(region, (100, 100), (50, 200))
    assert scaled.box == (5, 40, 15, 80)
    assert scaled.polygons == ((5, 40, 20, 40, 20, 120),)


def test_a_changed_or_missing_image_is_named_and_the_earlier_dataset_stays(world, tmp_path):
    collection, traits, latents = world
    folder = tmp_path / "dataset"
    write(folder, world)
    before = (folder / "README.md").read_bytes()
    other = replace(collection.images[0], sha256="0" * 64)
    changed = Collection(collection.root, (other, *collection.images[1:]))
    with pytest.raises(ReleaseError, match=r"large\.jpg has changed"):
        write(folder, (changed, traits, latents))
    missing = Collection(tmp_path / "nowhere", collection.images)
    with pytest.raises(ReleaseError, match=r"cannot read .*large\.jpg: No such file"):
        write(folder, (missing, traits, latents))
    assert (folder / "README.md").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_without_a_trait_there_is_no_dataset(world, tmp_path):
    collection, _, latents = world
    with pytest.raises(ReleaseError, match="no image has a trait"):
        write(tmp_path / "dataset", (collection, [], latents))
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_half_written_is_not_in_the_way(world, tmp_path):
    for name in ("README.md.4711.partial", "release.json.12.partial"):
        (tmp_path / "dataset").mkdir(exist_ok=True)
        (tmp_path / "dataset" / name).write_text("half of it")
    write(tmp_path / "dataset", world)
    assert not list((tmp_path / "dataset").glob("*.partial"))
    assert (tmp_path / "dataset" / "README.md").is_file()


@pytest.mark.parametrize("name", [".git", "notes.txt", "data/extra", "notes.txt.12.partial", "README.md.partial"])
def test_a_folder_with_other_files_is_not_replaced(world, tmp_path, name):
    mine = tmp_path / "dataset" / name
    mine.mkdir(parents=True)
    with pytest.raises(ReleaseError, match="not part of a dataset"):
        write(tmp_path / "dataset", world)
    assert mine.is_dir()


def test_a_folder_that_cannot_be_written_is_one_clear_error(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleaseError, match="cannot write"):
        write(tmp_path / "file" / "dataset", world)


def test_a_disk_that_takes_no_more_is_one_clear_error_and_leaves_nothing(world, tmp_path):
    (tmp_path / "world.pickle").write_bytes(pickle.dumps(world))
    code = """
import pickle, resource, sys
from pathlib import Path
from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.release.cards import ENDS
from sae_traits.release.dataset import write_dataset
folder = Path(sys.argv[1])
collection, traits, latents = pickle.loads((folder / "world.pickle").read_bytes())
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    write_dataset(folder / "dataset", collection, traits, latents, sae="s", config=ReleaseConfig(), workers=2)
except ReleaseError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == (
        f"cannot write {tmp_path / 'dataset'}: File too large; make room or choose another folder, and run again\n"
    ), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["world.pickle"]


def test_traits_in_another_order_are_refused(world, tmp_path):
    collection, traits, latents = world
    with pytest.raises(ValueError, match="not in the order of the images"):
        write(tmp_path / "dataset", (collection, traits[::-1], latents))
    assert not list(tmp_path.iterdir())


def test_all_configs_have_columns():
    assert set(COLUMNS) == set(CONFIG_NAMES)


def test_the_card_documents_every_column_of_every_config(dataset):
    card = (dataset / "README.md").read_text()
    for config in CONFIG_NAMES:
        section = card.split(f"### `{config}`")[1].split("###")[0].split("\n## ")[0]
        cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
        documented = [name for name, *_ in cells[2:]]
        assert documented == list(features(config))
        assert all(len(meaning) > 5 for *_, meaning in cells[2:])


def test_pictures_that_have_been_made_are_not_made_again(world, tmp_path):
    collection = world[0]
    large, small = collection.images[:2]
    with PictureCache(tmp_path / "pictures.sqlite") as cache:
        marked = {side: released_picture(Image.new("RGB", (700, 500), (side % 256, 9, 9)), side) for side in (256, 512)}
        for side, picture in marked.items():
            cache.put(large.sha256, side, picture)
        write(tmp_path / "dataset", world, cache=cache)
        assert cache.get(small.sha256, 256) is None, "a small plain file is its own picture"
        assert cache.get(collection.images[2].sha256, 256) is not None
    row = next(row for row in rows_of(tmp_path / "dataset", "default", "train") if row["image_id"] == "large")
    assert row["image"]["bytes"] == marked[256]
    (shown,) = (row for row in rows_of(tmp_path / "dataset", "preview", "train") if row["image_id"] == "large")
    assert decode(shown).size == (512, 366)
    assert decode(shown).getpixel((2, 2))[0] < 12, "drawn on the picture of 512 pixels"


def test_without_and_with_pictures_kept_the_bytes_are_the_same(dataset, world, tmp_path):
    with PictureCache(tmp_path / "pictures.sqlite") as cache:
        for _ in range(2):
            write(tmp_path / "dataset", world, cache=cache)
            for file in sorted(path for path in dataset.rglob("*") if path.is_file()):
                assert (tmp_path / "dataset" / file.relative_to(dataset)).read_bytes() == file.read_bytes(), file


def test_everything_that_is_measured_is_a_column_of_the_dataset_and_of_the_card(dataset):
    card = (dataset / "README.md").read_text()
    for name in Measurement.__dataclass_fields__:
        assert name in features("default")
        assert name in features("images")["traits"].feature
        assert f"| {name} | " in card


def test_before_its_card_is_written_a_dataset_loads_and_keeps_what_a_person_wrote(world, tmp_path):
    from datasets import load_dataset

    collection, traits, latents = world
    card = tmp_path / "dataset" / "README.md"
    write(tmp_path / "dataset", world)
    card.write_text(card.read_text().replace(ENDS, f"Ann, at the museum.\n{ENDS}"))
    config = ReleaseConfig(longest_side=256)
    write_dataset(tmp_path / "dataset", collection, traits, latents, sae="s", config=config, workers=1)
    assert "Ann, at the museum." in card.read_text()
    assert "# Beetles" not in card.read_text()
    loaded = load_dataset(str(tmp_path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["sae"] == ["s"] * 3
    write(tmp_path / "dataset", world)
    assert f"Ann, at the museum.\n{ENDS}" in card.read_text()
    assert "# Beetles" in card.read_text()
