"""WebDataset shards of image-text pairs, one sample per trait, as open_clip-style trainers read them.

A sample is KEY.jpg (or .png …), KEY.txt with the sentence, KEY.json with the other columns of the row, and
KEY.caption.txt (the key of BioCAP) where the dataset has a caption of the image. Within a split the rows are dealt in
their order; trainers shuffle.
"""

from __future__ import annotations

import io
import tarfile
from itertools import count
from pathlib import Path

from pydantic_core import to_json

from sae_traits.release.loading import Released
from sae_traits.release.tables import Row

BYTES_PER_SHARD = 2**30


def write(released: Released, folder: Path, *, samples_per_shard: int = 10_000) -> dict[str, int]:
    """Write {split}-000000.tar, {split}-000001.tar …; captions are counted where there are any."""
    counts = {"samples": 0, "shards": 0}
    n_captions = n_written = 0
    for split in released.splits("default"):
        captions, captioned = released.captions(split), set[str]()
        n_captions += len(captions)
        rows = enumerate(released.rows("default", split, images=True))
        pending = next(rows, None)
        for shard in count():
            if pending is None:
                break
            first = pending[0]
            with tarfile.open(folder / f"{split}-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                while pending and pending[0] - first < samples_per_shard and tar.offset < BYTES_PER_SHARD:
                    number, row = pending
                    caption = captions.get(row["image_id"])
                    if caption is not None:
                        captioned.add(row["image_id"])
                    _add(tar, f"{split}-{number:09d}", row, caption, released)
                    counts["samples"] += 1
                    pending = next(rows, None)
            counts["shards"] += 1
        n_written += len(captioned)
    if n_captions:
        counts |= {"captions": n_written, "captions of images without a trait left out": n_captions - n_written}
    return counts


def _add(tar: tarfile.TarFile, key: str, row: Row, caption: str | None, released: Released) -> None:
    """Add the members of a sample; their names hold nothing that came from a file."""
    image, _, suffix = released.image_of(row)
    others = {name: value for name, value in row.items() if name != "image"}
    members = {suffix: image, "txt": row["text"].encode(), "json": to_json(others, inf_nan_mode="null")}
    if caption is not None:
        members["caption.txt"] = caption.encode()
    for name, data in members.items():
        member = tarfile.TarInfo(f"{key}.{name}")  # no date, no owner: the same rows give the same bytes
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
