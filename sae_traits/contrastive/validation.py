"""Zero-shot accuracy on validation images while training, and the features that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from sae_traits.contrastive.model import ContrastiveModel
from sae_traits.contrastive.samples import Sample
from sae_traits.errors import CollectionError, ImageError
from sae_traits.features.preprocessing import PreparePixels
from sae_traits.models.clip.tokens import TextTokenizer

_AT_ONCE = 32


class Validation:
    """Validation images, each to be given the right one of their species' names."""

    def __init__(self, samples: Sequence[Sample], prepare: PreparePixels, tokenizer: TextTokenizer) -> None:
        """Images without species are left out; the class of a species is its text `sci`."""
        self.samples = [sample for sample in samples if sample.species is not None and "sci" in sample.texts]
        names = {sample.species: sample.texts["sci"][0] for sample in self.samples}
        self.species = sorted(name for name in names if name is not None)
        self._ids = tokenizer.ids([names[name] for name in self.species]) if names else None
        self._prepare = prepare

    def __bool__(self) -> bool:
        """Whether there is anything to classify: two species at least."""
        return len(self.species) > 1

    @torch.no_grad()
    def accuracy(self, model: ContrastiveModel) -> float:
        """Share of the images whose own name is the most similar one, on the model's device and in its precision."""
        assert self._ids is not None
        was_training, device = model.training, model.clip.logit_scale.device
        model.eval()
        classes = torch.cat([_text_features(model, ids.to(device)) for ids in self._ids.split(_AT_ONCE)])
        n_right = 0
        for begin in range(0, len(self.samples), _AT_ONCE):
            some = self.samples[begin : begin + _AT_ONCE]
            pixels = torch.stack([self._prepare(_opened(sample)) for sample in some]).to(device)
            chosen = (model.image_features(pixels) @ classes.T).argmax(dim=1).tolist()
            pairs = zip(chosen, some, strict=True)
            n_right += sum(self.species[index] == sample.species for index, sample in pairs)
        model.train(was_training)
        return n_right / len(self.samples)


def _opened(sample: Sample) -> Image.Image:
    try:
        return sample.open()
    except ImageError as error:
        raise CollectionError(f"{sample.name} cannot be used: {error}") from error


def _text_features(model: ContrastiveModel, ids: Tensor) -> Tensor:
    features = model.clip.get_text_features(input_ids=ids).pooler_output
    return torch.nn.functional.normalize(features, dim=-1)
