"""Parquet shards that are given up half way."""

import gc
from pathlib import Path

import pyarrow as pa
import pytest

from sae_traits.release.shards import ROWS_A_GROUP, ShardWriter

FULL = Path("/dev/full")


@pytest.mark.parametrize(
    "disk", ["with room", pytest.param("full", marks=pytest.mark.skipif(not FULL.exists(), reason="no /dev/full"))]
)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_an_abandoned_writer_writes_nothing_more_when_it_is_dropped(tmp_path, disk):
    if disk == "full":
        (tmp_path / "train-segment-000.parquet").symlink_to(FULL)
    writer = ShardWriter(tmp_path, "train", pa.schema([("a", pa.int32())]))
    for number in range(ROWS_A_GROUP + 1):
        writer.add({"a": number}, "segment")
    assert [path.name for path in tmp_path.iterdir()] == ["train-segment-000.parquet"]
    writer.abandon()
    del writer
    gc.collect()
