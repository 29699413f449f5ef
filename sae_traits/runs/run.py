"""The folder of a run: where its files lie, and which steps are finished.

Each step has a fingerprint: the hash of its options and of the fingerprint of the step before it. RUN/steps.json keeps
the fingerprint that every finished step had, and what it counted, so that a second run says the same without working.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_traits import __version__
from sae_traits.config import TEXTURE, RunConfig
from sae_traits.config.layers import read_config, resolve
from sae_traits.errors import ConfigError, StoreError
from sae_traits.io import write_text
from sae_traits.logging import say

NOT_IN_COMMAND = {
    "source", "workers", "describe_workers", "device", "image_batch_size", "tracker", "base_url", "in_flight",
    "call_timeout", "stop_after_errors", "describer_device", "seconds_per_call", "prompt_price", "answer_price",
    "image_cache", "connections",
}  # fmt: skip
"""Options that change no results, or that nobody else can use, and the source, which is given by name."""


STEP_NAMES = ("collect", "extract", "train", "encode", "annotate", "release", "evaluate")
"""In their order."""


@dataclass(frozen=True)
class Run:
    """A folder with everything that one run makes; the layout is in docs/architecture.md."""

    folder: Path
    config: RunConfig

    @classmethod
    def create(cls, folder: Path, config: RunConfig) -> Run:
        """A run in a new folder, or one that was begun there from the same source; its config.yaml is written.

        Raises:
            ConfigError: the folder holds a run of another source, or lies among the images.
            StoreError: the folder cannot be written.
        """
        run = cls(folder, _with_absolute_paths(config))
        if folder.resolve().is_relative_to(source := Path(run.config.collection.source or "")) and source.is_dir():
            raise ConfigError(
                f"{folder} lies in {source}, where images are looked for, and a run writes pictures of its own; "
                "choose another --out"
            )
        if "collect" in run.steps.records and run.config_file.is_file():
            other = resolve(read_config(run.config_file)).collection.source
            if other != run.config.collection.source:
                raise ConfigError(
                    f"{folder} is a run of {other}; choose another --out for {run.config.collection.source}"
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
        run.save_config()
        return run

    @classmethod
    def open(cls, folder: Path, *layers: Mapping[str, Mapping[str, Any]]) -> Run:
        """An existing run, with further options laid over its configuration; `save_config` keeps them.

        Raises:
            StoreError: the folder is not a run.
        """
        file = folder / "config.yaml"
        if not file.is_file():
            raise StoreError(f"{folder} is not a run: it has no config.yaml; make one with `sae-traits extract`")
        return cls(folder, _with_absolute_paths(resolve(read_config(file), *layers)))

    def save_config(self) -> None:
        """Write the configuration, if it is not what is there."""
        text = self.config.to_yaml()
        if not self.config_file.is_file() or self.config_file.read_text(encoding="utf-8") != text:
            write_text(self.config_file, text)

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.folder / "config.yaml"

    @property
    def images_file(self) -> Path:
        """One row an image."""
        return self.folder / "images.parquet"

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
    def dictionary(self) -> Path | None:
        """Whose latents pick the regions: the SAE, or the baseline of --regions; None for regions without latents."""
        regions = self.config.contrast.regions
        if regions in ("gradcam", "whole"):
            return None
        return self.sae if regions == "sae" else self.folder / "baselines" / regions

    @property
    def class_maps_file(self) -> Path:
        """Grad-CAM's map of every image (--regions gradcam)."""
        return self.folder / "baselines" / "gradcam" / "maps.parquet"

    @property
    def checkpoint_file(self) -> Path:
        """Where a training in progress is kept."""
        return self.folder / "training.checkpoint"

    @property
    def codes(self) -> Path:
        """Sparse codes."""
        return self.folder / "codes"

    @property
    def ledger_file(self) -> Path:
        """Every describer call; those about a baseline's regions are in a ledger of their own."""
        regions = self.config.contrast.regions
        return self.folder / "traits" / ("ledger.sqlite" if regions == "sae" else f"ledger-{regions}.sqlite")

    @property
    def controls_ledger_file(self) -> Path:
        """Every call of the controls; they are not the run's own."""
        return self.ledger_file.with_name(self.ledger_file.name.replace("ledger", "controls"))

    @property
    def controls_file(self) -> Path:
        """What the controls found, and of which annotation."""
        return self.folder / "traits" / "controls.json"

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
        """The command that makes this run: options that differ from their defaults, and files by name, not by path."""
        source = self.config.collection.source or ""
        words = ["sae-traits", "run", source if source.startswith("hf://") else Path(source).name]
        for section in fields(self.config):
            if section.name == "zero_shot":  # scores the run, and changes nothing of it
                continue
            options = getattr(self.config, section.name)
            for option in fields(options):
                value = getattr(options, option.name)
                if option.name not in NOT_IN_COMMAND and value != option.default:
                    name = option.name.replace("_", "-")
                    if isinstance(value, bool):
                        words.append(f"--{name}" if value else f"--no-{name}")
                        continue
                    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                    path = Path(text)
                    shown = path.name if path.is_absolute() and path.exists() else text
                    words += [f"--{name}", shown]
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
        is_complete: Callable[[], bool],
        work: Callable[[], dict[str, Any]],
        *,
        keep_record: bool = True,
    ) -> None:
        """Do a step, unless it is finished with the same inputs and its output is complete.

        From its start on neither the step nor any later one counts as finished, so that a kill cannot leave an old
        record beside new output.

        Args:
            name: one of STEP_NAMES.
            inputs: all that its output depends on.
            is_complete: whether the output is there and whole.
            work: makes the output; returns what it counted. A count `n_open` above zero means that something is left
                to do: the step is then done again next time.
            keep_record: False in all but one of several processes.
        """
        text = json.dumps({"version": __version__, **inputs}, sort_keys=True, default=str)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        record = self.records.get(name)
        if record and record["fingerprint"] == fingerprint and not record["counts"].get("n_open") and is_complete():
            if keep_record:
                say(f"{name}: complete and its inputs have not changed, skipped")
            return
        if keep_record:
            say(f"{name}: started")
        started = time.monotonic()
        for step in STEP_NAMES[STEP_NAMES.index(name) :]:
            self.records.pop(step, None)
        self._write(keep_record)
        counts = work()
        seconds = round(time.monotonic() - started, 1)
        self.records[name] = {"fingerprint": fingerprint, "seconds": seconds, "counts": counts}
        self._write(keep_record)
        if keep_record:
            say(f"{name}: done in {seconds:.0f} s")

    def _write(self, keep_record: bool) -> None:
        if keep_record:
            write_text(self.path, json.dumps(self.records, indent=2, ensure_ascii=False) + "\n")


def opens(opener: Callable[[Path], Any], folder: Path) -> bool:
    """Whether a folder's index and all of its files are there."""
    try:
        opener(folder)
    except StoreError as error:
        if folder.exists():
            say(str(error))
        return False
    return True


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Paths that exist here as absolute ones, so that a run can be continued from another folder."""
    cache = config.collection.image_cache
    return replace(
        config,
        collection=replace(
            config.collection,
            source=_absolute(config.collection.source),
            image_cache=cache and str(Path(cache).expanduser().resolve()),  # it is made where it does not exist
        ),
        features=replace(config.features, backbone=_absolute(config.features.backbone)),
        train=replace(config.train, sae=_absolute(config.train.sae)),
        contrast=replace(config.contrast, latents=_absolute(config.contrast.latents)),
        describe=replace(config.describe, describer_model=_absolute(config.describe.describer_model)),
        zero_shot=replace(
            config.zero_shot,
            clip=_absolute(config.zero_shot.clip),
            common_names=_absolute(config.zero_shot.common_names),
        ),
    )


def _absolute(path: str | None) -> Any:
    exists = path is not None and path != TEXTURE and Path(path).exists()
    return str(Path(path).resolve()) if exists and path is not None else path
