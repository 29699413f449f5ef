"""What a CLIP is trained to lower: plain functions of unit features, a scale and an offset, all of one signature.

Every process has the rows of its own pairs and the features of all; the mean of a loss over the processes is that of
the whole batch, and so are its gradients, because gradients go back through the gather (`gather.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


@dataclass(frozen=True)
class Pairs:
    """Features of unit length of image-text pairs: those of this process, and those of all processes."""

    image: Tensor
    """`[n, embed_dim]`"""
    text: Tensor
    """`[n, embed_dim]`"""
    images: Tensor
    """Of all processes `[n_all, embed_dim]`, in the order of the batch."""
    texts: Tensor
    """`[n_all, embed_dim]`"""
    first: int = 0
    """Where in the batch the rows of this process begin."""
    groups: Tensor | None = None
    """Species of each pair of the batch, as a number `[n_all]`."""

    @classmethod
    def of_one_process(cls, image: Tensor, text: Tensor, groups: Tensor | None = None) -> Pairs:
        """Pairs of which no other process has any."""
        return cls(image, text, image, text, 0, groups)

    @property
    def own(self) -> Tensor:
        """Place in the batch of each pair of this process `[n]`."""
        return torch.arange(len(self.image), device=self.image.device) + self.first


Objective = Callable[[Pairs, Tensor, Tensor | None], Tensor]
"""(pairs, scale, offset) -> loss: the factor of the cosines, exponentiated already, and what is added to them."""


def clip_loss(pairs: Pairs, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Cross-entropy of each image among all texts and of each text among all images, halved (symmetric InfoNCE).

    Another pair of the same species counts as wrong. Source: Radford et al. 2021, figure 3.
    """
    of_image, of_text = _logits(pairs, scale, offset)
    return (cross_entropy(of_image, pairs.own) + cross_entropy(of_text, pairs.own)) / 2


def multi_positive_loss(pairs: Pairs, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """As `clip_loss`, but all pairs of the same species are equally right: the target is spread evenly over them.

    Source: our definition; Khosla et al. 2020 (supervised contrastive learning) average log-probabilities likewise.
    """
    assert pairs.groups is not None, "repeated species need the species of each pair"
    same = pairs.groups[pairs.own, None] == pairs.groups
    of_image, of_text = _logits(pairs, scale, offset)
    target = same.to(of_image.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    return (cross_entropy(of_image, target) + cross_entropy(of_text, target)) / 2


def siglip_loss(pairs: Pairs, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Every image with every text is a question of its own, right or wrong; losses are summed per image, then averaged.

    Source: Zhai et al. 2023, algorithm 1.
    """
    logits, _ = _logits(pairs, scale, offset)
    sign = torch.full_like(logits, -1.0)
    sign[torch.arange(len(sign), device=sign.device), pairs.own] = 1.0
    return -logsigmoid(sign * logits).sum() / len(logits)


OBJECTIVES: dict[str, Objective] = {
    "clip": clip_loss,
    "multi_positive": multi_positive_loss,
    "siglip": siglip_loss,
}
"""By their names in the configuration."""


def summed_loss(objective: Objective, parts: Sequence[Pairs], scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Sum of an objective over parts of a batch that do not see each other, with one scale: BioCLIP 2's replay.

    There the second part is of general pictures, whose image features come from a projection of their own.
    Source: Gu et al. 2025 (BioCLIP 2), loss.py, ContinualLoss: both parts have the weight 1.
    """
    losses = [objective(pairs, scale, offset) for pairs in parts]
    return torch.stack(losses).sum()


def _logits(pairs: Pairs, scale: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of each own image with all texts, and of each own text with all images `[n, n_all]`."""
    of_image, of_text = scale * pairs.image @ pairs.texts.T, scale * pairs.text @ pairs.images.T
    return (of_image, of_text) if offset is None else (of_image + offset, of_text + offset)
