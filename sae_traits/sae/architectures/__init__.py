"""The architectures: one subclass of `SAE` per file, and a line of `ARCHITECTURES` that registers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_traits.config.train import BatchTopK, JumpReLU, ReLU, TopK, TrainConfig
from sae_traits.errors import CheckpointError
from sae_traits.sae.architectures.batch_topk import BatchTopKSAE
from sae_traits.sae.architectures.fitted import KMeansDictionary, NMFDictionary
from sae_traits.sae.architectures.jump_relu import JumpReLUSAE
from sae_traits.sae.architectures.relu import ReLUSAE
from sae_traits.sae.architectures.topk import TopKSAE
from sae_traits.sae.architectures.trainable import TrainableSAE
from sae_traits.sae.model import SAE, SAEConfig


@dataclass(frozen=True)
class Architecture:
    """What belongs together: the name in config.json, the subclass, and the options that it is trained with."""

    name: str
    sae: type[SAE]
    options: type | None = None
    """None for a baseline, which is fitted."""


ARCHITECTURES = (
    Architecture("topk", TopKSAE, TopK),
    Architecture("batch_topk", BatchTopKSAE, BatchTopK),
    Architecture("jump_relu", JumpReLUSAE, JumpReLU),
    Architecture("relu", ReLUSAE, ReLU),
    Architecture("k_means", KMeansDictionary),
    Architecture("nmf", NMFDictionary),
)


def sae_class(name: str) -> type[SAE]:
    """The subclass of `SAE` of a name in config.json; a CheckpointError where there is none."""
    by_name = {architecture.name: architecture.sae for architecture in ARCHITECTURES}
    if name not in by_name:
        raise CheckpointError(f"unknown architecture {name!r}; this version knows {', '.join(by_name)}")
    return by_name[name]


def trained_class(config: TrainConfig) -> type[TrainableSAE]:
    """The subclass of `SAE` that a training makes."""
    return _of_options(config)[1]


def new_sae(config: TrainConfig, d_model: int, **facts: Any) -> TrainableSAE:
    """The SAE that a training begins with; `facts` are further fields of its `SAEConfig`: `backbone`, `training`."""
    name, subclass = _of_options(config)
    sae_config = SAEConfig(
        architecture=name,
        d_model=d_model,
        n_latents=config.n_latents,
        k=getattr(config.architecture, "k", None),
        prefixes=config.prefixes,
        **facts,
    )
    return subclass(sae_config, seed=config.seed)


def _of_options(config: TrainConfig) -> tuple[str, type[TrainableSAE]]:
    (trained,) = (a for a in ARCHITECTURES if a.options is type(config.architecture))
    assert issubclass(trained.sae, TrainableSAE)
    return trained.name, trained.sae
