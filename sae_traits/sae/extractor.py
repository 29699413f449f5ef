"""From a photograph to the features an SAE was trained on."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from sae_traits.config.features import FeaturesConfig, VisionModel, recorded_kind
from sae_traits.errors import CheckpointError, ImageError
from sae_traits.features.backbone import Backbone, load_backbone, restore_backbone
from sae_traits.features.preprocessing import reframe, with_image_size
from sae_traits.geometry import PatchGrid
from sae_traits.images.decode import open_image
from sae_traits.sae.model import SAE
from sae_traits.schema import BackboneInfo

Photograph = str | Path | Image.Image
"""A file, or an upright RGB image (`sae_traits.images.decode.open_image` gives one)."""
Features = tuple[Tensor, PatchGrid]
"""Features `[n_valid, d_model]` of the patches `grid.valid`, in that order, float32 on the CPU, and the grid."""


class Extractor:
    """Backbone, layer and preprocessing of an SAE, ready to be called on images."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @overload
    def __call__(self, images: Photograph) -> Features: ...
    @overload
    def __call__(self, images: Sequence[Photograph]) -> list[Features]: ...
    @overload
    def __call__(self, images: Tensor) -> Tensor: ...
    def __call__(self, images: Photograph | Sequence[Photograph] | Tensor) -> Features | list[Features] | Tensor:
        """Features of one image, of several, or of a prepared batch.

        Args:
            images: a file or an upright RGB image; a list of these; or what `prepare` makes of images, stacked.

        Returns:
            For one image `Features`; for a list a list of these; for a batch the features of all patches, also those
            of padding, row by row `[n_images, rows * columns, d_model]`, on the backbone's device.

        Raises:
            ImageError: a file cannot be read, or this is nothing of the kind.
        """
        if isinstance(images, Tensor):
            if images.shape[1:] != self._prepared_shape or not images.is_floating_point():
                wanted, given = ", ".join(map(str, self._prepared_shape)), f"{images.dtype} {list(images.shape)}"
                raise ImageError(
                    f"a batch holds prepared images [n, {wanted}] as real numbers, not {given}; stack what "
                    "`extractor.prepare(image)` gives, or give a list of images"
                )
            return self.backbone.encode(images)
        if not isinstance(images, list | tuple):
            return self._of_several([images])[0]  # pyright: ignore[reportArgumentType]
        return self._of_several(images)

    def prepare(self, image: Photograph) -> Tensor:
        """One element of a batch, on the CPU; needs no model, so that worker processes can do it."""
        return self.backbone.prepare(_upright_rgb(image))

    def _of_several(self, images: Sequence[Photograph]) -> list[Features]:
        if not images:
            return []
        opened = [_upright_rgb(image) for image in images]
        grids = [self.backbone.info.grid(image.size) for image in opened]
        features = self.backbone.encode(torch.stack([self.backbone.prepare(image) for image in opened])).cpu()
        return [(of_image[torch.from_numpy(grid.valid)], grid) for of_image, grid in zip(features, grids, strict=True)]

    @cached_property
    def _prepared_shape(self) -> torch.Size:
        return self.prepare(Image.new("RGB", (8, 8))).shape


def _upright_rgb(image: Any) -> Image.Image:
    if isinstance(image, str | Path):
        try:
            return open_image(Path(image))
        except ImageError as error:
            raise ImageError(f"{image}: {error}") from error
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"an extractor takes a file, a PIL image, a list of these or a prepared batch, not {type(image).__name__}"
        )
    if image.mode != "RGB":
        raise ImageError(f"the image is {image.mode}, not RGB; give the file itself, or image.convert('RGB')")
    return image


def load_extractor(
    sae: SAE,
    *,
    backbone: str | Path | None = None,
    layer: int | None = None,
    image_size: int | None = None,
    device: str = "auto",
) -> Extractor:
    """Rebuild the backbone, the layer and the preprocessing from the SAE's configuration.

    Args:
        backbone: a folder or Hub id to load the model from, instead of the recorded one, whose weights it must have;
            or `texture`. Needed where the configuration names none, as in other libraries' checkpoints.
        layer: index into the model's hidden states, by default the recorded one; where the SAE names none, negative
            counts from the end.
        image_size: side in pixels of the square that the model sees; by default the recorded one, or the model's own.
        device: where the backbone runs: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        CheckpointError: the SAE was trained on features of another width, layer or image size, or does not say
            on which.
        BackboneError: the backbone cannot be had, or has other weights than recorded.
    """
    info = sae.config.backbone
    if info is None:
        loaded = _load_unrecorded(backbone, layer, image_size, device)
    else:
        if layer is not None:
            check_features(sae, replace(info, layer=layer))
        check_features(sae, replace(info, framing=with_image_size(info.framing, image_size)))
        if backbone is not None:
            if recorded_kind(str(backbone)) is not recorded_kind(info.backbone):
                raise CheckpointError(
                    f"the SAE was trained on features of {info.backbone}, not of {backbone}; leave out --backbone"
                )
            folder = Path(backbone).expanduser()
            info = replace(info, backbone=str(folder.resolve()) if folder.is_dir() else str(backbone))
        loaded = restore_backbone(info, device=device)
    check_features(sae, loaded.info)
    return Extractor(loaded)


def _load_unrecorded(backbone: str | Path | None, layer: int | None, image_size: int | None, device: str) -> Backbone:
    """The backbone of an SAE that says nothing of it."""
    if backbone is None:
        raise CheckpointError(
            "this SAE's config.json names no backbone; say which features it was trained on, for example "
            'load_extractor(sae, backbone="facebook/dinov2-base", layer=11)'
        )
    kind = recorded_kind(str(backbone))
    if kind is not VisionModel:
        return load_backbone(kind(), device=device)
    if layer is None:
        raise CheckpointError(f"this SAE's config.json names no layer of {backbone}; give load_extractor its layer=")
    model = VisionModel(model=str(backbone), layer=layer, second_layer=layer, image_size=image_size)
    return load_backbone(model, device=device)


def backbone_of_adopted(sae: SAE, config: FeaturesConfig) -> Backbone:
    """Load the backbone that an SAE was trained on, from where a configuration says that its weights are.

    What a configuration says of layer, image size, framing and number format has to agree with the SAE. Where the SAE
    records no backbone, the configuration alone says which.

    Raises:
        BackboneError: it cannot be had.
        CheckpointError: the SAE was trained on other features.
    """
    trained, named, default = sae.config.backbone, config.backbone, VisionModel()
    if trained is None:
        if isinstance(named, VisionModel) and named.second_layer is None:
            named = replace(named, second_layer=named.layer)
        backbone = load_backbone(named, framing=config.framing, device=config.device)
        check_features(sae, backbone.info)
        return backbone
    if not isinstance(named, VisionModel):
        return load_extractor(sae, backbone=named.kind, device=config.device).backbone
    names = ("revision", "layer", "second_layer", "compute_dtype")
    said = {name: getattr(named, name) for name in names if getattr(named, name) != getattr(default, name)}
    framing = reframe(with_image_size(trained.framing, named.image_size), config.framing)
    check_features(sae, replace(trained, framing=framing, **said))
    place = None if named.model == default.model else named.model
    return load_extractor(sae, backbone=place, device=config.device).backbone


def check_features(sae: SAE, info: BackboneInfo) -> None:
    """Raise a CheckpointError when an SAE was not trained on such features: of another width, layer, preprocessing …"""
    if sae.config.d_model != info.d_model:
        raise CheckpointError(
            f"the SAE reads features of width {sae.config.d_model}, but {info.backbone} gives {info.d_model}; "
            "choose the backbone and layer that the SAE was trained on"
        )
    if (trained := sae.config.backbone) is None:
        return
    if trained.framing.size != info.framing.size:
        (width, height), (other_width, other_height) = trained.framing.size, info.framing.size
        raise CheckpointError(
            f"the SAE was trained on {trained.backbone} at {width} x {height} pixels, but these features are of "
            f"{info.backbone} at {other_width} x {other_height}; leave out --image-size to use the SAE's own"
        )
    # The same revision under another name is the same model, for example a folder that has moved.
    for name in ("revision", "layer", "second_layer", "rows", "columns", "framing", "mean", "std", "compute_dtype"):
        if getattr(trained, name) != getattr(info, name):
            raise CheckpointError(
                f"the SAE was trained on {trained.backbone} with {name} {getattr(trained, name)}, but these features "
                f"are of {info.backbone} with {name} {getattr(info, name)}; leave out --backbone, --layer, "
                "--second-layer, --image-size, --framing and --compute-dtype to use the SAE's own"
            )


def adopt(sae: SAE, info: BackboneInfo) -> None:
    """Let an SAE that was trained elsewhere read features, recorded where it names none; errors as `check_features`."""
    check_features(sae, info)
    if sae.config.backbone is None:
        sae.config = replace(sae.config, backbone=info)
