"""Batches larger than the memory: the gradient of the whole batch, computed from one chunk of it at a time.

Features of all chunks are computed without gradients, then the loss of all of them and its gradient with respect to
each feature, then every chunk again, with that gradient sent back through the towers. Memory is that of one chunk and
of the features. The scale and the offset take part in the loss alone, so their gradients are taken from it, once, and
not at every chunk. Source: Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited setup".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Chunk = TypeVar("Chunk")


class Encoded(NamedTuple):
    """What a model makes of image-text pairs; a tuple, so that DistributedDataParallel sees the tensors in it."""

    image: Tensor
    """Unit features `[n, embed_dim]`."""
    text: Tensor
    scale: Tensor
    """The factor of the cosines."""
    offset: Tensor | None
    """What is added to them (SigLIP)."""


def backward_in_chunks(
    chunks: Sequence[Chunk],
    encode: Callable[[Chunk], Encoded],
    loss_of: Callable[[Encoded], Tensor],
    backward: Callable[[Tensor], None],
    without_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Tensor:
    """Add the gradient of the whole batch's loss to the parameters, and return the loss.

    Args:
        chunks: parts of the batch, in order.
        encode: the model; the same for the same chunk whenever it is called.
        loss_of: the loss of the whole batch, from the features of all chunks.
        backward: sends a scalar back through the model.
        without_sync: inside it, gradients are kept in this process; they are exchanged at the last chunk.
    """
    with torch.no_grad():
        parts = [encode(chunk) for chunk in chunks]
    image = torch.cat([part.image for part in parts]).requires_grad_()
    text = torch.cat([part.text for part in parts]).requires_grad_()
    scale = parts[-1].scale.detach().requires_grad_()
    offset = None if (last := parts[-1].offset) is None else last.detach().requires_grad_()
    leaves = [image, text, scale] if offset is None else [image, text, scale, offset]
    loss = loss_of(Encoded(image, text, scale, offset))
    of_image, of_text, *of_scalars = torch.autograd.grad(loss, leaves)
    begin = 0
    for chunk, part in zip(chunks, parts, strict=True):
        rows = slice(begin, begin + len(part.image))
        begin = rows.stop
        is_last = begin == len(image)
        with nullcontext() if is_last else without_sync():
            encoded = encode(chunk)
            along = (encoded.image * of_image[rows]).sum() + (encoded.text * of_text[rows]).sum()
            if is_last:
                scalars = [encoded.scale] if encoded.offset is None else [encoded.scale, encoded.offset]
                along = along + sum((value * grad).sum() for value, grad in zip(scalars, of_scalars, strict=True))
            backward(along)
    return loss.detach()
