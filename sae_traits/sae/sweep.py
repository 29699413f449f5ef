"""Sweeps: which SAEs to train side by side, what each is called, and which one to recommend."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from sae_traits.config.train import TrainConfig
from sae_traits.config.tree import UNSET, as_dict, build, nest
from sae_traits.errors import ConfigError

MARGIN = 0.01
"""Differences of monosemanticity up to this decide nothing; SAEs that differ in their seeds differ by up to 0.002."""
RULE = (
    "the highest explained variance of those whose mean monosemanticity over all latents, those without a score "
    f"counting zero, is within {MARGIN} of the highest"
)
"""What `recommend` does, in words."""
_OF_THE_TRAINING = ("kind", "sweep", "tracker")
"""Fields of a `TrainConfig` that say nothing of one SAE."""


def parse_sweep(text: str) -> dict[str, list[Any]]:
    """The options that a sweep varies, as the command line writes them: `k=8,16,32 seed=0,1`.

    Values are separated by commas, the numbers of one value of `prefixes` by `+`: `prefixes=none,96+384`. Returned are
    option -> values, not yet converted or checked: `expand` does both.

    Raises:
        ConfigError: it is written otherwise, or an option occurs twice.
    """
    sweep: dict[str, list[Any]] = {}
    for word in text.split():
        name, _, values = word.partition("=")
        name = name.replace("-", "_")
        if not name or not all(values.split(",")):
            raise ConfigError(f"a sweep is written like `k=8,16,32 seed=0,1`, without spaces in {word!r}")
        if name in sweep:
            raise ConfigError(f"the sweep varies {name} twice; write all values after one `{name}=`")
        sweep[name] = [None if value == UNSET else value for value in values.split(",")]
        if name == "prefixes":
            sweep[name] = [() if value is None else tuple(value.split("+")) for value in sweep[name]]
    if not sweep:
        raise ConfigError("the sweep varies nothing; write for example `k=8,16,32 seed=0,1`")
    return sweep


def expand(config: TrainConfig, sweep: Mapping[str, Sequence[Any]]) -> list[TrainConfig]:
    """The settings of every SAE of a sweep: the product of the varied options, the last one fastest.

    Where an architecture has no such option (`k` and relu), one SAE is trained for all of its values. What is not
    varied is that of `config`.

    Raises:
        ConfigError: an option does not exist or cannot be varied, or a value cannot be used.
    """
    nest(TrainConfig, dict.fromkeys(sweep))  # refuses options that do not exist
    for name, values in sweep.items():
        if not values:
            raise ConfigError(f"the sweep gives {name} no value; give at least one")
        if len(values) > 1 and name in ("batch_size", "n_patches"):
            raise ConfigError(f"a sweep cannot vary {name}: its SAEs are trained on the same batches, in one pass")
    base = as_dict(replace(config, sweep=None, tracker=None))
    configs: dict[TrainConfig, None] = {}
    for values in product(*sweep.values()):
        choice = dict(zip(sweep, values, strict=True))
        chosen = {"architecture": choice["architecture"]} if "architecture" in choice else {}
        has = settings_of(build(TrainConfig, base, chosen))
        layer = nest(TrainConfig, {name: value for name, value in choice.items() if name in has})
        configs[build(TrainConfig, base, layer)] = None
    for name in sweep:
        if not any(name in settings_of(expanded) for expanded in configs):
            used = ", ".join(dict.fromkeys(settings_of(expanded)["architecture"] for expanded in configs))
            raise ConfigError(f"the sweep varies {name}, which {used} does not use; leave it out")
    return list(configs)


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """The options that one SAE is trained with, by name, as plain values: also those of its architecture."""
    values = {name: value for name, value in as_dict(config).items() if name not in _OF_THE_TRAINING}
    options = values.pop("architecture")
    return {"architecture": options.pop("kind"), **options, **values}


def folder_name(config: TrainConfig, varied: Iterable[str]) -> str:
    """Name of an SAE's folder in a sweep, such as `topk-k16-seed0`: letters, digits, `.`, `-` and `_`.

    Different for any two of the settings that `expand` gives. `varied` are the names of the options that the sweep
    varies, in its order; the sweep itself will do.
    """
    settings = settings_of(config)
    architecture = settings.pop("architecture")
    return "-".join([architecture, *(name + _text(settings[name]) for name in varied if name in settings)])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "_".join(map(str, value)) or UNSET
    # repr tells any two floats apart; its plus (1e+16) says nothing.
    return UNSET if value is None else repr(value).replace("+", "")


def recommend(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the SAE to take where nothing speaks for another one; see `RULE`. Of equals the first.

    Of its name -> measures, with `explained_variance` and, in `monosemanticity`, `mean_with_zeros`.
    """
    scores = {name: _or_worst(measures["monosemanticity"]["mean_with_zeros"]) for name, measures in metrics.items()}
    equal = [name for name, score in scores.items() if score >= max(scores.values()) - MARGIN]
    return max(equal, key=lambda name: (_or_worst(metrics[name]["explained_variance"]), scores[name]))


def _or_worst(value: float) -> float:
    """Comparisons with NaN are false, so it would win or lose by its place."""
    return -math.inf if math.isnan(value) else value


def sweep_lines(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The SAEs of a sweep as a table for people, and which one is recommended; arguments as for `recommend`."""
    width = max(map(len, metrics))
    lines = [f"{'SAE':<{width}}  explained variance       L0  never fired  monosemanticity"]
    for name, measures in metrics.items():
        lines.append(
            f"{name:<{width}}  {measures['explained_variance']:18.4f} {measures['l0']:8.2f} "
            f"{measures['dead_share']:12.1%} {measures['monosemanticity']['mean_with_zeros']:16.4f}"
        )
    return [*lines, f"recommended: {recommend(metrics)} ({RULE})"]


def varied_values(configs: Sequence[TrainConfig], varied: Iterable[str]) -> dict[str, list[Any]]:
    """The values that each varied option takes, converted, in their order."""
    taken: dict[str, list[Any]] = {name: [] for name in varied}
    for settings in map(settings_of, configs):
        for name in taken:
            if name in settings and settings[name] not in taken[name]:
                taken[name].append(settings[name])
    return taken


def seeds_of_settings(configs: Sequence[TrainConfig]) -> list[list[int]]:
    """Indices of those whose settings differ in the seed alone, together, where there are two or more."""
    together: dict[TrainConfig, list[int]] = {}
    for index, config in enumerate(configs):
        together.setdefault(replace(config, seed=0), []).append(index)
    return [members for members in together.values() if len(members) > 1]
