"""Benchmarks of datasets on the Hub: images with free labels, and traits with the columns of the paper's release."""

from __future__ import annotations

import json
import subprocess
import sys

from hub.loopback import client_environment, running_hub
from hub_datasets import parquet, put, stored

SCRIPT = """
import json, sys
from pathlib import Path
from sae_traits.evaluation.benchmarks.labels import list_labelled
from sae_traits.evaluation.benchmarks.trait_texts import rank_texts, trait_columns
from sae_traits.release.loading import text_rows
listed = list_labelled("hf://datasets/museum/insects", cache=Path(sys.argv[1]), label_column="group")
rows = text_rows("museum/bioscan-traits", lambda names: trait_columns(names, "museum/bioscan-traits"))
traits = rank_texts("museum/bioscan-traits", rows)
print(json.dumps({
    "labels": [row.label for row in listed.rows],
    "there": all((listed.root / row.file).is_file() for row in listed.rows),
    "problems": [problem.reason for problem in listed.problems],
    "traits": traits.ranked,
}))
"""


def test_images_with_free_labels_and_traits_of_the_papers_columns_are_read_from_the_hub(tmp_path):
    from datasets import Image, Value

    labels = ["Abeille noire", "Mouches à damier", "Abeille noire", None]
    images = parquet(
        {"image": [stored(n) for n in range(4)], "group": labels}, {"image": Image(), "group": Value("string")}
    )
    species = ["Apis mellifera", "Apis mellifera", "Musca domestica"]
    texts = ["Dark hairy body.", "dark hairy body", "red eyes"]
    traits = parquet(
        {"image": [stored(n) for n in range(3)], "species": species, "trait_description": texts},
        {"image": Image(), "species": Value("string"), "trait_description": Value("string")},
    )
    with running_hub(tmp_path / "hub") as hub:
        put(hub, "insects", {"data/train.parquet": images})
        put(hub, "bioscan-traits", {"data/train.parquet": traits})
        environment = client_environment(hub, tmp_path / "home") | {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
        asked = [sys.executable, "-c", SCRIPT, tmp_path / "cache"]
        found = subprocess.run(asked, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["labels"] == ["Abeille noire", "Mouches à damier", "Abeille noire"]
    assert answer["there"]
    assert answer["problems"] == ["it has no label"]
    assert answer["traits"] == {"apis mellifera": ["dark hairy body"], "musca domestica": ["red eyes"]}
