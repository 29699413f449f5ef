"""What runs the shards of a step: processes of this machine, Ray, Slurm or Hugging Face Jobs; a file per engine.

None of them schedules anything itself: each gives the same commands to something that does. Every shard keeps its own
mark (`runs/sharding.py`), so whatever an engine loses is made again by launching once more.
"""

from __future__ import annotations

from importlib import import_module

from sae_traits.engines.job import Job

ENGINES = {"local": "local", "ray": "ray", "slurm": "slurm", "hf-jobs": "hf_jobs"}
"""Name on the command line -> module."""
WRITES_SCRIPTS = ("slurm", "hf-jobs")
"""Engines that write and show what is to be submitted."""


def launch(job: Job, engine: str, *, submit: bool) -> str:
    """Have the shards of a step made, and merged; what there is to show.

    Args:
        submit: whether scripts are submitted, too; of engines that write some.

    Raises:
        ConfigError: the engine has no such setting, or is not installed.
        StoreError: shards failed.
    """
    module = import_module(f"sae_traits.engines.{ENGINES[engine]}")
    return module.launch(job, submit=submit) if engine in WRITES_SCRIPTS else module.launch(job)
