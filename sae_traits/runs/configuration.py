"""RUN/config.yaml: the configuration of a run, with its own hash below, so that it is said when it was changed."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_traits.config import RunConfig
from sae_traits.config.layers import read_config, to_yaml
from sae_traits.config.tree import branches_of, fields_of, flag_of, leaves_of, requiring
from sae_traits.io import write_text
from sae_traits.logging import warn

_MARK = "# sha256 of what stands above: "
_SECTIONS = {
    "collect": ("collection",),
    "extract": ("features",),
    "train": ("train",),
    "annotate": ("regions", "describer"),
    "evaluate": ("zero_shot",),
    "dataset": ("release",),
}
"""The sections whose options a finished step is known by; `encode` depends on some of `regions`, `annotate` on all."""


def write_configuration(path: Path, config: RunConfig) -> None:
    """Write the configuration, if it is not what is there.

    Raises:
        StoreError: it cannot be written.
    """
    text = to_yaml(config)
    text += f"{_MARK}{_hash_of(text)}\n"
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def read_configuration(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a run's configuration; a person may have edited them, which is said.

    Raises:
        ConfigError: it cannot be read.
    """
    values = read_config(path)
    above, _, sha256 = path.read_text(encoding="utf-8").partition(_MARK)
    if sha256.strip() != _hash_of(above):
        warn(f"{path} was changed since the last command wrote it; what it says now holds")
    return values


def options_of_steps(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The options that decide what each step makes, by flag, as JSON has them; those of other steps are not there."""
    options = {
        step: dict(option for name in sections for option in _options_of(RunConfig, name, getattr(config, name)))
        for step, sections in _SECTIONS.items()
    }
    return json.loads(json.dumps(options))


def _options_of(parent: type, name: str, section: Any) -> Iterator[tuple[str, Any]]:
    """Yield the options of a section; a variant is said by its kind, or by the option that only it requires."""
    field, variants = fields_of(parent)[name], branches_of(parent)[name]
    required = {
        option: leaf
        for variant in variants.values()
        for option, leaf in leaves_of(variant).items()
        if requiring(variants, option)
    }
    yield from ((flag_of(leaf), None) for leaf in required.values())
    if section is None:
        return
    leaves = leaves_of(type(section))
    if len(variants) > 1 and not required.keys() & leaves.keys():
        yield flag_of(field), getattr(section, getattr(section, "open_field", "kind"))
    for option, leaf in leaves.items():
        if not leaf.metadata["is_local"] and option not in ("source", getattr(section, "open_field", None)):
            yield flag_of(leaf), getattr(section, option)
    for inner in branches_of(type(section)):
        yield from _options_of(type(section), inner, getattr(section, inner))


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
