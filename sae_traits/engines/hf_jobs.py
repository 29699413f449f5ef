"""The engine `hf-jobs`: a script of `hf jobs` commands, with a bucket as the storage that all of them see."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from sae_traits.engines.job import Job, shell_line
from sae_traits.errors import ConfigError, StoreError
from sae_traits.io import write_text

MOUNT = "/storage"
NUMBER = "$number"


def launch(job: Job, *, submit: bool) -> str:
    """Write the script beside the marks of the shards, and run it if so wanted; the script.

    Settings of the engine: `bucket` (ORG/NAME, in which RUN lies under its own name), `image` with sae-traits in it,
    `flavor`, `timeout`, `attempts`, and `run`, where RUN lies in the bucket if not there.

    Raises:
        ConfigError: there is no bucket or no image.
        StoreError: a command failed.
    """
    job.check_settings("bucket", "image", "flavor", "timeout", "attempts", "run")
    for name in ("bucket", "image"):
        if name not in job.settings:
            raise ConfigError(f"--engine hf-jobs needs --engine-option {name}=…")
    run = f"{MOUNT}/{job.settings.get('run', job.run.absolute().name)}"
    shard = shell_line(_hf(job, "shard", _in_bucket(job.shard(NUMBER), run), "--detach", "--quiet"), variable=NUMBER)
    lines = [
        "#!/bin/bash",
        "set -eu",
        "# what all shards share; this waits for it",
        shell_line(_hf(job, "prepare", _in_bucket(job.prepare(), run))),
        "# the shards, side by side",
        "jobs=()",
        f"for number in $(seq 1 {job.n_shards}); do",
        f'  jobs+=("$({shard})")',
        "done",
        'hf jobs wait "${jobs[@]}"',
        shell_line(_hf(job, "merge", _in_bucket(job.merge(), run))),
    ]
    text = "\n".join(lines) + "\n"
    job.folder.mkdir(parents=True, exist_ok=True)
    path = job.folder / "hf-jobs.sh"
    write_text(path, text)
    if submit and (code := subprocess.run(["bash", str(path)], check=False).returncode):
        raise StoreError(f"{path} ended with {code}; what is done is kept, and the same command does the rest")
    return f"# {path}\n{text}"


def _hf(job: Job, name: str, command: Sequence[str], *options: str) -> list[str]:
    settings = {"flavor": "a10g-small", "timeout": "24h", "attempts": "3"} | dict(job.settings)
    volume = f"hf://buckets/{settings['bucket']}:{MOUNT}"
    about = ["--name", f"sae-traits-{job.step}-{name}", "--flavor", settings["flavor"]]
    about += ["--timeout", settings["timeout"], "--attempts", settings["attempts"]]
    about += ["--secrets", "HF_TOKEN", "--volume", volume]
    return ["hf", "jobs", "run", *options, *about, settings["image"], "sae-traits", *command]


def _in_bucket(command: Sequence[str], run: str) -> list[str]:
    """A command of a run on this machine, of the same run in the bucket."""
    step, _, *rest = command
    return [step, run, *rest]
