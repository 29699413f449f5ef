"""Datasets read by those who have `datasets[vision]` and nothing of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from small_releases import odd_photographs, release, traits_of

READER = Path(__file__).parents[2] / "benchmarks" / ".envs" / "reader" / "bin" / "python"
READ = """
import importlib.util, io, sys
from datasets import load_dataset

assert not any(importlib.util.find_spec(name) for name in ("torch", "sae_traits"))
counts = {}
for config in ("default", "traits", "images", "latents", "preview"):
    loaded = load_dataset(sys.argv[1], config)
    streamed = load_dataset(sys.argv[1], config, streaming=True)
    for split, table in loaded.items():
        counts[config, split] = len(table)
        assert [row for row in streamed[split]] == [row for row in table]
for split, table in load_dataset(sys.argv[1], "default").items():
    for row in table:
        width, height = row["image"].convert("RGB").size if "image" in row else (row["width"], row["height"])
        x, y, box_width, box_height = row["box"]
        assert 0 <= x < x + box_width <= width + 1e-3 and 0 <= y < y + box_height <= height + 1e-3, row
        assert row["text"] == "A small area." and row["attributes"] == [{"name": "colour", "value": "blue"}], row
for split, table in load_dataset(sys.argv[1], "images").items():
    for row in table:
        assert all(trait["text"] for trait in row["traits"])
        assert "image" not in row or row["image"].size[0] > 0
print(sorted(counts.items()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not READER.is_file(), reason="needs `make reader-environment`")
@pytest.mark.parametrize("images", ["embed", "reference"])
def test_images_boxes_and_text_load_with_datasets_alone(tmp_path, images):
    collection = odd_photographs(tmp_path / "collection", lambda file: None)
    release(tmp_path / "dataset", collection, traits_of(collection, 2), images=images)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    command = [str(READER), "-c", READ, str(tmp_path / "dataset")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(('images', 'train'), 5)" in done.stdout
    assert "(('default', 'train'), 8)" in done.stdout
