"""The configuration of a run as YAML, and the recipes that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_traits.config.run import RunConfig
from sae_traits.config.tree import as_dict, branches_of
from sae_traits.errors import ConfigError


def recipe_file(name: str) -> Path:
    """A recipe, in the installed package or, in an editable install, at the root of the repository."""
    package = Path(__file__).parents[1]
    folder = package / "recipes"
    return (folder if folder.is_dir() else package.parent / "recipes") / name


def read_config(path: Path, root: type = RunConfig) -> dict[str, dict[str, Any]]:
    """The sections of a YAML file of the options of `root`, as plain values, for `tree.build`."""
    values = read_yaml(path)
    if values is None:
        return {}
    check_sections(path, values, root)
    return values


def read_yaml(path: Path) -> Any:
    """What a YAML file says; a ConfigError where it cannot be read."""
    import yaml  # not for --help

    from sae_traits.config.yaml_files import load_yaml

    try:
        return load_yaml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def check_sections(path: Path, values: Any, root: type) -> None:
    """Raise a ConfigError unless what a file says are sections of the options of `root`."""
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold sections with options, for example `train:` and below it `  n_latents: 96`"
        )
    sections = branches_of(root)
    for name in values:
        if name not in sections:
            raise ConfigError(f"{path} has a section {name!r}; there are {', '.join(sections)}")


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML; `read_config` reads it back."""
    import yaml

    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)
