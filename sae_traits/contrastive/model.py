"""A CLIP in training: transformers' model, and what only training knows: more projections, their scales, an offset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sae_traits.contrastive.gradient_cache import Encoded

Head = Literal["taxonomy", "caption"]
"""Which projection and scale a batch trains: those of names, or BioCAP's second ones, of captions."""


class ContrastiveModel(nn.Module):
    """A transformers CLIPModel or SiglipModel with the heads that a recipe trains.

    Attributes:
        clip: the model of transformers.
        caption_projection, logit_scale_caption: BioCAP's second projection of images, and its scale.
        replay_projection: BioCLIP 2's second projection of images, for general pictures that are replayed.
        logit_bias, logit_bias_caption: SigLIP's offsets for a model that has none itself.
    """

    def __init__(self, clip: Any, others: Mapping[str, Tensor] | None = None) -> None:
        """The model and the tensors besides it, by the names of their attributes (`caption_projection.weight` …)."""
        super().__init__()
        self.clip = clip
        self.caption_projection = self.replay_projection = None
        self.logit_scale_caption = self.logit_bias = self.logit_bias_caption = None
        for name, tensor in (others or {}).items():
            attribute, _, is_weight = name.partition(".")
            setattr(self, attribute, _linear(tensor) if is_weight else nn.Parameter(tensor.clone()))

    def add_caption_head(self) -> None:
        """Give it BioCAP's second projection and scale, copies of the first, unless it has them."""
        if self.caption_projection is None:
            self.caption_projection = _linear(self.clip.visual_projection.weight.detach())
        if self.logit_scale_caption is None:
            self.logit_scale_caption = nn.Parameter(self.clip.logit_scale.detach().clone())

    def add_replay_head(self) -> None:
        """Give it BioCLIP 2's second projection, a copy of the first, unless it has one."""
        if self.replay_projection is None:
            self.replay_projection = _linear(self.clip.visual_projection.weight.detach())

    @torch.no_grad()
    def begin_sigmoid(self, scale: float, offset: float, *, of_captions: bool = False) -> None:
        """Give it the scale and the offset that SigLIP begins with, and its second projection others.

        Where there is an offset, it and its scale were learnt together and stay as they are. The scale of a CLIP was
        learnt for cosines of pairs to be compared with each other, not with an offset.
        """
        dtype = self.clip.logit_scale.dtype
        if self.logit_bias is None and not hasattr(self.clip, "logit_bias"):
            self.logit_bias = nn.Parameter(torch.tensor(offset, dtype=dtype))
            self.clip.logit_scale.fill_(math.log(scale))
        if of_captions and self.logit_bias_caption is None:
            assert self.logit_scale_caption is not None
            self.logit_bias_caption = nn.Parameter(torch.tensor(offset, dtype=dtype))
            self.logit_scale_caption.fill_(math.log(scale))

    def largest_scale(self) -> float:
        """The larger of the factors of its cosines."""
        scales = [self.clip.logit_scale, self.logit_scale_caption]
        return max(float(scale.detach().exp()) for scale in scales if scale is not None)

    def others(self) -> dict[str, Tensor]:
        """The tensors that are not of transformers' model, by name; what `__init__` takes."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("clip.")}

    def forward(self, pixels: Tensor, token_ids: Tensor, head: Head = "taxonomy", n_replayed: int = 0) -> Encoded:
        """Unit features of pairs, in float32 or wider, with the scale and the offset of the head.

        Parameters that have no part in the features get no gradient, so the optimiser leaves them as they are.

        Args:
            pixels: `[n, 3, height, width]`
            token_ids: `[n, context_length]`
            head: of all pairs that are not replayed.
            n_replayed: so many pairs at the end are general pictures, for `replay_projection`.
        """
        image = self.image_features(pixels, head, n_replayed)
        text = _unit(self.clip.get_text_features(input_ids=token_ids).pooler_output)
        if head == "caption":
            assert self.logit_scale_caption is not None
            scale, offset = self.logit_scale_caption, self.logit_bias_caption
        else:
            scale, offset = self.clip.logit_scale, getattr(self.clip, "logit_bias", self.logit_bias)
        return Encoded(image, text, scale.exp(), offset)

    def image_features(self, pixels: Tensor, head: Head = "taxonomy", n_replayed: int = 0) -> Tensor:
        """Unit features of images `[n, embed_dim]`."""
        if head == "taxonomy" and not n_replayed:
            return _unit(self.clip.get_image_features(pixel_values=pixels).pooler_output)
        pooled = self.clip.vision_model(pixel_values=pixels).pooler_output
        projection = self.caption_projection if head == "caption" else self.clip.visual_projection
        assert projection is not None
        n_own = len(pixels) - n_replayed
        parts = [projection(pooled[:n_own])] if n_own else []
        if n_replayed:
            assert self.replay_projection is not None
            parts.append(self.replay_projection(pooled[n_own:]))
        return _unit(torch.cat(parts))


def _linear(weight: Tensor) -> nn.Linear:
    projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        projection.weight.copy_(weight)
    return projection


def _unit(features: Tensor) -> Tensor:
    """Of unit length, not in half precision: neighbours would be equal."""
    return normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)
