"""The engine `slurm`: scripts of three jobs, of which the second is an array with a task per shard."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sae_traits.engines.job import PROGRAM, Job, shell_line
from sae_traits.errors import ConfigError, StoreError, one_line
from sae_traits.io import write_text

TASK = "${SLURM_ARRAY_TASK_ID}"
AFTERWARDS = "--kill-on-invalid-dep=yes"
"""A job whose dependency failed ends, instead of waiting in the queue for ever."""


def launch(job: Job, *, submit: bool) -> str:
    """Write the scripts beside the marks of the shards, and submit them if so wanted; the scripts and the commands.

    The settings of the engine are options of sbatch, such as partition=gpu; they hold for all three jobs.

    Raises:
        StoreError: sbatch is missing, or refuses a script.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    folder = job.folder.resolve()
    gpus = [f"--gpus-per-task={job.gpus_per_shard}"] if job.gpus_per_shard else []
    array = [f"--array=1-{job.n_shards}", "--ntasks=1", "--requeue", AFTERWARDS, *gpus]
    phases = {
        "prepare": _script(job, "prepare", ["--ntasks=1", *gpus], job.prepare()),
        "shards": _script(job, "shards", array, job.shard(TASK)),
        "merge": _script(job, "merge", ["--ntasks=1", AFTERWARDS], job.merge()),
    }
    shown = []
    for name, text in phases.items():
        write_text(folder / f"{name}.sbatch", text)
        shown.append(f"# {folder / name}.sbatch\n{text}")
    commands = [
        f"prepare=$(sbatch --parsable {shell_line([str(folder / 'prepare.sbatch')])})",
        f'shards=$(sbatch --parsable --dependency="afterok:$prepare" {shell_line([str(folder / "shards.sbatch")])})',
        f'sbatch --parsable --dependency="afterok:$shards" {shell_line([str(folder / "merge.sbatch")])}',
    ]
    shown.append("# submit\n" + "\n".join(commands))
    if submit:
        submitted = [_submit(folder / "prepare.sbatch")]
        for name in ("shards", "merge"):
            submitted.append(_submit(folder / f"{name}.sbatch", f"--dependency=afterok:{submitted[-1]}"))
        shown.append(f"# submitted as the jobs {', '.join(submitted)}")
    return "\n".join(shown)


def _script(job: Job, name: str, options: list[str], command: list[str]) -> str:
    array = "%A_%a" if name == "shards" else "%j"
    output = f"{job.folder.resolve()}/slurm-{name}-{array}.log"
    if any(character.isspace() for character in output):
        raise ConfigError(f"Slurm's options cannot hold the space in {job.run}; rename the folder")
    given = [f"--{option}={value}" for option, value in job.settings.items()]
    lines = [f"--job-name=sae-traits-{job.step}-{name}", f"--output={output}", *options, *given]
    program = shell_line([*PROGRAM, *command], variable=TASK)
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), program, ""])


def _submit(script: Path, *options: str) -> str:
    """The number of the job."""
    try:
        command = ["sbatch", "--parsable", *options, str(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise StoreError("there is no sbatch here; submit the scripts where Slurm is") from error
    except subprocess.CalledProcessError as error:
        raise StoreError(f"sbatch refused {script}: {one_line(Exception(error.stderr))}") from error
    return done.stdout.strip().split(";")[0]
