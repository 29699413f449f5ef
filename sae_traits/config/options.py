"""What a field of a configuration carries besides its type, and the checks that several sections share."""

from __future__ import annotations

import dataclasses
from typing import Any

from sae_traits.errors import ConfigError


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    flag: str | None = None,
    metavar: str | None = None,
    is_path: bool = False,
    is_made: bool = False,
    is_local: bool = False,
) -> Any:
    """A dataclass field with a help text.

    Args:
        default: without one the field is required.
        help: one or two sentences for `--help`.
        flag: its flag on the command line, without dashes, where the field's own name would be ambiguous there.
        metavar: the word for its value in `--help`; by default N or X for a number.
        is_path: the value may be a file or folder of this machine: kept absolute, shown to others by its name.
        is_made: it is a folder, and is made where there is none.
        is_local: the value changes no results, or nobody else can use it: not part of the command that a card gives.
    """
    about = {"help": help, "flag": flag, "metavar": metavar, "is_path": is_path or is_made}
    return dataclasses.field(default=default, metadata={**about, "is_made": is_made, "is_local": is_local})


def variant(default: type | None, help: str) -> Any:
    """A dataclass field that holds one of several variants, whose docstrings say what each is; see `tree`."""
    return dataclasses.field(default_factory=default or (lambda: None), metadata={"help": help})


def check(condition: bool, message: str) -> None:
    """Raise a ConfigError with a message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def check_connections(connections: int) -> None:
    """Raise a ConfigError for a number of images fetched at the same time that no server should be asked for."""
    check(1 <= connections <= 64, f"connections must lie between 1 and 64, not {connections}")


def check_at_least(least: float, settings: Any, *names: str) -> None:
    """Raise a ConfigError for the first of some fields that is below `least`; None is in order."""
    for name in names:
        value = getattr(settings, name)
        check(value is None or value >= least, f"{name} must be {least} or more, not {value}")


def check_seed(seed: int) -> None:
    """Raise a ConfigError for a seed that torch, numpy and scikit-learn do not all take."""
    check(0 <= seed < 2**32, f"seed must be a whole number from 0 to {2**32 - 1}, not {seed}")


def check_positive(settings: Any, *names: str) -> None:
    """Raise a ConfigError for the first of some fields that is not above zero; None is in order."""
    for name in names:
        value = getattr(settings, name)
        check(value is None or value > 0, f"{name} must be positive, not {value}")
