"""Features of all processes, with gradients that go back to the process which made them."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

from sae_traits.contrastive.objectives import Pairs


def gather_pairs(image: Tensor, text: Tensor, groups: Tensor | None = None) -> Pairs:
    """The pairs of this process `[n, embed_dim]` among those of all processes, as many of each, in their order.

    The gradient of a feature is the sum over the losses of all processes; a trainer that averages over processes then
    has the gradient of the whole batch's mean loss. `groups` `[n]` are numbers that mean the same in every process.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return Pairs.of_one_process(image, text, groups)
    images, texts = torch.cat(all_gather(image)), torch.cat(all_gather(text))
    if groups is not None:
        of_all = [torch.empty_like(groups) for _ in range(distributed.get_world_size())]
        distributed.all_gather(of_all, groups.contiguous())
        groups = torch.cat(of_all)
    return Pairs(image, text, images, texts, distributed.get_rank() * len(image), groups)
