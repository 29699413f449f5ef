"""Reading sparse codes: a table of firings is split into images, and images into latents."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_traits.errors import StoreError
from sae_traits.traits.codes import (
    CODE_SCHEMA,
    INDEX_FILE,
    THRESHOLDS_FILE,
    Codes,
    firings_of,
    images_of,
    probabilities_of,
)

N_LATENTS = 6
firings = st.sets(st.tuples(st.integers(0, 4), st.integers(0, N_LATENTS - 1), st.integers(0, 8)))


def table_of(fired):
    """Firings (image, latent, patch) as a part of codes has them; the value says which firing it is."""
    rows = sorted(fired)
    columns = [[row[i] for row in rows] for i in range(3)]
    return pa.table([*columns, list(map(float, range(len(rows))))], schema=CODE_SCHEMA)


@given(firings)
def test_a_table_is_split_into_images_and_their_latents(fired):
    background = {1: np.zeros(9, np.float32)}
    found = list(images_of(table_of(fired), background, knows_organism=True))
    assert [record.image for record in found] == sorted({image for image, _, _ in fired})
    again, values = [], []
    for record in found:
        assert record.background is background.get(record.image)
        assert record.knows_organism
        latents = [latent for latent, _, _ in record.groups()]
        assert latents == sorted(set(latents))
        for latent, patches, of_patches in record.groups():
            again += [(record.image, latent, patch) for patch in patches.tolist()]
            values += of_patches.tolist()
    assert again == sorted(fired)
    assert values == list(range(len(fired)))


@given(firings)
def test_firings_are_counted_per_image_in_which_something_fired(fired):
    images, counts = firings_of(table_of(fired), N_LATENTS)
    assert images.tolist() == sorted({image for image, _, _ in fired})
    expected = [
        [sum((i, z) == (image, latent) for i, z, _ in fired) for latent in range(N_LATENTS)] for image in images
    ]
    assert counts.toarray().tolist() == expected


def test_a_stored_probability_that_is_not_known_is_nan():
    assert probabilities_of(np.array([0, 127, 254], np.uint8)).tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(probabilities_of(np.array([255], np.uint8))).all()


def test_reading_codes_and_shares_of_firings_needs_no_torch():
    program = "import sys, sae_traits.traits.codes, sae_traits.traits.firing_shares; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def folder_of(tmp_path, **others):
    """Codes of two parts with one firing each."""
    for number in range(2):
        pq.write_table(table_of({(number, 2, 3)}), tmp_path / f"part-{number}.parquet")
    pq.write_table(pa.table({"threshold": np.ones(N_LATENTS, np.float32)}), tmp_path / THRESHOLDS_FILE)
    index = {"n_images": 2, "n_latents": N_LATENTS, "parts": ["part-0.parquet", "part-1.parquet"], **others}
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    return tmp_path


def test_some_parts_can_be_read_alone(tmp_path):
    codes = Codes.open(folder_of(tmp_path))
    assert (codes.n_latents, codes.n_images) == (N_LATENTS, 2)
    assert [record.image for record in codes.images()] == [0, 1]
    assert [record.image for record in codes.only(range(1, 2)).images()] == [1]
    assert [images.tolist() for images, _ in codes.firing_counts()] == [[0], [1]]


def test_a_folder_without_codes_is_explained(tmp_path):
    with pytest.raises(StoreError, match="sae-traits annotate"):
        Codes.open(tmp_path)


BACKGROUNDS = ["background-0.parquet", "background-1.parquet"]


def with_backgrounds(tmp_path):
    """The folder with what is known of the backgrounds of each part's image: all its patches are like its number."""
    for number, name in enumerate(BACKGROUNDS):
        stored = pa.array([[127 * number] * 9], pa.list_(pa.uint8()))
        pq.write_table(pa.table({"image": pa.array([number], pa.int32()), "background": stored}), tmp_path / name)
    folder = folder_of(tmp_path, backgrounds=BACKGROUNDS)
    places = {name: np.zeros(N_LATENTS) for name in ("usual_x", "usual_y")}
    columns = {"threshold": np.ones(N_LATENTS, np.float32), "background": np.zeros(N_LATENTS, np.float32), **places}
    pq.write_table(pa.table(columns), folder / THRESHOLDS_FILE)
    return folder


def test_parts_that_are_read_alone_have_their_own_backgrounds(tmp_path):
    codes = Codes.open(with_backgrounds(tmp_path))
    assert [record.background.tolist() for record in codes.images()] == [[0.0] * 9, [0.5] * 9]
    assert [record.background.tolist() for record in codes.only(range(1, 2)).images()] == [[0.5] * 9]


@pytest.mark.parametrize("name", ["part-1.parquet", "background-1.parquet", THRESHOLDS_FILE])
def test_a_file_that_is_gone_is_named(tmp_path, name):
    (with_backgrounds(tmp_path) / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing; run `sae-traits annotate` again"):
        Codes.open(tmp_path)


@pytest.mark.parametrize("name", [INDEX_FILE, "part-1.parquet", "background-1.parquet", THRESHOLDS_FILE])
def test_a_file_that_is_damaged_is_named(tmp_path, name):
    path = with_backgrounds(tmp_path) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StoreError, match=f"{name} (is damaged|cannot be read)"):
        list(Codes.open(tmp_path).images())
