"""The images of a collection in batches, in order: prepared for a model by worker processes, or as its features."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, tee

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sae_traits.errors import CollectionError, ImageError, StoreError
from sae_traits.features.backbone import Backbone, Prepare, valid_patches
from sae_traits.images.decode import decode_image, read_image
from sae_traits.schema import Collection


@dataclass(frozen=True)
class EncodedBatch:
    """The features of the images of one forward pass."""

    features: torch.Tensor
    """Of the valid patches, image after image, float32 on the backbone's device `[n_patches, d_model]`."""
    counts: tuple[int, ...]
    """Patches of each image `[n_images]`."""


def encoded_batches(
    collection: Collection, backbone: Backbone, row_batches: Iterable[Sequence[int]], *, workers: int
) -> Iterator[EncodedBatch]:
    """Yield the features of batches of images, in their order; the workers start at once and read ahead.

    `row_batches`, the rows of one forward pass together, may be endless. Errors as of `prepared_row_batches`.
    """
    row_batches, read_ahead = tee(row_batches)
    prepared = prepared_row_batches(collection, read_ahead, backbone.prepare, workers=workers)
    return (_encode(collection, backbone, rows, batch) for batch, rows in zip(prepared, row_batches, strict=True))


def _encode(collection: Collection, backbone: Backbone, rows: Sequence[int], batch: torch.Tensor) -> EncodedBatch:
    encoded = backbone.encode(batch)
    n_images, n_patches, _ = encoded.shape
    valid = [valid_patches(collection.images[row], backbone.info) for row in rows]
    counts = tuple(len(patches) for patches in valid)
    features = encoded.flatten(0, 1)
    if sum(counts) < n_images * n_patches:
        kept = np.concatenate([patches + image * n_patches for image, patches in enumerate(valid)])
        features = features[torch.from_numpy(kept).to(features.device)]
    return EncodedBatch(features, counts)


def fill_from(batches: Iterator[EncodedBatch], into: torch.Tensor) -> None:
    """Take the batches that come next until `into` `[n_patches, d_model]` is full; they must end where it does."""
    end = 0
    while end < len(into):
        features = next(batches).features
        into[end : end + len(features)] = features
        end += len(features)


def batches_of(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    """The rows in their order, `size` at a time and the rest."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def prepared_batches(
    collection: Collection, rows: Sequence[int], prepare: Prepare, *, batch_size: int, workers: int
) -> Iterator[torch.Tensor]:
    """Yield batches of prepared images `[n, …]`, in the order of `rows`; the rest is as in `prepared_row_batches`."""
    return prepared_row_batches(collection, batches_of(rows, batch_size), prepare, workers=workers)


def prepared_row_batches(
    collection: Collection, row_batches: Iterable[Sequence[int]], prepare: Prepare, *, workers: int
) -> Iterator[torch.Tensor]:
    """Yield batches of prepared images `[n, …]`, of given rows each; `row_batches` may be endless and is read ahead.

    The workers (none: this process) start with this call and not with the first batch, so that they are forked from the
    caller's thread; each has a copy of `prepare`.

    Raises:
        CollectionError: an image of the batch that is asked for cannot be read any more, or is not the one that the
            collection was read with.
        StoreError: a worker was killed, for example because shared memory is full.
    """
    row_batches = iter(row_batches)
    if (first := next(row_batches, None)) is None:
        return iter(())  # no workers for nothing
    loader = DataLoader(
        _PreparedImages(collection, prepare),
        batch_sampler=(list(rows) for rows in chain([first], row_batches)),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # of its own: reading images must not move the random state of a training
    )
    return _raising(iter(loader))


def _raising(batches: Iterator[torch.Tensor | CollectionError]) -> Iterator[torch.Tensor]:
    try:
        for batch in batches:
            if isinstance(batch, CollectionError):
                raise batch
            yield batch
    except (RuntimeError, OSError, EOFError) as error:
        # A killed worker is a RuntimeError, or a connection that breaks off while it hands over a batch.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise StoreError(
            "a process that reads images was killed, perhaps because memory or shared memory (/dev/shm) is full; "
            "choose fewer --workers or a smaller --image-batch-size, and run the same command again"
        ) from error
    finally:
        # The traceback would keep the workers, and the garbage collector waits five seconds for each of them.
        del batches


@dataclass(frozen=True)
class _PreparedImages(Dataset[torch.Tensor | CollectionError]):
    """Images as a model wants them; what goes wrong is handed over as a value, since DataLoader would bury it."""

    collection: Collection
    prepare: Prepare

    def __len__(self) -> int:
        return len(self.collection.images)

    def __getitem__(self, row: int) -> torch.Tensor | CollectionError:
        record = self.collection.images[row]
        path = self.collection.path(record)
        try:
            data = read_image(path)
            image = decode_image(data)
        except ImageError as error:
            return CollectionError(f"{path} cannot be read any more: {error}; put it back, or start a new run")
        if hashlib.sha256(data).hexdigest() != record.sha256:  # what is computed is kept under the hash of the old one
            return CollectionError(f"{path} has changed since the collection was read; start a new run")
        return self.prepare(image)


def _collate(items: list[torch.Tensor | CollectionError]) -> torch.Tensor | CollectionError:
    errors = [item for item in items if isinstance(item, CollectionError)]
    return errors[0] if errors else torch.stack([item for item in items if isinstance(item, torch.Tensor)])
