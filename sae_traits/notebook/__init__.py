"""A whole run from Python, and what it made, with a view of it for notebooks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sae_traits.config.command_line import options_of_file
from sae_traits.config.layers import read_config
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import as_dict, build, nest
from sae_traits.errors import DescriberError
from sae_traits.images.workers import check_script, end_if_imported_by_worker
from sae_traits.logging import ProgressCallback, logger, progress_to
from sae_traits.steps import ALL_STEPS, run_steps
from sae_traits.testbench import extra_tasks

if TYPE_CHECKING:
    import pandas as pd
    from datasets import DatasetDict

    from sae_traits.evaluation.results import Results
    from sae_traits.runs.summary import Summary
    from sae_traits.sae.model import SAE


@dataclass(frozen=True)
class Run:
    """What a run made, read when it is first asked for: `Run("runs/moths")` is one that is there already."""

    folder: str | Path

    @cached_property
    def summary(self) -> Summary:
        """The counts of all steps, in `lines()` and as `to_dict()`; a StoreError where the folder is no run."""
        from sae_traits.runs.context import Context
        from sae_traits.runs.summary import Summary

        return Summary.of(Context.open(Path(self.folder), ALL_STEPS, extra_tasks=extra_tasks()))

    @cached_property
    def dataset(self) -> DatasetDict:
        """One row per image-trait pair, with its image, by split."""
        from sae_traits.release.loading import load_traits

        return load_traits(self.folder)

    @cached_property
    def traits(self) -> pd.DataFrame:
        """One row per image-trait pair, without images, of all splits; `split` says which."""
        import pandas as pd

        from sae_traits.release.loading import load_traits

        splits = load_traits(self.folder, config="traits").items()
        tables = [cast("pd.DataFrame", rows.to_pandas()).assign(split=str(split)) for split, rows in splits]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def sae(self) -> SAE:
        """The sparse autoencoder; of a sweep the recommended one."""
        from sae_traits.sae.model import SAE

        return SAE.from_pretrained(Path(self.folder) / "sae")

    @property
    def results(self) -> Results | None:
        """What was evaluated; None where nothing was."""
        return self.summary.results

    def _repr_html_(self) -> str:
        from sae_traits.notebook.view import html_of

        return html_of(Path(self.folder), self.summary.lines())


def run(
    source: str | Path,
    out: str | Path,
    *,
    config: RunConfig | str | Path | None = None,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> Run:
    """Do everything: features, SAE, traits, report and dataset; the same call goes on where an earlier one stopped.

    A script calls this below `if __name__ == "__main__":`, since photographs are read by processes that import it.

    Args:
        source: image folder (Genus_species/…), table with file and species, or another source of `sae-traits run`.
        out: folder of the run.
        config: options by section: a configuration, a YAML file, or the name of a recipe.
        progress: is told the label, how many are done, the total (None where it is unknown) and the unit.
        options: those of `sae-traits run`, with underscores for hyphens, over those of `config`: `n_latents=96, k=16`.

    Returns:
        What the run made; a notebook shows it with pictures.

    Raises:
        ConfigError: an option does not exist, or its value cannot be used; or a script calls this at its top level.
        DescriberError: the describer stopped, or some of its calls failed; the same call asks them again, and what is
            there until then is `Run(out)`.
        SaeTraitsError: the source, the backbone, … cannot be used; the message says what to do.
    """
    end_if_imported_by_worker()
    work = partial(_run, Path(out), source, config, progress, options)
    if not _is_in_event_loop():
        return work()
    # Notebooks run cells in an event loop, in which the describer's own cannot start.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(
    folder: Path,
    source: str | Path,
    config: RunConfig | str | Path | None,
    progress: ProgressCallback | None,
    options: dict[str, Any],
) -> Run:
    from sae_traits.runs.context import Context
    from sae_traits.steps.check import check

    given = {"collection": {"source": str(source)}}
    by_flag = {name.replace("_", "-"): value for name, value in options.items()}
    layers = [_as_layer(config), given, nest(RunConfig, by_flag)]
    if (folder / "config.yaml").is_file():  # a CLIP that this run was evaluated with stays
        layers.insert(0, {"zero_shot": read_config(folder / "config.yaml").get("zero_shot")})
    wanted: RunConfig = build(RunConfig, *layers)
    if max(wanted.features.workers, wanted.describer.workers) > 1:
        check_script("sae_traits.run")
    context = Context.create(folder, wanted, ALL_STEPS, extra_tasks=extra_tasks())
    with nullcontext() if progress is None else progress_to(progress), context.writing(), _warnings() as warned:
        check(context)
        run_steps(context)
        context.save_config()
    if n_open := context.steps.counts("annotate").get("n_open", 0):
        why = "".join(f"; {line}" for line in warned if line.startswith("stopped: "))
        raise DescriberError(f"{n_open} calls of the describer have no answer yet, and the same call asks them{why}")
    return Run(folder)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Inside the block, collect what is warned of, for an error that says why."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


def _as_layer(config: RunConfig | str | Path | None) -> dict[str, Any]:
    if isinstance(config, RunConfig):
        return as_dict(config)
    return options_of_file(None if config is None else Path(config))
