"""Small image datasets, put on the loopback Hub."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hub.answers import Hub
from huggingface_hub import CommitOperationAdd, HfApi
from web import photograph

CARD = "---\nlicense: cc-by-4.0\n---\n# Photographs\n"


def put(hub: Hub, name: str, files: Mapping[str, bytes | str]) -> str:
    """Publish files as museum/NAME; the commit."""
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(f"museum/{name}", repo_type="dataset")
    operations = [
        CommitOperationAdd(path, content.encode() if isinstance(content, str) else content)
        for path, content in files.items()
    ]
    return api.create_commit(f"museum/{name}", operations, commit_message="x", repo_type="dataset").oid


def parquet(columns: Mapping[str, Sequence[Any]], features: Mapping[str, Any]) -> bytes:
    """A Parquet file with the features of a dataset; images are given as they are stored, {bytes, path}."""
    from datasets import Features

    schema = Features(features).arrow_schema
    file = io.BytesIO()
    table = pa.Table.from_pydict(dict(columns), schema=schema)
    with pq.ParquetWriter(file, schema) as writer:
        if len(table):  # datasets does not read groups without rows
            writer.write_table(table)
    return file.getvalue()


def stored(number: int, path: str | None = None) -> dict[str, Any]:
    """An image as a table stores it."""
    return {"bytes": photograph(number), "path": path or f"{number}.jpg"}


def put_datasets(hub: Hub) -> dict[str, str]:
    """Datasets of the shapes that are met on the Hub: name -> commit."""
    from datasets import ClassLabel, Image, Value

    names = ["Vanessa_cardui", "Danaus plexippus"]
    classes = {"image": Image(), "label": ClassLabel(names=names)}
    text = {
        "picture": Image(),
        "thumbnail": Image(),
        "Scientific Name": Value("string"),
        "family": Value("string"),
        "licence": Value("string"),
        "rightsHolder": Value("string"),
        "url": Value("string"),
        "number": Value("int64"),
        "Organism ID": Value("string"),
    }
    rows = range(12)
    pictures = {
        "picture": [stored(n) for n in rows],
        "thumbnail": [stored(n + 50) for n in rows],
        "Scientific Name": ["Vanessa cardui" if n % 2 else "Papilio machaon" for n in rows],
        "family": ["Nymphalidae" if n % 2 else "Papilionidae" for n in rows],
        "licence": ["CC0" if n else None for n in rows],
        "rightsHolder": ["A. Holder"] * 12,
        "url": [f"https://photos.example/{n}" for n in rows],
        "number": list(rows),
        "Organism ID": [f"butterfly {n // 2}" for n in rows],
    }
    hostile = ["/etc/passwd", "file:///etc/passwd", "hf://datasets/museum/classes@main/README.md", "../../x.jpg"]
    evil = [{"bytes": None, "path": path} for path in hostile] + [None, stored(1, "../../../escape.jpg")]
    folder = {f"train/{name}/{n}.jpg": photograph(n + 30 * k) for k, name in enumerate(names) for n in range(2)}
    return {
        "classes": put(
            hub,
            "classes",
            {
                "README.md": CARD,
                "data/train-00000-of-00002.parquet": parquet(
                    {"image": [stored(0), stored(1)], "label": [0, 1]}, classes
                ),
                "data/train-00001-of-00002.parquet": parquet({"image": [stored(2)], "label": [-1]}, classes),
                "data/test-00000-of-00001.parquet": parquet({"image": [stored(3)], "label": [1]}, classes),
            },
        ),
        "text": put(hub, "text", {"data/train.parquet": parquet(pictures, text)}),
        "codes": put(
            hub,
            "codes",
            {
                "data/train.parquet": parquet(
                    {
                        "image": [stored(n) for n in rows],
                        "species": [["Viola v01", "Viola v02", "Viola"][n % 3] for n in rows],
                    },
                    {"image": Image(), "species": Value("string")},
                )
            },
        ),
        "evil": put(hub, "evil", {"data/train.parquet": parquet({"image": evil, "label": [0] * 6}, classes)}),
        "folder": put(hub, "folder", {"README.md": CARD} | folder),
        "empty": put(
            hub,
            "empty",
            {
                "data/train.parquet": parquet(
                    {"image": [], "species": []}, {"image": Image(), "species": Value("string")}
                )
            },
        ),
        "wordless": put(
            hub,
            "wordless",
            {"data/train.parquet": parquet({"image": [stored(0)], "n": [1]}, {"image": Image(), "n": Value("int64")})},
        ),
    }


def put_long(hub: Hub, n_shards: int, rows_a_shard: int) -> Path:
    """A dataset of several files, museum/long."""
    from datasets import Image, Value

    features = {"image": Image(), "species": Value("string")}
    put(
        hub,
        "long",
        {
            f"data/train-{shard:05d}-of-{n_shards:05d}.parquet": parquet(
                {
                    "image": [stored(shard * rows_a_shard + n) for n in range(rows_a_shard)],
                    "species": [f"Genus species{'abcdefgh'[n % 8]}" for n in range(rows_a_shard)],
                },
                features,
            )
            for shard in range(n_shards)
        },
    )
    return hub.store.folder
