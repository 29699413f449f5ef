"""Patches a second of the shard loader at d_model 768, from a warm cache, beside two ways to do it with torch alone.

Prints a Markdown table. Under 2 min and 3 GB of disk: python benchmarks/bench_loader.py [--rounds 3] [--folder DIR]
"""

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from sae_traits.features.store import (
    DTYPES,
    FeatureShard,
    FeatureStore,
    ShardEntry,
    write_index,
    write_shard,
)
from sae_traits.features.stream import PatchStream
from sae_traits.geometry import Framing
from sae_traits.io import hash_of_file
from sae_traits.schema import BackboneInfo
from sae_traits.vocabulary import Dtype

D_MODEL, PATCHES_A_SPECIMEN, SHARD_BYTES, N_SHARDS = 768, 256, 256 * 2**20, 4
BATCH_SIZE = 4096


def make_store(folder: Path, dtype: Dtype) -> FeatureStore:
    """Random features in shards of the size that extraction writes; twice what the buffer holds."""
    folder.mkdir()
    entries = []
    n_images = SHARD_BYTES // (PATCHES_A_SPECIMEN * D_MODEL * DTYPES[dtype].itemsize)
    n_patches = n_images * PATCHES_A_SPECIMEN
    for number in range(N_SHARDS):
        rows = np.arange(number * n_images, (number + 1) * n_images)
        offsets = np.arange(n_images + 1) * PATCHES_A_SPECIMEN
        patches = np.tile(np.arange(PATCHES_A_SPECIMEN, dtype=np.int32), n_images)
        path = folder / f"shard-{number:05d}.safetensors"
        write_shard(path, FeatureShard(rows, offsets, patches, torch.randn(n_patches, D_MODEL).to(DTYPES[dtype])), "")
        size, sha256 = path.stat().st_size, hash_of_file(path)
        entries.append(
            ShardEntry(
                file=path.name,
                first_image=int(rows[0]),
                n_images=n_images,
                n_patches=n_patches,
                bytes=size,
                sha256=sha256,
            )
        )
    info = BackboneInfo(
        backbone="random",
        revision="0",
        layer=0,
        d_model=D_MODEL,
        rows=16,
        columns=16,
        patch=14.0,
        framing=Framing(mode="squash", size=(224, 224)),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    write_index(folder, info, "", dtype, entries)
    return FeatureStore.open(folder)


class StoredPatches(Dataset[Tensor]):
    """All patches of a store, as memory maps, at any index or list of indices."""

    def __init__(self, store: FeatureStore) -> None:
        self.shards = []
        for entry in store.entries:
            with safe_open(store.folder / entry.file, framework="pt") as file:
                self.shards.append(file.get_tensor("features"))
        self.patches_a_shard = len(self.shards[0])

    def __len__(self) -> int:
        return len(self.shards) * self.patches_a_shard

    def __getitem__(self, index: int | list[int]) -> Tensor:
        if isinstance(index, int):
            shard, row = divmod(index, self.patches_a_shard)
            return self.shards[shard][row]
        shards, rows = np.divmod(np.array(index), self.patches_a_shard)
        batch = torch.empty(len(index), D_MODEL, dtype=self.shards[0].dtype)
        for number, features in enumerate(self.shards):
            own = np.flatnonzero(shards == number)
            batch[torch.from_numpy(own)] = features[torch.from_numpy(rows[own])]
        return batch


def stream(store: FeatureStore):
    """The loader of this toolkit, over two epochs."""
    return PatchStream(store, range(store.n_images), n_patches=2 * store.n_patches, batch_size=BATCH_SIZE)


def single_patches(store: FeatureStore):
    """torch's DataLoader over a dataset of patches, as tutorials write it, with two workers."""
    loader = DataLoader(StoredPatches(store), batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    return islice((batch.float() for batch in loader), 12)


def indexed_batches(store: FeatureStore):
    """torch's DataLoader over a dataset that takes a batch of indices at once: random reads all over the files."""
    dataset = StoredPatches(store)
    sampler = BatchSampler(RandomSampler(dataset), BATCH_SIZE, drop_last=True)
    loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=2)
    return islice((batch.float() for batch in loader), 60)


LOADERS = {
    "PatchStream (blocks into a mixing buffer)": stream,
    "torch DataLoader, a patch at a time": single_patches,
    "torch DataLoader, a batch of indices at a time": indexed_batches,
}


def patches_a_second(batches) -> float:
    """Of all batches, the first filling of buffers included."""
    started, n_patches = time.perf_counter(), 0
    for batch in batches:
        n_patches += len(batch)
    return n_patches / (time.perf_counter() - started)


def main() -> None:
    """Measure all loaders in turn, several rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    arguments = parser.parse_args()
    print(f"d_model {D_MODEL}, batches of {BATCH_SIZE}, float32 out, {torch.get_num_threads()} threads, median\n")
    print("| features | loader | patches/s | rounds |\n| --- | --- | --- | --- |")
    for dtype in ("bfloat16", "float32"):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            store = make_store(Path(folder) / dtype, dtype)
            started = time.perf_counter()
            for _ in store.shards():  # compares the checksums, as a training does once, and warms the cache
                pass
            checked = time.perf_counter() - started
            rates: dict[str, list[float]] = {name: [] for name in LOADERS}
            for _ in range(arguments.rounds):
                for name, loader in LOADERS.items():
                    rates[name].append(patches_a_second(loader(store)))
        for name, found in rates.items():
            rounds = ", ".join(f"{rate:,.0f}" for rate in found)
            print(f"| {dtype} | {name} | {statistics.median(found):,.0f} | {rounds} |")
        print(f"| {dtype} | reading all once with checksums, before training | {store.n_patches / checked:,.0f} | |")


if __name__ == "__main__":
    main()
