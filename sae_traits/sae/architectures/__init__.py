"""How pre-activations become latents: one file an architecture, behind one small interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, get_args

from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.sae.activations import Selection
from sae_traits.sae.architectures.batch_topk import BatchTopK
from sae_traits.sae.architectures.jump_relu import JumpReLU
from sae_traits.sae.architectures.k_means import KMeans
from sae_traits.sae.architectures.nmf import NMF
from sae_traits.sae.architectures.relu import ReLU
from sae_traits.sae.architectures.topk import TopK
from sae_traits.sae.processes import Processes

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE, SAEConfig
    from sae_traits.sae.objectives import ForwardPass

ArchitectureName = Literal["relu", "topk", "batch_topk", "jump_relu", "k_means", "nmf"]
"""The last two are baselines that are fitted, not trained."""


class Architecture(Protocol):
    """What every later step needs of a dictionary; the module's tensors come with the SAE."""

    has_threshold: ClassVar[bool]
    """Whether the SAE has a tensor `threshold [n_latents]`."""

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`, zero or positive, of features `[n, d_model]`."""
        ...

    def gate(self, sae: SAE) -> Tensor | None:
        """`[n_latents]`: a latent is its own pre-activation where that is larger than this, and zero elsewhere.

        None where a latent depends on the other latents too.
        """
        ...


class TrainableArchitecture(Architecture, Protocol):
    """What training needs besides."""

    def start(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """Set what depends on the data, before the first step; the arguments are those of `select`."""
        ...

    def select(self, pre: Tensor, sae: SAE, processes: Processes) -> Selection | None:
        """Which latents of a batch are active; None where the architecture has a dense function `activate` instead.

        Args:
            pre: pre-activations `[n, n_latents]`, without gradient.
            sae: the SAE; its threshold may be moved.
            processes: those that share the batch.
        """
        ...

    def sparsity_loss(self, step: ForwardPass) -> Tensor | None:
        """What training adds to the loss, weighed by a coefficient; None where the activation itself is sparse."""
        ...


class DenseArchitecture(TrainableArchitecture, Protocol):
    """One whose `select` gives None."""

    def activate(self, pre: Tensor, sae: SAE) -> Tensor:
        """Latents `[n, n_latents]` of pre-activations `[n, n_latents]`, both with gradients."""
        ...


def make_architecture(config: SAEConfig) -> Architecture:
    """The architecture that a configuration names.

    Raises:
        CheckpointError: there is no such architecture, or it lacks its k.
    """
    match config.architecture:
        case "relu":
            return ReLU()
        case "topk" | "batch_topk" if config.k is None:
            raise CheckpointError(f"the architecture {config.architecture!r} needs k, the number of active latents")
        case "topk":
            assert config.k is not None
            return TopK(config.k)
        case "batch_topk":
            assert config.k is not None
            return BatchTopK(config.k)
        case "jump_relu":
            return JumpReLU(config.k)
        case "k_means":
            return KMeans()
        case "nmf":
            return NMF()
    raise CheckpointError(
        f"unknown architecture {config.architecture!r}; this version knows {', '.join(get_args(ArchitectureName))}"
    )
