"""The section `features`: which patch features, of one of two kinds of backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from sae_traits.config.options import check_at_least, option, variant
from sae_traits.vocabulary import Dtype


@dataclass(frozen=True, kw_only=True)
class VisionModel:
    """Any vision model of transformers, by Hub id or folder."""

    open_field: ClassVar = "model"
    has_weights: ClassVar = True
    kind: Literal["vision_model"] = "vision_model"
    model: str = option(
        "facebook/dinov2-base", "Vision model: Hub id or local folder.", flag="backbone", metavar="MODEL", is_path=True
    )
    revision: str | None = option(
        None, "Branch, tag or commit of the backbone on the Hub.", flag="backbone-revision", metavar="REVISION"
    )
    layer: int = option(11, "Index into the model's hidden states, negative from the end; the paper used 11 of 12.")
    compute_dtype: Dtype = option(
        "float32",
        "In which the backbone computes; bfloat16 is much faster on a GPU. How features are kept: --storage-dtype.",
    )


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Colours and edges of each patch: no weights to fetch, for trying things out."""

    has_weights: ClassVar = False
    kind: Literal["texture"] = "texture"


Backbone = VisionModel | Texture


def recorded_kind(name: str) -> type[Backbone]:
    """The kind of backbone that a record names: a kind that needs no model by the kind, all others by the model."""
    return next((kind for kind in get_args(Backbone) if kind.kind == name), VisionModel)


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which patch features."""

    backbone: Backbone = variant(VisionModel, "Vision model (Hub id or local folder), or `texture` (no weights).")
    framing: Literal["auto", "squash", "crop", "letterbox"] = option(
        "auto", "How images become square: as the backbone's preprocessor says, or one of these."
    )
    storage_dtype: Dtype = option(
        "float32",
        "In which features are kept, on disk or in the buffer (--stream), once computed; how they are computed is "
        "--compute-dtype.",
    )
    stream: bool = option(
        False, "Keep no features on disk: compute them from the images while training, and again while encoding."
    )
    image_batch_size: int = option(16, "Images per forward pass.", is_local=True)
    workers: int = option(2, "Processes that read and resize images.", is_local=True)
    device: str = option("auto", "Where models run: auto, cpu, cuda, cuda:1 or mps.", metavar="DEVICE", is_local=True)

    def __post_init__(self) -> None:
        check_at_least(1, self, "image_batch_size")
        check_at_least(0, self, "workers")
