"""From a photograph to the features an SAE was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.features.backbone import Backbone, image_features, restore_backbone
from sae_traits.geometry import PatchGrid
from sae_traits.sae.model import SAE
from sae_traits.schema import BackboneInfo

if TYPE_CHECKING:
    from PIL import Image


class Extractor:
    """Backbone, layer and preprocessing of an SAE, ready to be called on an image."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def __call__(self, image: Image.Image) -> tuple[Tensor, PatchGrid]:
        """Features `[n_valid, d_model]` of the patches `grid.valid`, in that order, and the grid.

        Args:
            image: an upright RGB image (`sae_traits.images.decode.open_image` gives one).
        """
        return image_features(self.backbone, image)


def load_extractor(sae: SAE, *, device: str = "auto") -> Extractor:
    """Rebuild the backbone, the layer and the preprocessing from the SAE's configuration.

    Raises:
        CheckpointError: the SAE does not say which backbone it was trained on, or the widths do not fit.
        BackboneError: the backbone cannot be had.
    """
    info = sae.config.backbone
    if info is None:
        raise CheckpointError(
            "this SAE's config.json names no backbone; load one with sae_traits.features.backbone.load_backbone"
        )
    backbone = restore_backbone(info, device=device)
    check_features(sae, backbone.info)
    return Extractor(backbone)


def check_features(sae: SAE, info: BackboneInfo) -> None:
    """Raise a CheckpointError when an SAE was not trained on such features: of another width, layer, preprocessing …"""
    if sae.config.d_model != info.d_model:
        raise CheckpointError(
            f"the SAE reads features of width {sae.config.d_model}, but {info.backbone} gives {info.d_model}; "
            "choose the backbone and layer that the SAE was trained on"
        )
    trained = sae.config.backbone
    if trained is None:
        return
    # The same revision under another name is the same model, for example a folder that has moved.
    for field in ("revision", "layer", "rows", "columns", "framing", "mean", "std", "precision"):
        if getattr(trained, field) != getattr(info, field):
            raise CheckpointError(
                f"the SAE was trained on {trained.backbone} with {field} {getattr(trained, field)}, but these features "
                f"are of {info.backbone} with {field} {getattr(info, field)}; leave out --backbone, --layer, --framing "
                "and --precision to use the SAE's own"
            )
