"""The image embeddings of a collection, computed once: cached on disk by the content of the images and the model.

    CACHE/<hash of the model and its settings>/
      clip.json                     which model, for people
      <hash of its images>.safetensors …   embeddings [n, embed_dim] and sha256 [n, 32] of up to 256 images

An image is found again by the hash of its file, whatever it is called and whichever rows are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sae_traits.errors import StoreError, one_line
from sae_traits.features.loading import prepared_batches
from sae_traits.io import write_text, write_whole
from sae_traits.logging import say, track, warn
from sae_traits.models.clip.model import CLIP, CLIPInfo, Head
from sae_traits.schema import Collection

FORMAT = "sae-traits embeddings 2"
IMAGES_PER_SHARD = 256
"""What a killed run loses at most."""

FloatArray = NDArray[np.float32]


def embed_collection(
    clip: CLIP,
    collection: Collection,
    rows: Sequence[int],
    *,
    cache: Path,
    batch_size: int = 32,
    workers: int = 2,
    head: Head = "taxonomy",
) -> FloatArray:
    """Embed some images: vectors of unit length, in the order of `rows`.

    Only images that the cache does not hold are opened; at any time a few batches of pixels are in memory.

    Args:
        rows: which images, in any order, repeated if wanted.
        cache: folder for all models and collections.
        batch_size: images per forward pass.
        workers: processes that read and prepare images; 0 does it in this one.
        head: projection of the image tower.

    Returns:
        float32 `[n_rows, embed_dim]`.

    Raises:
        CollectionError: an image cannot be read, or is not the one that the collection was read with.
        StoreError: the cache cannot be written or read.
        BackboneError: the model has no such head.
        ConfigError: the model is not meant for such a collection.
    """
    clip.check_note(collection.note, collection.root)
    folder = cache / fingerprint(clip.info, head)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror}") from error
    write_text(folder / "clip.json", json.dumps(clip.info.to_dict() | {"head": head}, indent=1) + "\n")
    known = _read_cache(folder)
    hashes = [collection.images[row].sha256 for row in rows]
    missing = {sha256: row for sha256, row in zip(hashes, rows, strict=True) if sha256 not in known}
    if known and missing:
        say(f"embedding: {len(rows) - len(missing)} of {len(rows)} images are in the cache")
    batches = prepared_batches(
        collection, tuple(missing.values()), clip.prepare, batch_size=batch_size, workers=workers
    )
    embeddings = (embedding for batch in batches for embedding in clip.embed_images(batch, head).numpy())
    progress = track(embeddings, "embedding", total=len(missing))
    pending = iter(missing)
    while shard := list(islice(pending, IMAGES_PER_SHARD)):
        embedded = np.stack(list(islice(progress, len(shard))))
        digests = np.array([list(bytes.fromhex(sha256)) for sha256 in shard], dtype=np.uint8)
        name = hashlib.sha256(digests.tobytes()).hexdigest()[:32]
        metadata = {"sha256": hashlib.sha256(embedded.tobytes() + digests.tobytes()).hexdigest()}
        write_whole(folder / f"{name}.safetensors", save({"embeddings": embedded, "sha256": digests}, metadata))
        known |= zip(shard, embedded, strict=True)
    return np.array([known[sha256] for sha256 in hashes], dtype=np.float32).reshape(len(hashes), clip.info.embed_dim)


def fingerprint(info: CLIPInfo, head: Head) -> str:
    """Hash everything that image embeddings depend on but the images; where a local folder lies does not matter."""
    settings = info.to_dict() | {"format": FORMAT, "head": head}
    if info.revision.startswith("sha256:"):
        del settings["model"]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _remove(path: Path, reason: str) -> None:
    warn(f"warning: {path} is damaged and made anew ({reason})")
    try:
        path.unlink()
    except OSError as error:
        raise StoreError(f"cannot delete {path}, which is damaged: {error.strerror}") from error


def _read_cache(folder: Path) -> dict[str, FloatArray]:
    """Read the embeddings of all images in the cache, by the hashes of their files; damaged ones go."""
    known: dict[str, FloatArray] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                embeddings, digests = file.get_tensor("embeddings"), file.get_tensor("sha256")
                written = (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError) as error:
            _remove(path, one_line(error))
            continue
        if hashlib.sha256(embeddings.tobytes() + digests.tobytes()).hexdigest() != written:
            _remove(path, "it is not as it was written")
            continue
        known |= zip((row.tobytes().hex() for row in digests), embeddings, strict=True)
    return known
