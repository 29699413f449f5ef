"""The section `train`: which sparse autoencoder, trained here or adopted; its architecture is one of four variants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sae_traits.config.options import check, check_at_least, check_positive, check_seed, option, variant

Initialisation = Literal["k_means", "random"]
_K_HELP = "Active latents per patch: exactly (topk), or on average (batch_topk, jump_relu)."
_WARMUP_HELP = "Steps over which the weight of a penalty rises from zero (relu, jump_relu)."


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The k largest latents of every patch."""

    kind: Literal["topk"] = "topk"
    k: int = option(16, _K_HELP)

    def __post_init__(self) -> None:
        check_at_least(1, self, "k")


@dataclass(frozen=True, kw_only=True)
class BatchTopK:
    """The largest latents of a batch, k per patch on average."""

    kind: Literal["batch_topk"] = "batch_topk"
    k: int = option(16, _K_HELP)

    def __post_init__(self) -> None:
        check_at_least(1, self, "k")


@dataclass(frozen=True, kw_only=True)
class JumpReLU:
    """A learned threshold per latent, trained towards k active ones."""

    kind: Literal["jump_relu"] = "jump_relu"
    k: int = option(16, _K_HELP)
    l0_coefficient: float = option(1.0, "Weight of the penalty (L0 / k - 1)² on scaled features (jump_relu).")
    sparsity_warmup_steps: int = option(100, _WARMUP_HELP)

    def __post_init__(self) -> None:
        check_at_least(1, self, "k")
        check_at_least(0, self, "l0_coefficient", "sparsity_warmup_steps")


@dataclass(frozen=True, kw_only=True)
class ReLU:
    """The paper's SAE: ReLU and an L1 penalty."""

    kind: Literal["relu"] = "relu"
    l1_coefficient: float = option(4e-4, "Weight of the L1 penalty on unscaled features (relu).")
    sparsity_warmup_steps: int = option(100, _WARMUP_HELP)

    def __post_init__(self) -> None:
        check_at_least(0, self, "l1_coefficient", "sparsity_warmup_steps")


Architecture = TopK | BatchTopK | JumpReLU | ReLU


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A sparse autoencoder (SAE) that is trained here, or several."""

    kind: Literal["new"] = "new"
    architecture: Architecture = variant(TopK, "How latents become sparse.")
    n_latents: int = option(1536, "Size of the dictionary; the paper used 24576.")
    prefixes: tuple[int, ...] = option(
        (),
        "Matryoshka: sizes of smaller dictionaries inside this one, such as 96,384: the first so many latents are also "
        "trained to reconstruct alone.",
        metavar="N,…",
    )
    initialisation: Initialisation | None = option(
        None,
        "What decoder rows start as: centroids of the first training patches (k_means), or random directions; by "
        "default k_means for topk, random for the others.",
    )
    n_patches: int = option(2_000_000, "Training patches in all, counted with repetition; the paper used 100000000.")
    batch_size: int = option(2048, "Patches per step, over all processes.")
    learning_rate: float | None = option(
        None,
        "Peak learning rate of Adam; by default 0.001, and for relu 0.1 over the square root of the features' width.",
    )
    warmup_steps: int = option(100, "Steps of linear learning-rate warm-up; the paper used 500.")
    max_gradient_norm: float | None = option(None, "Clip the gradient of each step to this norm.")
    seed: int = option(0, "Seed of the initial weights and of the order of patches.")
    sweep: str | None = option(
        None,
        "Train several SAEs in one pass over the data: options and values, such as `k=8,16,32 seed=0,1`.",
        metavar="'NAME=VALUE,… …'",
    )
    tracker: str | None = option(
        None,
        "Also log to one of Accelerate's trackers that is installed: tensorboard, wandb, trackio, mlflow and others.",
        metavar="NAME",
        is_local=True,
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "n_latents", "n_patches", "batch_size")
        check_at_least(0, self, "warmup_steps")
        check_seed(self.seed)
        check_positive(self, "learning_rate", "max_gradient_norm")
        k = getattr(self.architecture, "k", 1)
        check(k <= self.n_latents, f"k ({k}) cannot exceed n_latents ({self.n_latents})")
        rising = (0, *self.prefixes, self.n_latents)
        check(
            all(first < end for first, end in pairwise(rising)),
            f"prefixes must rise and stay below n_latents ({self.n_latents}), not {self.prefixes}",
        )


@dataclass(frozen=True, kw_only=True)
class AdoptedSAE:
    """An SAE that was trained before, as it is."""

    kind: Literal["adopted"] = "adopted"
    sae: str = option(help="SAE to use instead of training one: folder, file or Hub id.", metavar="SAE", is_path=True)
    revision: str | None = option(
        None, "Branch, tag or commit of that SAE on the Hub.", flag="sae-revision", metavar="REVISION"
    )
    subfolder: str = option("", "Folder of the SAE inside that folder or repository.", metavar="FOLDER")


Train = TrainConfig | AdoptedSAE
