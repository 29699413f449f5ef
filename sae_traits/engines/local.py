"""The engine `local`: a process per shard on this machine, as many at a time as it has GPUs or cores for."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

from sae_traits.engines.job import PROGRAM, Job
from sae_traits.errors import ConfigError, StoreError
from sae_traits.logging import say

DEVICES = "CUDA_VISIBLE_DEVICES"


def launch(job: Job) -> str:
    """Prepare, make all shards and merge them; each shard writes a log beside its mark.

    Raises:
        ConfigError: there are fewer GPUs than one shard is to have, or `at-once` is no number.
        StoreError: the preparation, a shard or the merging failed.
    """
    job.check_settings("at-once")
    groups = _groups_of_devices(job)
    n_at_once = job.number("at-once", len(groups) if job.gpus_per_shard else os.cpu_count() or 1, at_least=1)
    job.folder.mkdir(parents=True, exist_ok=True)
    free: SimpleQueue[str] = SimpleQueue()
    for number in range(n_at_once):
        free.put(groups[number % len(groups)])

    @contextmanager
    def devices() -> Iterator[str]:
        """A group of devices that no other shard has."""
        group = free.get()
        try:
            yield group
        finally:
            free.put(group)

    def make(number: int) -> bool:
        with devices() as group, (job.folder / f"{number:05d}-of-{job.n_shards:05d}.log").open("w") as log:
            environment = os.environ | ({DEVICES: group} if job.gpus_per_shard else {})
            command = [*PROGRAM, *job.shard(number)]
            done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
            say(f"{job.step} shard {number}/{job.n_shards}: {_in_words(done.returncode, log.name)}")
            return done.returncode == 0

    if job.call(job.prepare()) != 0:
        raise StoreError(f"what the shards of {job.step!r} share could not be made; the lines above say why")
    numbers = range(1, job.n_shards + 1)
    with ThreadPoolExecutor(n_at_once) as pool:
        done = list(pool.map(make, numbers))
    job.check_done([number for number, is_done in zip(numbers, done, strict=True) if not is_done])
    if job.call(job.merge()) != 0:
        raise StoreError(f"the shards of {job.step!r} could not be merged; the lines above say why")
    return f"{job.step}: {job.n_shards} shards made and merged"


def _in_words(code: int, log: str) -> str:
    """How the process of a shard ended."""
    if code == 0:
        return "done"
    return f"failed{f' ({signal.Signals(-code).name})' if code < 0 else ''}, see {log}"


def _groups_of_devices(job: Job) -> list[str]:
    """What each of the shards under way at a time sees of the GPUs."""
    if not job.gpus_per_shard:
        return [""]
    if (given := os.environ.get(DEVICES)) is not None:
        visible = [name for name in given.split(",") if name]
    else:
        import torch

        visible = [str(number) for number in range(torch.cuda.device_count())]
    n = job.gpus_per_shard
    groups = [",".join(visible[start : start + n]) for start in range(0, len(visible) - n + 1, n)]
    if not groups:
        raise ConfigError(f"a shard is to have {n} GPUs, and this machine has {len(visible)}; lower --gpus-per-shard")
    return groups
