"""Settings of trainings by the name of their architecture."""

from __future__ import annotations

from sae_traits.config.train import TrainConfig
from sae_traits.config.tree import build, nest
from sae_traits.sae.sweep import settings_of


def train_config(architecture: str = "topk", **options: object) -> TrainConfig:
    """Of the options, those that the architecture has; so several architectures can be given the same."""
    has = settings_of(build(TrainConfig, {"architecture": architecture}))
    return build(
        TrainConfig,
        nest(TrainConfig, {"architecture": architecture} | {n: v for n, v in options.items() if n in has}),
    )
