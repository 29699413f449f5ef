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
        None, "Branch, tag or commit of the vision model on the Hub.", flag="backbone-revision", metavar="REVISION"
    )
    layer: int = option(
        11,
        "Layer of the model whose features are used: 0 is the input to the first block, a negative number counts from "
        "the end; the paper used 11 of 12.",
    )
    second_layer: int | None = option(
        None,
        "Another layer of as many patches, put beside --layer, each patch's features of either at unit length: an "
        "earlier layer knows less of a patch's surroundings, so that latents say more of where they fire. By default "
        "convolutional networks have the one two before --layer, if it has as many patches, and transformers none; the "
        "same as --layer is none, too.",
    )
    image_size: int | None = option(
        None,
        "Side in pixels of the square that the vision model sees, a multiple of its patches; without it the model's "
        "own. Twice as much gives four times as many patches, for organisms that are small in their photographs, and "
        "takes four times as long.",
    )
    compute_dtype: Dtype = option(
        "float32",
        "Number format in which the vision model computes; bfloat16 is much faster on a GPU. --storage-dtype says how "
        "features are kept.",
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "image_size")


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
    """Features of image patches, and the vision model that computes them."""

    backbone: Backbone = variant(VisionModel, "Vision model (Hub id or local folder), or `texture` (no weights).")
    framing: Literal["auto", "squash", "crop", "letterbox"] = option(
        "auto",
        "How images become square: auto: as the vision model asks; squash: stretched; crop: the middle; letterbox: the "
        "whole image with empty margins.",
    )
    storage_dtype: Dtype = option(
        "float32",
        "Number format in which features are kept, on disk or in memory (--stream); half the bytes with bfloat16 or "
        "float16.",
    )
    stream: bool = option(
        False, "Keep no features on disk: compute them from the images while training, and again while encoding."
    )
    deterministic: bool = option(
        False,
        "Compute with one thread, so that features and SAE do not depend on how many cores there are; on a CPU only.",
    )
    image_batch_size: int = option(16, "Images per forward pass.", is_local=True)
    workers: int = option(2, "Processes that read and resize images.", is_local=True)
    device: str = option("auto", "Where models run: auto, cpu, cuda, cuda:1 or mps.", metavar="DEVICE", is_local=True)

    def __post_init__(self) -> None:
        check_at_least(1, self, "image_batch_size")
        check_at_least(0, self, "workers")
