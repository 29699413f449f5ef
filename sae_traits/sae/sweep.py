"""Sweeps: which SAEs to train side by side, what each is called, and which one to recommend."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import product
from typing import Any

from sae_traits.config import TrainConfig
from sae_traits.config.layers import resolve
from sae_traits.errors import ConfigError

SHARED = ("sae", "sae_revision", "sweep", "tracker", "batch_size", "n_patches")
"""Options that cannot be varied: all SAEs of a sweep are trained on the same batches, and none is adopted."""
READ_BY: Mapping[str, tuple[str, ...]] = {
    "k": ("topk", "batch_topk", "jump_relu"),
    "l1_coefficient": ("relu",),
    "l0_coefficient": ("jump_relu",),
    "sparsity_warmup_steps": ("relu", "jump_relu"),
}
"""Option -> the architectures that read it; all others are read by all."""
RULE = (
    "the highest mean monosemanticity over all latents, those without a score counting zero; "
    "of equal ones the highest explained variance"
)
"""What `recommend` does, in words."""
NONE = "none"
"""How no value is written: no clipping (gradient_norm), or no Matryoshka prefixes."""


def parse_sweep(text: str) -> dict[str, list[Any]]:
    """The options that a sweep varies, as the command line writes them: `k=8,16,32 seed=0,1`.

    Values are separated by commas, the numbers of one value of `prefixes` by `+`: `prefixes=none,96+384`.

    Returns:
        Option -> values, not yet converted or checked; `expand` does both.

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
        sweep[name] = [_parse_value(name, value) for value in values.split(",")]
    if not sweep:
        raise ConfigError("the sweep varies nothing; write for example `k=8,16,32 seed=0,1`")
    return sweep


def _parse_value(name: str, text: str) -> Any:
    if name == "prefixes":
        return () if text == NONE else tuple(text.split("+"))
    return None if text == NONE else text


def expand(config: TrainConfig, sweep: Mapping[str, Sequence[Any]]) -> list[TrainConfig]:
    """The settings of every SAE of a sweep: the product of the varied options, the last one fastest.

    Where an architecture does not read an option (`k` and relu), its values make no difference and one SAE is trained.

    Args:
        config: everything that is not varied.
        sweep: option -> its values; none varies nothing.

    Raises:
        ConfigError: an option does not exist, cannot be varied or is not used, or a value cannot be used.
    """
    _check_names(config, sweep)
    found: dict[TrainConfig, None] = {}
    for values in product(*sweep.values()):
        choice = dict(zip(sweep, values, strict=True))
        architecture = choice.get("architecture", config.architecture)
        read = {name: value for name, value in choice.items() if is_read(name, architecture)}
        found[resolve({"train": asdict(config) | read}).train] = None
    for name in sweep:
        if not any(is_read(name, one.architecture) for one in found):
            used = ", ".join(sorted({one.architecture for one in found}))
            raise ConfigError(f"the sweep varies {name}, which {used} does not use; leave it out")
    return list(found)


def _check_names(config: TrainConfig, sweep: Mapping[str, Sequence[Any]]) -> None:
    if sweep and config.sae is not None:
        raise ConfigError("a sweep trains SAEs and --sae uses one; leave out one of the two")
    known = [field.name for field in fields(TrainConfig) if field.name not in SHARED]
    for name, values in sweep.items():
        if name in SHARED:
            raise ConfigError(f"a sweep cannot vary {name}: its SAEs are trained on the same batches, in one pass")
        if name not in known:
            raise ConfigError(f"a sweep cannot vary {name!r}: there is no such option; there are {', '.join(known)}")
        if not values:
            raise ConfigError(f"the sweep gives {name} no value; give at least one")


def is_read(name: str, architecture: str) -> bool:
    """Whether an option makes a difference to an architecture."""
    return architecture in READ_BY.get(name, (architecture,))


def folder_name(config: TrainConfig, varied: Iterable[str]) -> str:
    """Name of an SAE's folder in a sweep, such as `topk-k16-seed0`: letters, digits, `.`, `-` and `_`.

    Different for any two of the settings that `expand` gives.

    Args:
        config: settings of the SAE.
        varied: names of the options that the sweep varies, in its order; the sweep itself will do.
    """
    options = [
        name + _text(getattr(config, name))
        for name in varied
        if name != "architecture" and is_read(name, config.architecture)
    ]
    return "-".join([config.architecture, *options])


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "_".join(map(str, value)) or NONE
    # repr tells any two floats apart; its plus (1e+16) says nothing.
    return NONE if value is None else repr(value).replace("+", "")


def recommend(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of the SAE to take where nothing speaks for another one; see `RULE`. Of equals the first.

    Args:
        metrics: name -> measures, with `explained_variance` and, in `monosemanticity`, `mean_with_zeros`.
    """

    def merits(name: str) -> tuple[float, float]:
        of_one = metrics[name]
        return _or_worst(of_one["monosemanticity"]["mean_with_zeros"]), _or_worst(of_one["explained_variance"])

    return max(metrics, key=merits)


def _or_worst(value: float) -> float:
    """Comparisons with NaN are false, so it would win or lose by its place."""
    return -math.inf if math.isnan(value) else value


def varied_values(configs: Sequence[TrainConfig], varied: Collection[str]) -> dict[str, list[Any]]:
    """The values that each varied option takes, converted, in their order."""
    return {
        name: list(dict.fromkeys(getattr(one, name) for one in configs if is_read(name, one.architecture)))
        for name in varied
    }
