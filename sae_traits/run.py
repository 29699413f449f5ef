"""The folder of a run: where its files lie, and which steps are finished.

Each step has a fingerprint: the hash of its options and of the fingerprint of the step before it. RUN/steps.json keeps
the fingerprint that every finished step had, and what it counted, so that a second run says the same without working.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_traits import __version__
from sae_traits.config import RunConfig, read_config, resolve
from sae_traits.errors import StoreError
from sae_traits.progress import say

NOT_IN_COMMAND = {"source", "workers", "describe_workers", "device", "image_batch_size"}
"""Options that change speed, not results, and the source, which is given by name."""


@dataclass(frozen=True)
class Run:
    """A folder with everything that one run makes; the layout is in docs/architecture.md."""

    folder: Path
    config: RunConfig

    @classmethod
    def create(cls, folder: Path, config: RunConfig) -> Run:
        """A run in a new or an existing folder; its config.yaml is written."""
        config = replace(
            config,
            collection=replace(config.collection, source=_absolute(config.collection.source)),
            features=replace(config.features, backbone=_absolute(config.features.backbone)),
            train=replace(config.train, sae=_absolute(config.train.sae)),
            zero_shot=replace(
                config.zero_shot,
                clip=_absolute(config.zero_shot.clip),
                common_names=_absolute(config.zero_shot.common_names),
            ),
        )
        run = cls(folder, config)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(run.config_file, config.to_yaml())
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
        return run

    @classmethod
    def open(cls, folder: Path, *layers: Mapping[str, Mapping[str, Any]]) -> Run:
        """An existing run, with further options laid over its configuration.

        Raises:
            StoreError: the folder is not a run.
        """
        file = folder / "config.yaml"
        if not file.is_file():
            raise StoreError(f"{folder} is not a run: it has no config.yaml; make one with `sae-traits extract`")
        config = resolve(read_config(file), *layers)
        return cls.create(folder, config) if layers else cls(folder, config)

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.folder / "config.yaml"

    @property
    def specimens_file(self) -> Path:
        """One row a specimen."""
        return self.folder / "specimens.parquet"

    @property
    def problems_file(self) -> Path:
        """What of the collection could not be used, and why."""
        return self.folder / "problems.csv"

    @property
    def activations(self) -> Path:
        """Patch features."""
        return self.folder / "activations"

    @property
    def sae(self) -> Path:
        """The SAE, as from_pretrained reads it."""
        return self.folder / "sae"

    @property
    def codes(self) -> Path:
        """Sparse codes."""
        return self.folder / "codes"

    @property
    def ledger_file(self) -> Path:
        """Every describer call."""
        return self.folder / "traits" / "ledger.sqlite"

    @property
    def traits_file(self) -> Path:
        """The traits."""
        return self.folder / "traits" / "traits.parquet"

    @property
    def latents_file(self) -> Path:
        """The latents that the traits use."""
        return self.folder / "traits" / "latents.parquet"

    @property
    def dataset(self) -> Path:
        """The dataset, as load_dataset reads it."""
        return self.folder / "dataset"

    @property
    def evaluation(self) -> Path:
        """results.json, report.md and figures."""
        return self.folder / "evaluation"

    @property
    def command(self) -> str:
        """The command that makes this run: the source's name and the options that differ from their defaults."""
        words = ["sae-traits", "run", Path(self.config.collection.source or "").name]
        for section in fields(self.config):
            if section.name == "zero_shot":  # scores the run, and changes nothing of it
                continue
            options = getattr(self.config, section.name)
            for option in fields(options):
                value = getattr(options, option.name)
                if option.name not in NOT_IN_COMMAND and value != option.default:
                    words += [f"--{option.name.replace('_', '-')}", str(value)]
        return shlex.join(words)

    @cached_property
    def steps(self) -> Steps:
        """What is finished."""
        return Steps(self.folder / "steps.json")


class Steps:
    """RUN/steps.json: the fingerprint and the counts of every finished step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def fingerprint(self, name: str) -> str:
        """Of a finished step."""
        if name not in self.records:
            raise StoreError(f"{self.path.parent}: the step {name!r} is not finished; run `sae-traits run` again")
        return self.records[name]["fingerprint"]

    def counts(self, name: str) -> dict[str, Any]:
        """What a finished step counted; empty when it has not run."""
        return self.records.get(name, {}).get("counts", {})

    def do(
        self,
        name: str,
        inputs: Mapping[str, Any],
        outputs: list[Path],
        work: Callable[[], dict[str, Any]],
        *,
        keep_record: bool = True,
    ) -> None:
        """Do a step, unless it is finished with the same inputs and its outputs are there.

        Args:
            name: of the step.
            inputs: all that its output depends on.
            outputs: files or folders that a finished step has.
            work: makes the outputs; returns what it counted.
            keep_record: False in all but one of several processes.
        """
        text = json.dumps({"version": __version__, **inputs}, sort_keys=True, default=str)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        record = self.records.get(name)
        if record and record["fingerprint"] == fingerprint and all(path.exists() for path in outputs):
            say(f"{name}: complete and its inputs have not changed, skipped")
            return
        say(f"{name}: started")
        started = time.monotonic()
        self.records.pop(name, None)
        counts = work()
        seconds = round(time.monotonic() - started, 1)
        self.records[name] = {"fingerprint": fingerprint, "seconds": seconds, "counts": counts}
        if keep_record:
            write_text(self.path, json.dumps(self.records, indent=2, ensure_ascii=False) + "\n")
            say(f"{name}: done in {seconds:.0f} s")


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # several processes may write the same
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _absolute(path: str | None) -> Any:
    """A path that exists here as an absolute one, so that a run can be continued from another folder."""
    return str(Path(path).resolve()) if path is not None and Path(path).exists() else path
