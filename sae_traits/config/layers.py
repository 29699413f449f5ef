"""Layers of options, of YAML files and the command line, resolved into one configuration; what they say is checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sae_traits.config import SECTIONS, RunConfig
from sae_traits.errors import ConfigError

_WANTED = {
    "int_parsing": " must be a whole number",
    "int_from_float": " must be a whole number",
    "float_parsing": " must be a number",
    "bool_parsing": " must be true or false",
}
"""What pydantic's kinds of errors ask for, in words."""


def recipe_file(name: str) -> Path:
    """A recipe, in the installed package or, in an editable install, at the root of the repository."""
    package = Path(__file__).parents[1]
    folder = package / "recipes"
    return (folder if folder.is_dir() else package.parent / "recipes") / name


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a YAML file, as plain values, for `resolve`.

    Raises:
        ConfigError: the file is missing, is not YAML, or has a section that does not exist.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise ConfigError(f"{path} must hold sections with options, for example `train:` and below it `  k: 16`")
    for name in values:
        if name not in SECTIONS:
            raise ConfigError(f"{path} has a section {name!r}; there are {', '.join(SECTIONS)}")
    return values


def resolve(*layers: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """One configuration from several layers of sections, later ones winning.

    Raises:
        ConfigError: an option does not exist or its value cannot be used.
    """
    from pydantic import TypeAdapter, ValidationError

    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        values: dict[str, Any] = {}
        for layer in layers:
            values |= layer.get(name, {})
        for key in values:
            if key not in section.__dataclass_fields__:
                known = ", ".join(section.__dataclass_fields__)
                raise ConfigError(f"there is no option {key!r} in the section {name!r}; it has {known}")
        try:
            sections[name] = TypeAdapter(section).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            wanted = _WANTED.get(first["type"], f": {first['msg']}")
            raise ConfigError(f"{name}.{where}{wanted}, not {first['input']!r}") from error
    return RunConfig(**sections)
