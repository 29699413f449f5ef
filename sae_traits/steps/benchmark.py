"""A benchmark, which needs no run: images with any labels, any models, and traits that are released."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from sae_traits import __version__
from sae_traits.config.benchmark import ONLY_FOR, BenchmarkConfig, BenchmarkTaskName
from sae_traits.config.collection import CollectionConfig
from sae_traits.config.tree import build, public_name
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.attribute_tables import read_attributes
from sae_traits.evaluation.benchmarks.captions import read_captions
from sae_traits.evaluation.benchmarks.class_taxa import name_classes
from sae_traits.evaluation.benchmarks.dataset_files import extract_images, has_images
from sae_traits.evaluation.benchmarks.definition import Benchmark, read_benchmark
from sae_traits.evaluation.benchmarks.embedded import embedded_images, find_models
from sae_traits.evaluation.benchmarks.examined import Examined, examine
from sae_traits.evaluation.benchmarks.inputs import BenchmarkTask, Inputs, Outcome
from sae_traits.evaluation.benchmarks.labels import Labelled, LabelledRow, list_labelled
from sae_traits.evaluation.benchmarks.located import Located, locate
from sae_traits.evaluation.benchmarks.matching import one_each
from sae_traits.evaluation.benchmarks.report import write_benchmark_report
from sae_traits.evaluation.benchmarks.results import BenchmarkResults, Difference, ModelScores
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.benchmarks.trait_texts import (
    TraitTexts,
    rank_texts,
    read_references,
    region_columns,
    trait_columns,
)
from sae_traits.evaluation.statistics import paired_difference
from sae_traits.images.cache import safe_name
from sae_traits.images.columns import SPECIES_NAMES
from sae_traits.images.hub import is_hub_source
from sae_traits.images.sources import list_source
from sae_traits.images.splits import units
from sae_traits.images.table_files import TABLE_SUFFIXES, open_table
from sae_traits.images.workers import check_script, end_if_imported_by_worker
from sae_traits.logging import say, warn
from sae_traits.release.loading import local_dataset, text_rows

_LOCAL = ("out", "workers", "image_batch_size", "device")
"""Options that change no figure."""
_PATHS = (
    *("images", "embeddings", "traits", "taxa", "captions", "against"),
    *("attributes", "references", "other_traits", "regions", "keypoints", "part_masks", "boxes"),
)


def benchmark(
    task: BenchmarkTaskName,
    *,
    images: str | Path,
    clip: str | Path | Sequence[str | Path] = (),
    out: str | Path | None = None,
    **options: Any,
) -> BenchmarkResults:
    """Ask one question about images with labels; no run is needed.

    A script calls this below `if __name__ == "__main__":`, since photographs are read by processes that import it.

    Args:
        task: one of BENCHMARK_TASKS, which says what each asks.
        images: folder with a folder per class, table with the columns file and label, dataset folder, or
            hf://datasets/ORG/NAME.
        clip: Hub id or folder of a CLIP, or several.
        out: folder for embeddings and results; benchmarks/NAME_OF_IMAGES by default.
        **options: the others of `sae-traits benchmark`, with underscores: traits, taxa, benchmark, text_type …

    Returns:
        What was found; `lines()` is the text that the command prints.

    Raises:
        ConfigError: an option cannot be used, or a script calls this at its top level.
        CollectionError: the images or their labels cannot be used.
        BackboneError: a model cannot be used.
    """
    end_if_imported_by_worker()
    models = [clip] if isinstance(clip, str | Path) else list(clip)
    values = {**options, "images": str(images), "clip": [str(model) for model in models]}
    values |= {name: str(value) for name, value in values.items() if isinstance(value, Path)}
    config: BenchmarkConfig = build(BenchmarkConfig, values | ({} if out is None else {"out": str(out)}))
    if config.workers > 1:
        check_script("sae_traits.benchmark")
    return run_benchmark(task, config)


def run_benchmark(task_name: str, config: BenchmarkConfig) -> BenchmarkResults:
    """Ask one question as a configuration says, and write OUT/TASK."""
    task = _task(task_name, config)
    definition = None if config.benchmark is None else _definition(config.benchmark, task)
    assert config.images is not None
    out = Path(config.out) if config.out else Path("benchmarks") / _name_of(config.images)
    say(f"listing the images of {config.images}")
    folder = None if is_hub_source(config.images) else local_dataset(config.images, None)
    labelled = list_labelled(
        str(folder or config.images),  # of a run it is the dataset that it made
        cache=out,
        label_column=config.label_column,
        image_column=config.image_column,
        source_config=config.source_config,
        with_files=config.embeddings is None,
    ).of_splits(config.split)
    traits = None if config.traits is None else _read_traits(config.traits)
    regions = _read_regions(config)
    inputs = _inputs(config, labelled, definition, traits, regions)
    say(f"{len(inputs.rows):,} images of {len(inputs.names):,} classes")
    task.check(inputs)
    if config.clip:
        find_models(config)  # before any image is opened
    notes = labelled.notes()
    examined = None
    if config.embeddings is None:
        examined = examine(labelled, cache=out, workers=config.workers)
        if len(examined.labelled.rows) < len(inputs.rows):
            inputs = _inputs(config, examined.labelled, definition, traits, regions)
        inputs = _with_files(inputs, examined)
        if config.regions is not None:
            inputs = replace(inputs, located=_locate(config, config.regions, examined))
        notes = examined.notes() + notes
        task.check(inputs)
    if config.against is not None:
        inputs = replace(inputs, against=_against(config.against, out, config.workers))
    if definition is not None:
        notes = definition.check_counts(len(inputs.scored()), len(inputs.names)) + notes
        notes += _other_protocol(definition, inputs)
    models, outcomes = [], []
    for model in embedded_images(config, task, inputs, examined, out):
        outcome = task.run(inputs, model)
        of_model = tuple(task.notes(outcome.result))
        models.append(ModelScores(name=model.name, model=model.info, scores=outcome.result, notes=of_model))
        outcomes.append(outcome)
    results = BenchmarkResults(
        toolkit_version=__version__,
        task=cast(BenchmarkTaskName, task.name),
        images=public_name(config.images),
        n_images=len(inputs.rows),
        n_classes=len(inputs.names),
        n_units=len(set(inputs.units.tolist())),
        benchmark=definition,
        settings=_settings(config, inputs, task.name),
        models=tuple(models),
        differences=tuple(_differences(inputs, models, outcomes)),
        notes=tuple(dict.fromkeys([*notes, *_notes_of_traits(inputs)])),
    )
    write_benchmark_report(out / task.name, results)
    say(f"written: {out / task.name}/report.md and results.json")
    return results


def _name_of(images: str) -> str:
    """The name of a source, for the folder of its results: a table's without its suffix."""
    path = Path(images) if is_hub_source(images) else Path(images).expanduser().absolute()
    return safe_name(path.stem if path.suffix.lower() in TABLE_SUFFIXES else path.name)


def _task(name: str, config: BenchmarkConfig) -> BenchmarkTask:
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    task = TASKS[name]
    if config.images is None:
        raise ConfigError(f"{name} needs --images: a folder with a folder per class, or a table with file and label")
    if task.needs_clip and not config.clip:
        raise ConfigError(f"{name} needs --clip, such as --clip imageomics/bioclip")
    if task.needs_models and not config.clip and config.embeddings is None:
        raise ConfigError(f"{name} needs --clip, such as --clip imageomics/bioclip, or --embeddings of your own")
    for option, tasks in ONLY_FOR.items():
        if name not in tasks and getattr(config, option) != getattr(BenchmarkConfig(), option):
            flag = option.replace("_", "-")
            raise ConfigError(f"{name} does not use --{flag}, which is for {', '.join(tasks)}; leave it out")
    return task


def _definition(name: str, task: BenchmarkTask) -> Benchmark:
    definition = read_benchmark(name)
    if definition.task != task.name:
        raise ConfigError(f"the published scores of {name} are of {definition.task}, not of {task.name}")
    return definition


def _inputs(
    config: BenchmarkConfig,
    labelled: Labelled,
    definition: Benchmark | None,
    traits: TraitTexts | None,
    regions: tuple[Mapping[str, str], ...],
) -> Inputs:
    """The inputs of a task, but for what the image files themselves say."""
    rows = labelled.rows
    names = name_classes(rows, None if config.taxa is None else Path(config.taxa))
    individuals = [row.individual for row in rows]
    return Inputs(
        config=config,
        rows=rows,
        names=names,
        units=np.array(units(individuals, list(range(len(rows)))), dtype=np.int64),
        text_type=config.text_type or (definition and definition.text_type) or "asis",
        templates=config.templates or (definition and definition.templates) or "one",
        shots=config.shots or (definition and definition.shots) or (1, 5),
        traits=None if traits is None else traits.of_classes(names, str(config.images)),
        trait_source=config.traits,
        described=frozenset() if traits is None else traits.described,
        captions=None if config.captions is None else read_captions(Path(config.captions), [row.file for row in rows]),
        attributes=None if config.attributes is None else read_attributes(Path(config.attributes), rows),
        references={} if config.references is None else read_references(Path(config.references), names),
        regions=regions,
    )


def _with_files(inputs: Inputs, examined: Examined) -> Inputs:
    """The inputs of a task with the hashes of the images, and what counts once among them."""
    labelled = examined.labelled
    return replace(
        inputs,
        units=examined.units(),
        sha256=tuple(
            row.source_sha256 or record.sha256
            for row, record in zip(labelled.rows, examined.collection.images, strict=True)
        ),
        hashes=examined.hashes,
    )


def _read_traits(source: str) -> TraitTexts:
    """Read traits from a table, or from a dataset of ours or of others."""
    path = Path(source).expanduser()
    say(f"reading the traits of {source}")
    if not path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        raise ConfigError(f"--traits: {path} does not exist")
    try:
        return rank_texts(source, _rows_of(source, trait_columns))
    except CollectionError as error:
        raise ConfigError(f"cannot read --traits: {error}") from error


def _rows_of(source: str, columns_of: Callable[[Sequence[str], str], dict[str, str]]) -> Iterator[Mapping[str, Any]]:
    """Give the rows of a table, or of a dataset of ours or of others, in the columns that are chosen by their names."""
    path = Path(source).expanduser()
    if path.is_file():
        names, rows_of = open_table(path, header_has=SPECIES_NAMES)
        return rows_of(columns_of(names, source))
    return text_rows(source, lambda names: columns_of(names, source))


def _read_regions(config: BenchmarkConfig) -> tuple[Mapping[str, str], ...]:
    """Read what two describers said of every region; nothing where there is one."""
    if config.other_traits is None:
        return ()
    if config.traits is None:
        raise ConfigError("--other-traits are compared with --traits; give both")
    of_both = []
    for source in (config.traits, config.other_traits):
        rows = _rows_of(source, region_columns)
        described = [(n, str(row["trait_id"]), row["text"]) for n, row in enumerate(rows, start=1) if row["trait_id"]]
        of_both.append(one_each(source, ((n, region, region, text) for n, region, text in described if text)))
    return tuple(of_both)


def _locate(config: BenchmarkConfig, regions: str, examined: Examined) -> Located:
    """Score regions against the files that say where organisms and their parts are."""
    files = {
        name: None if (file := getattr(config, name)) is None else Path(file)
        for name in ("keypoints", "part_masks", "boxes")
    }
    return locate(examined.collection, Path(regions), **files)


def _against(source: str, out: Path, workers: int) -> tuple[tuple[str, bytes], ...]:
    """Name and hash the images to compare with."""
    folder = None if is_hub_source(source) else local_dataset(source, None)
    if folder is not None and has_images(folder):
        extracted, unused = extract_images(folder, out, label_names=())
        rows = tuple(LabelledRow(**row) for row in extracted)
        labelled = Labelled(source=source, root=out, rows=rows, problems=tuple(unused))
    else:
        listing = list_source(CollectionConfig(source=source, labels=False))
        rows = tuple(LabelledRow(file=row.file, label="", where=row.file) for row in listing.rows)
        labelled = Labelled(source=source, root=listing.root, rows=rows, problems=listing.problems)
    examined = examine(labelled, cache=out, workers=workers)
    if problems := examined.labelled.problems:
        warn(f"{len(problems)} images of {source} cannot be compared, such as {problems[0].file}: {problems[0].reason}")
    return tuple((row.where, found) for row, found in zip(examined.labelled.rows, examined.hashes, strict=True))


def _differences(inputs: Inputs, models: Sequence[ModelScores], outcomes: Sequence[Outcome]) -> list[Difference]:
    """Compare every model with the first, on the images that both are scored on."""
    differences = []
    for model, outcome in zip(models[1:], outcomes[1:], strict=True):
        first, second = outcomes[0].credit, outcome.credit
        if first is None or second is None:
            continue
        rows = np.flatnonzero(np.isfinite(first) & np.isfinite(second))
        individuals, classes = (
            paired_difference(first[rows], second[rows], groups=groups[rows], seed=inputs.config.seed)
            for groups in (inputs.units, inputs.truth if outcome.clusters is None else outcome.clusters)
        )
        differences.append(Difference(name=model.name, individuals=individuals, classes=classes))
    return differences


def _other_protocol(definition: Benchmark, inputs: Inputs) -> list[str]:
    """Say in what the options are not those of the published scores."""
    asked = (
        ("--text-type", definition.text_type, inputs.text_type),
        ("--templates", definition.templates, inputs.templates),
    )
    notes = [
        f"the published scores are of {option} {published}, these of {here}"
        for option, published, here in asked
        if published is not None and published != here
    ]
    if definition.fault is not None and inputs.config.protocol == "corrected":
        notes.append(f"the published scores are of {definition.fault}; --protocol published repeats that")
    return notes


def _notes_of_traits(inputs: Inputs) -> list[str]:
    if inputs.traits is None or (inputs.sha256 and inputs.described):
        return []
    why = f"{public_name(str(inputs.trait_source))} names no images by their hashes"
    return [
        "whether the traits were written of these very images is not known, because "
        + (why if inputs.sha256 else "only embeddings are at hand")
    ]


def _settings(config: BenchmarkConfig, inputs: Inputs, task: str) -> dict[str, Any]:
    """The options that figures of a task depend on; files by their names."""
    values = {name: value for name, value in asdict(config).items() if name not in _LOCAL}
    values |= {name: public_name(values[name]) for name in _PATHS if values[name]}
    values["clip"] = [public_name(model) for model in config.clip]
    values["split"] = list(config.split)
    values |= {"text_type": inputs.text_type, "templates": inputs.templates, "shots": list(inputs.shots)}
    return {name: value for name, value in values.items() if task in ONLY_FOR.get(name, (task,))}
