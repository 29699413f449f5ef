"""Parquet shards that are given up half way."""

import gc
import resource
import sys

import pyarrow as pa
import pytest

from sae_traits.release.shards import ROWS_PER_GROUP, ShardWriter


@pytest.mark.parametrize("disk", ["with room", "full"])
def test_an_abandoned_writer_writes_nothing_more_when_it_is_dropped(tmp_path, monkeypatch, disk):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    writer = ShardWriter(tmp_path, "train", pa.schema([("a", pa.int32())]))
    for number in range(ROWS_PER_GROUP + 1):
        writer.add({"a": number}, "segment")
    (file,) = tmp_path.iterdir()
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if disk == "full":  # no file can grow any more
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, room[1]))
        writer.__exit__(OSError)
        written = file.read_bytes()
        del writer
        gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert file.read_bytes() == written
    assert unraisable == []
