"""The architectures: one subclass of `SAE` per file, and a line of `ARCHITECTURES` that registers it."""

from typing import Any

from sae_traits.config.train import TrainConfig
from sae_traits.errors import CheckpointError
from sae_traits.sae.architectures.batch_topk import BatchTopKSAE
from sae_traits.sae.architectures.fitted import KMeansDictionary, NMFDictionary
from sae_traits.sae.architectures.jump_relu import JumpReLUSAE
from sae_traits.sae.architectures.relu import ReLUSAE
from sae_traits.sae.architectures.topk import TopKSAE
from sae_traits.sae.architectures.trainable import TrainableSAE
from sae_traits.sae.model import SAE, SAEConfig

ARCHITECTURES: dict[str, type[SAE]] = {
    "topk": TopKSAE,
    "batch_topk": BatchTopKSAE,
    "jump_relu": JumpReLUSAE,
    "relu": ReLUSAE,
    "k_means": KMeansDictionary,
    "nmf": NMFDictionary,
}
"""By the name in config.json: the `kind` of the options in `config.train`, which baselines have not."""


def sae_class(name: str) -> type[SAE]:
    """The subclass of `SAE` of a name in config.json; a CheckpointError where there is none."""
    if name not in ARCHITECTURES:
        raise CheckpointError(f"unknown architecture {name!r}; this version knows {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def trained_class(config: TrainConfig) -> type[TrainableSAE]:
    """The subclass of `SAE` that a training makes."""
    subclass = ARCHITECTURES[config.architecture.kind]
    assert issubclass(subclass, TrainableSAE)
    return subclass


def new_sae(config: TrainConfig, d_model: int, **facts: Any) -> TrainableSAE:
    """The SAE that a training begins with; `facts` are further fields of its `SAEConfig`: `backbone`, `training`."""
    sae_config = SAEConfig(
        architecture=config.architecture.kind,
        d_model=d_model,
        n_latents=config.n_latents,
        k=getattr(config.architecture, "k", None),
        prefixes=config.prefixes,
        **facts,
    )
    return trained_class(config)(sae_config, seed=config.seed)
