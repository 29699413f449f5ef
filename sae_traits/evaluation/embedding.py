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

from sae_traits.errors import StoreError
from sae_traits.features.loading import prepared_batches
from sae_traits.io import write_whole
from sae_traits.logging import say, track
from sae_traits.models.clip.model import CLIP, CLIPInfo, Head
from sae_traits.schema import Collection

FORMAT = "sae-traits embeddings 1"
IMAGES_A_SHARD = 256
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
    """Embeddings of unit length of some images, in the order of `rows`.

    Only images that the cache does not hold are opened; at any time a few batches of pixels are in memory.

    Args:
        clip: from `load_clip`.
        collection: the images.
        rows: which of them, in any order, repeated if wanted.
        cache: folder for all models and collections.
        batch_size: images a forward pass.
        workers: processes that read and prepare images; 0 does it in this one.
        head: projection of the image tower, see `Head`.

    Returns:
        float32 `[n_rows, embed_dim]`.

    Raises:
        CollectionError: an image cannot be read, or is not the one that the collection was read with.
        StoreError: the cache cannot be written or read.
        BackboneError: the model has no such head.
        ConfigError: the model is not meant for such a collection.
    """
    clip.check_collection(collection)
    folder = cache / fingerprint(clip.info, head)
    _make_folder(folder, clip.info, head)
    known = _known(folder)
    missing = {collection.images[row].sha256: row for row in rows if collection.images[row].sha256 not in known}
    if known and missing:
        say(f"embedding: {len(rows) - len(missing)} of {len(rows)} images are in the cache")
    batches = prepared_batches(
        collection, tuple(missing.values()), clip.prepare, batch_size=batch_size, workers=workers
    )
    embeddings = (embedding for batch in batches for embedding in clip.embed_images(batch, head).numpy())
    progress = track(embeddings, "embedding", total=len(missing))
    pending = iter(missing)
    while hashes := list(islice(pending, IMAGES_A_SHARD)):
        _write_shard(folder, hashes, np.stack(list(islice(progress, len(hashes)))))
    return _read(folder, [collection.images[row].sha256 for row in rows], clip.info.embed_dim)


def fingerprint(info: CLIPInfo, head: Head) -> str:
    """Of everything that image embeddings depend on but the images; where a local folder lies does not matter."""
    settings = info.to_dict() | {"format": FORMAT, "head": head}
    if info.revision.startswith("sha256:"):
        del settings["model"]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _make_folder(folder: Path, info: CLIPInfo, head: Head) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror}") from error
    about = folder / "clip.json"
    if not about.is_file():
        write_whole(about, (json.dumps(info.to_dict() | {"head": head}, indent=1) + "\n").encode())


def _write_shard(folder: Path, hashes: Sequence[str], embeddings: FloatArray) -> None:
    digests = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(hashes), -1)
    name = hashlib.sha256(digests.tobytes()).hexdigest()[:32]
    write_whole(folder / f"{name}.safetensors", save({"embeddings": embeddings, "sha256": digests}))


def _known(folder: Path) -> set[str]:
    """The hashes of all images in the cache."""
    return {image for path in sorted(folder.glob("*.safetensors")) for image in _hashes(path)}


def _hashes(path: Path) -> list[str]:
    return [row.tobytes().hex() for row in _tensor(path, "sha256")]


def _read(folder: Path, hashes: Sequence[str], embed_dim: int) -> FloatArray:
    """The embeddings of images by their hashes, all of which are in the cache; one shard in memory at a time."""
    wanted: dict[str, list[int]] = {}
    for index, image in enumerate(hashes):
        wanted.setdefault(image, []).append(index)
    embeddings = np.empty((len(hashes), embed_dim), dtype=np.float32)
    for path in sorted(folder.glob("*.safetensors")):
        places = [(row, wanted.pop(image)) for row, image in enumerate(_hashes(path)) if image in wanted]
        if places:
            held = _tensor(path, "embeddings")
            for row, indices in places:
                embeddings[indices] = held[row]
    assert not wanted
    return embeddings


def _tensor(path: Path, name: str) -> NDArray[np.generic]:
    try:
        with safe_open(path, framework="numpy") as file:
            return file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot read {path} ({error}); delete it and run again") from error
