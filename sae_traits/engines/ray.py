"""The engine `ray`: a task per shard, on a Ray cluster that is found or started (extra `ray`).

A shard is made inside Ray's own worker process, so that it ends with it: Ray then has the task done again, and the
shard goes on where it was.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sae_traits.engines.job import Job
from sae_traits.errors import ConfigError, StoreError
from sae_traits.logging import say


def launch(job: Job) -> str:
    """Prepare here, have each shard made by a task, and merge here; the folder of the run must be seen by all nodes.

    Raises:
        ConfigError: Ray is not installed, or a setting is no number.
        StoreError: the preparation, a shard or the merging failed.
    """
    job.check_settings("address", "cpus", "retries")
    resources = {
        "num_cpus": job.number("cpus", 1, at_least=0),
        "num_gpus": job.gpus_per_shard,
        "max_retries": job.number("retries", 3, at_least=0),
    }
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("Ray is not installed: pip install 'sae-traits[ray]'") from error
    if job.call(job.prepare()) != 0:
        raise StoreError(f"what the shards of {job.step!r} share could not be made; the lines above say why")
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(address=job.settings.get("address"), log_to_driver=False)
    try:
        failed = _make_all(ray, job, resources)
    finally:
        if started_here:
            ray.shutdown()
    job.check_done(failed)
    if job.call(job.merge()) != 0:
        raise StoreError(f"the shards of {job.step!r} could not be merged; the lines above say why")
    return f"{job.step}: {job.n_shards} shards made and merged"


def _make_all(ray: Any, job: Job, resources: Mapping[str, int]) -> list[int]:
    """Wait for the tasks of all shards; the numbers of those that failed."""
    task = ray.remote(_make).options(**resources)
    waiting = {task.remote(job.call, job.shard(number)): number for number in range(1, job.n_shards + 1)}
    failed = []
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        number = waiting.pop(done)
        try:
            code = ray.get(done)
        except ray.exceptions.RayError:
            code = None  # its worker was lost more often than it is tried again
        say(f"{job.step} shard {number}/{job.n_shards}: {'done' if code == 0 else 'failed'}")
        if code != 0:
            failed.append(number)
    return sorted(failed)


def _make(call: Callable[[Sequence[str]], int], command: Sequence[str]) -> int:
    return call(command)
