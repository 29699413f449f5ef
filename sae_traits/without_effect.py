"""Options on the command line that the chosen methods would not read: refused, not ignored in silence."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from sae_traits.config import READ_WITH_LATENTS, TEXTURE, ContrastConfig, DescribeConfig, RunConfig, ZeroShotConfig
from sae_traits.errors import ConfigError
from sae_traits.sae.sweep import is_read

_OF_ADOPTED_SAE = ("sae", "sae_revision", "tracker")
_OF_ALL_REGIONS = ("regions", "label_free", "latents", "latents_revision")
_OF_GRADCAM = ("smallest_region", "box_margin")
_OF_MEASURED = ("describer", "describe_workers", "use_masks")
_OF_SERVER = ("base_url", "call_timeout", "stop_after_errors")


def refuse_options_without_effect(given: Mapping[str, Mapping[str, Any]], config: RunConfig) -> None:
    """Raise a ConfigError for the first option that would change nothing.

    Args:
        given: options of the command line by section; those that unset one (None) are always in order.
        config: the whole configuration that came of them.
    """
    names = [name for values in given.values() for name, value in values.items() if value is not None]
    if config.train.sae is not None:
        others = [name for name in given.get("train", {}) if name in names and name not in _OF_ADOPTED_SAE]
        if others:
            raise ConfigError(f"--sae uses an SAE as it is; leave out {_flag(others[0])}, or --sae")
    for unread, reason in _unread(config):
        if useless := [name for name in names if name in unread]:
            raise ConfigError(f"{_flag(useless[0])} has no effect {reason}; leave it out")


def _unread(config: RunConfig) -> Iterator[tuple[Collection[str], str]]:
    """Options that are not read, and why."""
    train, contrast, describe = config.train, config.contrast, config.describe
    if config.features.backbone == TEXTURE:
        yield ("layer", "revision"), f"with --backbone {TEXTURE}"
    if train.sweep is None and train.sae is None:
        unread = [name for name in train.__dataclass_fields__ if not is_read(name, train.architecture)]
        yield unread, f"with --architecture {train.architecture}"
    of_contrast = ContrastConfig.__dataclass_fields__.keys()
    if contrast.latents is not None:
        yield of_contrast - {*READ_WITH_LATENTS, "regions"}, "with --latents"
    elif contrast.regions in ("gradcam", "whole"):
        read = {*_OF_ALL_REGIONS, *(_OF_GRADCAM if contrast.regions == "gradcam" else ())}
        yield of_contrast - read, f"with --regions {contrast.regions}"
    elif contrast.contrast == "paper":
        yield ("firing_quantile", "least_evidence", "everywhere"), "with --contrast paper"
    else:
        yield ("firing_threshold", "minimum_frequency"), "with --contrast image"
    if describe.describer == "measured":
        yield DescribeConfig.__dataclass_fields__.keys() - {*_OF_MEASURED}, "with --describer measured"
    if describe.describer != "server":
        yield _OF_SERVER, f"with --describer {describe.describer}"
    if describe.describer != "transformers":
        yield ("describer_device",), f"with --describer {describe.describer}"
    if config.zero_shot.clip is None:
        yield ZeroShotConfig.__dataclass_fields__.keys() - {"clip"}, "without --clip"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
