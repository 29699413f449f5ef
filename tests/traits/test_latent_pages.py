"""What a latent stands for: its strongest images against a plain search, its statistics, and pictures of both."""

import csv
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_traits import record_of
from PIL import Image

from sae_traits.describers.overlay import ORANGE
from sae_traits.errors import ConfigError
from sae_traits.geometry import Framing
from sae_traits.images.decode import open_image
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.traits.chosen import DroppedLatent, choose_latents
from sae_traits.traits.codes import CODE_SCHEMA, Codes
from sae_traits.traits.contrast import specimen_contrast
from sae_traits.traits.latent_pages import IMAGE_COLUMNS, STATISTICS_COLUMNS, latent_pages, write_latent_pages
from sae_traits.traits.species_counts import count_firings

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
N_LATENTS, N_IMAGES, EVERYWHERE_LATENT = 6, 30, 5
THRESHOLDS = np.linspace(0.1, 0.6, N_LATENTS, dtype=np.float32)


def fired_rows(seed=0):
    """(image, latent, patch, value), sorted; latent 0 marks Gen a, 1 Gen b, 5 fires in all, 4 nowhere."""
    draw = np.random.default_rng(seed)
    rows = []
    for record in range(N_IMAGES):
        latents = {0 if record % 2 else 1, EVERYWHERE_LATENT, *(z for z in (2, 3) if draw.random() < 0.4)}
        for latent in sorted(latents):
            patches = np.sort(draw.choice(16, size=int(draw.integers(1, 6)), replace=False))
            # few different values, so that there are ties
            rows += [(record, latent, int(p), float(draw.integers(2, 12)) / 4) for p in patches]
    return rows


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """In three parts."""
    folder = tmp_path_factory.mktemp("codes")
    rows = fired_rows()
    parts = []
    for number in range(3):
        part = [r for r in rows if r[0] * 3 // N_IMAGES == number]
        columns = [pa.array(c).cast(f.type) for c, f in zip(zip(*part, strict=True), CODE_SCHEMA, strict=True)]
        parts.append(f"part-{number:05d}.parquet")
        pq.write_table(pa.Table.from_arrays(columns, schema=CODE_SCHEMA), folder / parts[-1])
    return Codes(folder, THRESHOLDS, N_IMAGES, tuple(parts))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    records = [record_of(row, "Gen a" if row % 2 else "Gen × b", size=(160, 120)) for row in range(N_IMAGES)]
    for record in records:
        Image.new("RGB", (160, 120), (40, 90, 60)).save(root / record.file)
    return Collection(root, tuple(records))


@pytest.fixture(scope="module")
def chosen(codes, collection):
    records = collection.images
    counts = count_firings(
        codes.firing_counts(), [r.taxon for r in records], [r.individual_id for r in records], N_LATENTS
    )
    return choose_latents(
        specimen_contrast(counts), THRESHOLDS, (DroppedLatent(EVERYWHERE_LATENT, "fires in 100 % of all"),)
    )


def opener(collection):
    return lambda record: open_image(collection.path(record))


def pages_of(codes, chosen, collection, **options):
    return {page.latent: page for page in latent_pages(codes, chosen, collection, INFO, **options)}


@pytest.mark.parametrize("n_strongest", [1, 4, 100])
def test_the_strongest_images_are_those_of_a_plain_search(codes, chosen, collection, n_strongest):
    pages = pages_of(codes, chosen, collection, latents=range(N_LATENTS), n_strongest=n_strongest)
    rows = fired_rows()
    for latent, page in pages.items():
        peaks = {}
        for record, z, _, value in rows:
            if z == latent:
                peaks[record] = max(peaks.get(record, 0.0), value)
        expected = sorted(peaks.items(), key=lambda pair: (-pair[1], pair[0]))[:n_strongest]
        assert [(s.record.image_id, s.activation) for s in page.strongest] == [(f"s{r}", v) for r, v in expected]
        assert page.n_fired == len(peaks)


def test_the_region_lies_on_the_patches_that_fired(codes, chosen, collection):
    fired = {}
    for record, latent, patch, _ in fired_rows():
        fired.setdefault((f"s{record}", latent), set()).add(patch)
    for page in pages_of(codes, chosen, collection).values():
        for found in page.strongest:
            assert found.region.patches
            assert set(found.region.patches) <= fired[found.record.image_id, page.latent]
            grid = INFO.grid((160, 120))
            assert found.region.box[0] == min(grid.box(p)[0] for p in found.region.patches)


def test_an_individual_counts_once_and_shows_its_strongest_image(codes, chosen, collection):
    """Images of an individual are in different parts of the codes."""
    records = [replace(record, individual_id=f"{row % 7}") for row, record in enumerate(collection.images)]
    grouped = Collection(collection.root, tuple(records))
    for latent, page in pages_of(codes, chosen, grouped, latents=range(N_LATENTS), n_strongest=5).items():
        best = {}
        for row, z, _, value in fired_rows():
            if z == latent:
                best[row % 7] = max(best.get(row % 7, (0.0, 0)), (value, -row))
        expected = sorted(best.values(), reverse=True)[:5]
        assert [(s.activation, -int(s.record.image_id[1:])) for s in page.strongest] == expected
        assert page.n_fired == len(best)


def test_chosen_latents_come_with_their_contrast(codes, chosen, collection):
    pages = pages_of(codes, chosen, collection)
    assert sorted(pages) == sorted({z for own in chosen.values() for z in own})
    choice = pages[0].chosen[0]
    assert choice == chosen["Gen a"][0]
    row = pages[0].statistics_rows()[0]
    assert (row["species"], row["f_species"], row["f_reference"]) == ("Gen a", 1.0, 0.0)
    assert (row["n_fired"], row["n_individuals"], row["n_fired_in_all"]) == (15, 15, 15)
    assert row["threshold"] == pytest.approx(0.1)


def test_a_latent_that_describes_no_species_says_why(codes, chosen, collection):
    pages = pages_of(codes, chosen, collection, latents=[EVERYWHERE_LATENT, 4])
    assert "fires in 100 %" in pages[EVERYWHERE_LATENT].statistics_rows()[0]["dropped"]
    assert pages[4].statistics_rows()[0]["dropped"] == "chosen for no species"
    assert (pages[4].strongest, pages[4].n_fired) == ((), 0)


@pytest.mark.parametrize("latents", [[-1], [0, N_LATENTS]])
def test_a_latent_that_the_sae_does_not_have_is_refused(codes, chosen, collection, latents):
    with pytest.raises(ConfigError, match=f"latents 0 to {N_LATENTS - 1}"):
        pages_of(codes, chosen, collection, latents=latents)


def test_tables_and_contact_sheets_are_written(codes, chosen, collection, tmp_path):
    pages = latent_pages(codes, chosen, collection, INFO, latents=[0, 4], n_strongest=6)
    files = write_latent_pages(pages, opener(collection), tmp_path / "latents")
    assert [file.name for file in files] == ["latents.csv", "images.csv", "latent-00000.png"]
    statistics, records = (list(csv.DictReader(file.open(encoding="utf-8"))) for file in files[:2])
    assert tuple(statistics[0]) == STATISTICS_COLUMNS
    assert [row["latent"] for row in statistics] == ["0", "4"]
    assert statistics[1]["f_species"] == ""
    assert tuple(records[0]) == IMAGE_COLUMNS
    assert [row["rank"] for row in records] == list("123456")
    assert [float(row["activation"]) for row in records] == [s.activation for s in pages[0].strongest]
    box = tuple(float(records[0][name]) for name in ("x", "y", "width", "height"))
    assert box == pages[0].strongest[0].region.box
    sheet = np.asarray(Image.open(files[2]))
    row = 280 * 120 // 160 + 2 * 16 + 4 * 4  # the picture, two lines, and margins
    assert sheet.shape[:2] == (2 * row, 4 * 288)
    tiles = [sheet[:row, :288], sheet[:row, 288:576], sheet[row:, 288:576], sheet[row:, 576:864]]
    assert [bool((tile == ORANGE).all(axis=2).any()) for tile in tiles] == [True, True, True, False]


def test_the_outline_lies_where_the_region_is_in_the_reduced_image(codes, chosen, collection, tmp_path):
    (page,) = latent_pages(codes, chosen, collection, INFO, latents=[0], n_strongest=1)
    files = write_latent_pages([page], opener(collection), tmp_path)
    orange = (np.asarray(Image.open(files[2])) == ORANGE).all(axis=2)
    rows, columns = np.nonzero(orange)
    x, y, width, height = (value * 280 / 160 for value in page.strongest[0].region.box)
    assert columns.min() - 4 == pytest.approx(x, abs=4)
    assert columns.max() - 4 == pytest.approx(x + width, abs=4)
    assert rows.min() - 4 == pytest.approx(y, abs=4)
    assert rows.max() - 4 == pytest.approx(y + height, abs=4)


def test_an_image_that_is_gone_leaves_its_tile_with_the_reason(codes, chosen, collection, tmp_path):
    elsewhere = Collection(tmp_path / "gone", collection.images)
    (page,) = latent_pages(codes, chosen, elsewhere, INFO, latents=[0], n_strongest=2)
    files = write_latent_pages([page], opener(elsewhere), tmp_path)
    sheet = np.asarray(Image.open(files[2]).convert("L"))
    assert (sheet[:40, :280] < 128).any()
    assert not (np.asarray(Image.open(files[2])) == ORANGE).all(axis=2).any()
