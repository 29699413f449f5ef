"""Grad-CAM: where in an image a backbone's own classifier sees the class that it predicts."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sae_traits.config.features import Backbone, VisionModel, recorded_kind
from sae_traits.errors import BackboneError
from sae_traits.features.image_size import forward
from sae_traits.features.model_files import ModelFiles
from sae_traits.features.preprocessing import PreparePixels
from sae_traits.features.vision import patch_vectors
from sae_traits.schema import BackboneInfo

_CHOOSE = (
    "--regions gradcam needs a backbone with the head that it was trained to classify images with, such as "
    "google/vit-base-patch16-224, microsoft/resnet-50 or a MobileNetV2 (DINOv2, CLIP and SigLIP have none); extract "
    "with one of these, or choose other --regions"
)


@dataclass(frozen=True)
class ClassMap:
    """A map of where an image shows the class that was predicted for it."""

    class_index: int
    class_name: str
    """As the model's config names it."""
    values: NDArray[np.float32]
    """One per patch, zero or positive, in logits `[rows * columns]`."""


class GradCAM:
    """Class-discriminative maps of a classifier at the hidden state that the features are taken from.

    The class c of an image is the one with the highest logit y_c; no label is read. The weight of channel k is the mean
    over the patches of dy_c / dA_k, A being the hidden state `info.layer`, so that the map lies on the same patches as
    the features; the map is ReLU(sum over k of weight_k A_k). The authors take the last convolutional layer, whose maps
    say most of the class; an earlier layer is finer, and less certain. At a transformer's last hidden state, of which
    the head reads the first token alone, the map is zero everywhere.

    Source: Selvaraju et al. 2017, section 3, equations 1 and 2.
    """

    def __init__(self, model: nn.Module, info: BackboneInfo, device: torch.device) -> None:
        self.info = info
        self.prepare = PreparePixels(info)
        self._model = model.to(device)
        self._device = device

    def __call__(self, batch: Tensor) -> list[ClassMap]:
        """The maps of prepared images `[n_images, 3, height, width]`.

        Raises:
            BackboneError: the classifier does not read this hidden state.
        """
        pixels = batch.to(self._device).requires_grad_()  # the parameters are frozen: without this there is no graph
        output = forward(self._model, pixels, output_hidden_states=True)
        scores, classes = output.logits.max(dim=1)
        gradient = None
        if len(states := output.hidden_states or ()) > self.info.layer:
            (gradient,) = torch.autograd.grad(scores.sum(), states[self.info.layer], allow_unused=True)
        if gradient is None:
            raise BackboneError(
                f"the classifier of {self.info.backbone} does not read its hidden state {self.info.layer}; extract "
                "with an earlier --layer, or choose other --regions"
            )
        n_patches = self.info.rows * self.info.columns
        weights = patch_vectors(gradient, n_patches).mean(dim=1, keepdim=True)
        maps = (patch_vectors(states[self.info.layer], n_patches) * weights).sum(dim=2).relu().detach().cpu().numpy()
        names = getattr(self._model.config, "id2label", {})
        return [ClassMap(c, str(names.get(c, c)), values) for c, values in zip(classes.tolist(), maps, strict=True)]


def load_gradcam(info: BackboneInfo, device: torch.device) -> GradCAM:
    """Load the classifier of the backbone that was recorded; a BackboneError where it has none, or has changed."""
    if not recorded_kind(info.backbone).has_weights:
        raise _without_classifier(info.backbone)
    return GradCAM(load_classifier(ModelFiles.recorded(info.backbone, info.revision)), info, device)


def check_classifier(backbone: Backbone) -> None:
    """Raise a BackboneError where a backbone has no trained classifier, before any feature is extracted."""
    if not isinstance(backbone, VisionModel):
        raise _without_classifier(backbone.kind)
    load_classifier(ModelFiles.find(backbone.model, backbone.revision))


def _without_classifier(name: str) -> BackboneError:
    return BackboneError(f"the backbone {name} has no classifier; {_CHOOSE}")


def load_classifier(files: ModelFiles) -> nn.Module:
    """Load a model with its classification head, frozen, in float32; a BackboneError where it has no trained one."""
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoModelForImageClassification

    config = files.read_config()
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise BackboneError(f"{files.name} ({config.model_type}) has no classifier; {_CHOOSE}")
    model, loading = files.load_model(torch.float32, AutoModelForImageClassification)
    if missing := sorted(loading["missing_keys"]):
        raise BackboneError(f"the weights of {files.name} hold no classifier (no {missing[0]}); {_CHOOSE}")
    return model
