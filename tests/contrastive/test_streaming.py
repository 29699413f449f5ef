"""Pictures that are read while training: order, memory, what is fetched from a Hub, and what is refused."""

import json
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage.commands import forks
from hub.loopback import client_environment, running_hub, subprocess_environment
from small_pairs import make_model, make_table
from streamed_data import noise_dataset, upload

from sae_traits.config.finetune import PairsConfig
from sae_traits.contrastive.samples import read_samples
from sae_traits.contrastive.windows import WindowedOrder
from sae_traits.errors import ReleaseError
from sae_traits.release.pictures import PictureGroup, StoredPicture, rows_with_places

SIZES = (7, 3, 12, 1, 9, 5, 8, 11)


def pictures_of(sizes=SIZES, n_bytes=100):
    groups = [PictureGroup("x", number, n, n * n_bytes) for number, n in enumerate(sizes)]
    return [StoredPicture(group, row) for group in groups for row in range(group.n_rows)]


def order_of(n_processes=1, seed=1, window_bytes=1500):
    return WindowedOrder(pictures_of(), 4, seed, n_processes, window_bytes)


@pytest.mark.parametrize("n_processes", [1, 2, 4])
def test_every_row_comes_at_most_once_in_an_epoch_and_in_another_order_in_the_next(n_processes):
    order = order_of(n_processes)
    assert order.steps_per_epoch == sum(SIZES) // 4
    epochs = [[order.rows(step) for step in range(first, first + 14)] for first in (0, 14)]
    for rows in map(np.concatenate, epochs):
        assert len(rows) == len({*rows.tolist()}) == 56
    assert np.concatenate(epochs[0]).tolist() != np.concatenate(epochs[1]).tolist()
    again = [order_of(n_processes).rows(step).tolist() for step in range(14)]
    assert again == [rows.tolist() for rows in epochs[0]]
    assert again != [order_of(n_processes, seed=2).rows(step).tolist() for step in range(14)]


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_window_is_of_few_groups_and_no_group_of_two_windows(n_processes):
    order = order_of(n_processes)
    for process in range(n_processes):
        seen = set()
        for rows in order.windows(process, 0, order.steps_per_epoch):
            groups = {order.pictures[row].group for row in rows}
            assert sum(group.n_bytes for group in groups) < 1500 + max(SIZES) * 100
            assert not groups & seen
            seen |= groups
        assert len(seen) > 2
    rows = np.concatenate([order.rows(step)[: order.n_own] for step in range(14)])
    assert rows.tolist() == np.concatenate([*order.windows(0, 0, 14)]).tolist()
    assert any(np.diff([order.pictures[row].group.number for row in rows[:10]])), "groups are mixed"


def test_from_any_step_on_windows_have_what_is_left():
    order = order_of()
    for first, last in ((5, 6), (3, 20), (13, 43), (28, 31)):
        wanted = np.concatenate([order.rows(step) for step in range(first, last)])
        assert np.concatenate([*order.windows(0, first, last)]).tolist() == wanted.tolist()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A file of 240 pictures of 50 kB in 24 groups."""
    path, rng = tmp_path_factory.mktemp("stored") / "train.parquet", np.random.default_rng(0)
    images = [{"bytes": rng.bytes(50_000), "path": None} for _ in range(240)]
    pq.write_table(pa.table({"image": images, "label": list(range(240))}), path, row_group_size=10)
    groups = [PictureGroup(str(path), number, 10, 500_000) for number in range(24)]
    return [StoredPicture(group, row) for group in groups for row in range(10)], [image["bytes"] for image in images]


def test_pictures_are_those_of_the_rows_from_any_step_on_in_little_memory(stored):
    pictures, expected = stored
    order = WindowedOrder(pictures, 6, 0, 2, window_bytes=1_000_000)
    for process in range(2):
        tracemalloc.start()
        for step, found in enumerate(order.read(process, 0, 90)):
            rows = order.rows(step)[3 * process :][:3]
            assert found == [expected[row] for row in rows]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 1_000_000 < peak < 4_000_000, "of 12 million"
        for first in (17, 40, 61):
            ahead = next(order.read(process, first, 90))
            assert ahead == [expected[row] for row in order.rows(first)[3 * process :][:3]]


def test_a_damaged_file_is_named_and_is_no_missing_folder(tmp_path):
    path = tmp_path / "train-0.parquet"
    path.write_bytes(b"PAR1, and then nothing of it")
    with pytest.raises(ReleaseError, match=r"cannot read the dataset .*train-0\.parquet") as caught:
        PictureGroup(str(path), 0, 1, 1).read()
    assert "no such folder" not in str(caught.value)


def test_a_released_dataset_is_the_same_read_either_way(tmp_path):
    dataset = noise_dataset(tmp_path)
    for split in ("train", "validation"):
        options = {"data": str(dataset), "text_types": ("sci",)}
        loaded, streamed = (read_samples(PairsConfig(**options, stream=stream), split) for stream in (False, True))
        for one, other in zip(loaded, streamed, strict=True):
            assert (one.name, one.texts, one.species) == (other.name, other.texts, other.species)
            assert np.array_equal(one.open(), other.open())
            assert one.picture is None
            assert other.picture is not None
    groups = {picture.group for _, picture in rows_with_places(str(dataset), None, "images", "train")}
    assert len({group.file for group in groups}) > 2


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A dataset, a Hub that has it, processes that use this, and a model."""
    folder = tmp_path_factory.mktemp("streaming")
    dataset = noise_dataset(folder)
    with (
        running_hub(folder / "hub") as hub,
        forks(folder / "said", **client_environment(hub, folder / "home"), ACCELERATE_USE_CPU="true") as ready,
    ):
        upload(dataset, hub)
        yield hub, ready, dataset, folder


def options_of(folder, out, data, *more):
    model = folder / "model"
    if not model.exists():
        make_model(model)
    short = ["--workers", "1", "--batch-size", "8", "--epochs", "1", "--evaluations", "1", "--text-types", "sci,trait"]
    return ["finetune", "--data", data, "--model", model, *short, "--without-text", "drop", "--out", out, *more]


@pytest.mark.slow
def test_a_dataset_on_the_hub_is_trained_on_without_a_copy_of_it(opened):
    hub, ready, dataset, folder = opened
    n_bytes = sum(file.stat().st_size for file in (dataset / "data" / "images").glob("*.parquet"))
    hub.n_bytes_sent = 0
    trained = ready.do(*options_of(folder, folder / "hub_out", "museum/moths", "--stream"))
    assert trained.code == 0, trained.err
    assert n_bytes < hub.n_bytes_sent < 1.6 * n_bytes, "once to train, and validation pictures once more"
    kept = [file for file in (folder / "home").rglob("*") if file.is_file() and file.stat().st_size > n_bytes / 20]
    assert not kept
    here = ready.do(*options_of(folder, folder / "here_out", dataset, "--stream"))
    assert here.code == 0, here.err
    weights = [(folder / out / "model" / "model.safetensors").read_bytes() for out in ("hub_out", "here_out")]
    assert weights[0] == weights[1]


def test_an_estimate_of_a_dataset_on_the_hub_fetches_no_pictures(opened):
    hub, ready, dataset, folder = opened
    n_bytes = sum(file.stat().st_size for file in (dataset / "data" / "images").glob("*.parquet"))
    hub.n_bytes_sent = 0
    done = ready.do(*options_of(folder, folder / "none", "museum/moths", "--stream", "--estimate", "--format", "json"))
    assert done.code == 0, done.err
    assert json.loads(done.out)["n_images"] == 32
    assert hub.n_bytes_sent < n_bytes / 4


def test_rows_without_images_are_read_without_fetching_these(opened, tmp_path):
    hub, _, dataset, _ = opened
    n_bytes = sum(file.stat().st_size for file in (dataset / "data" / "images").glob("train-*.parquet"))
    hub.n_bytes_sent = 0
    code = "from sae_traits.release.loading import Released as R\n"
    code += "print(len([*R.open('museum/moths').rows('images', 'train', images=False)]))"
    environment = subprocess_environment(hub, tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "40\n", done.stderr
    assert hub.n_bytes_sent < n_bytes / 4


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("museum/moths", ["--sampling", "balanced"], "leave one of them out"),
        ("table", [], "is none; leave --stream out"),
        ("museum/nothing", [], "cannot read the dataset museum/nothing"),
        ("reference", [], "fetch them with `sae-traits rehydrate`"),
    ],
)
def test_what_cannot_be_streamed_is_one_line(opened, tmp_path, data, options, message):
    _, ready, dataset, folder = opened
    if data == "table":
        data = make_table(tmp_path / "squares")
    if data == "reference":
        data = shutil.copytree(dataset, tmp_path / "reference")
        for path in (data / "data" / "images").glob("*.parquet"):
            table = pq.read_table(path)
            images = pa.array([None] * len(table), table.schema.field("image").type)
            pq.write_table(table.set_column(table.column_names.index("image"), "image", images), path)
    done = ready.do(*options_of(folder, tmp_path / "out", data, "--stream", *options))
    assert done.code in (1, 2), done.out
    assert not done.has_traceback, done.err
    assert len(done.error) == 1, done.err
    assert message in done.error[0]
