"""The tables of a released dataset: every column with its type and meaning, and the rows made of the nouns.

The columns are stated once: the `datasets.Features` and the table in the dataset card are both made of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sae_traits.schema import RANKS, ChosenLatent, Contrast, ImageRecord, Region, Trait

if TYPE_CHECKING:
    from datasets import Features

ConfigName = Literal["default", "images", "latents", "preview"]
CONFIG_NAMES: tuple[ConfigName, ...] = ("default", "images", "latents", "preview")
Images = Literal["embed", "reference"]
"""Whether rows hold the images, or say what they are and where they came from."""
Row = dict[str, Any]
Kind = Literal["string", "float32", "int32", "bool", "image", "box", "lab", "polygons", "attributes", "traits"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    meaning: str
    """In words, with the unit, and when it is null."""


_ID = Column("trait_id", "string", "Image-trait pair, stable across re-releases.")
_SPECIMEN_ID = Column("image_id", "string", "Image, stable across re-releases.")
_TAXON = tuple(
    Column(rank, "string", f"{'The binomial' if rank == 'species' else rank.capitalize()}, null where unknown.")
    for rank in RANKS
)
_CONTRAST = (
    Column("f_species", "float32", "Share of the species' images in which the latent fired."),
    Column("f_reference", "float32", "The same for the reference group."),
    Column("effect", "float32", "Shrunken log odds ratio of the species against the reference group."),
    Column("q_value", "float32", "One-sided hypergeometric test, Benjamini-Hochberg adjusted; null where not tested."),
    Column("significant", "bool", "Whether the contrast passed that test; where classes are small it seldom can."),
    Column("reference_rank", "string", "What the species was contrasted with: genus, family, order or collection."),
)
_LATENT = (
    Column("latent", "int32", "Index, from 0, in the dictionary named by `sae`; null where regions have no latents."),
    Column("sae", "string", "The SAE, as repo@revision, or the baseline in its place, as pca@sha256:…, or null."),
)
_TRAIT = (
    Column("text", "string", "One sentence about the region."),
    Column("part", "string", "Part of the organism, null where the describer cannot know."),
    Column("attributes", "attributes", "Names and values: colour, pattern, shape, size …"),
    Column("box", "box", "x, y, width, height in pixels of this row's image."),
    Column("polygons", "polygons", "Outlines as x0, y0, x1, y1, … in pixels of this row's image, not closed."),
    Column("region_source", "string", "What picked the region: sae, or a baseline (pca, k_means, gradcam, whole …)."),
    *_LATENT,
    Column("activation", "float32", "Highest activation of the latent (or of Grad-CAM's map) in the region."),
    *_CONTRAST,
    Column("n_images", "int32", "How many images the description was agreed on."),
    Column("describer", "string", "Who described the region."),
    Column("describer_model", "string", "Its model, as model@revision."),
    Column("prompt", "string", "Version and hash of its prompt or rules."),
    Column("area_fraction", "float32", "Share of the image's area that the region covers."),
    Column("length_px", "float32", "Longer side of the smallest rectangle around the region, in source image pixels."),
    Column("width_px", "float32", "Its shorter side, in source image pixels."),
    Column("elongation", "float32", "Length over width."),
    Column("texture_contrast", "float32", "Standard deviation of CIELAB lightness in the region, 0 to 50."),
    Column("length_mm", "float32", "Length in millimetres, null where the image has no scale."),
    Column("width_mm", "float32", "Width in millimetres, null where the image has no scale."),
    Column("on_animal", "float32", "Share of the region on the animal, 0 to 1; null where no mask was used."),
    Column("share_of_animal", "float32", "Share of the animal in the region, 0 to 1; null where no mask was used."),
    Column(
        "position_along_axis",
        "float32",
        "Distance from the middle (0) of the animal's longest axis towards either end (1); null where no mask was "
        "used, for regions off the animal, and for animals as wide as long.",
    ),
    Column("color_lab", "lab", "CIELAB (D65) of the region's dominant colour."),
    Column("color_name", "string", "Its name."),
)
_SOURCE = (
    Column("license", "string", "Licence of the source image, null where none was given."),
    Column("rights_holder", "string", "Who holds the rights in the source image, null where unknown."),
    Column("source_url", "string", "Where the source image came from, null where unknown."),
    Column("source_revision", "string", "Version of that source, null where it has none."),
    Column("source_id", "string", "The source image's path in its collection."),
    Column("source_sha256", "string", "sha256 of the source image file."),
)

COLUMNS: dict[ConfigName, tuple[Column, ...]] = {
    "default": (
        Column("image", "image", "The image, reduced where larger than the size that the card states."),
        _ID,
        _SPECIMEN_ID,
        *_TAXON,
        *_TRAIT,
        *_SOURCE,
    ),
    "images": (
        Column("image", "image", "The image at its source size."),
        _SPECIMEN_ID,
        *_TAXON,
        Column("traits", "traits", "The image's traits, with the columns of `default`; may be empty."),
        *_SOURCE,
    ),
    "latents": (
        Column("species", "string", "The species that the latent describes."),
        *_LATENT,
        Column("threshold", "float32", "The latent fires above this activation."),
        *_CONTRAST,
        Column("n_fired", "int32", "Training images of the species in which it fired."),
        Column("n_images", "int32", "Training images of the species."),
    ),
    "preview": (
        Column("image", "image", "The image with the region's outline (orange) and box (white) drawn on it."),
        _ID,
        _SPECIMEN_ID,
        Column("species", "string", "The binomial, null where unknown."),
        Column("text", "string", "One sentence about the region."),
        Column("describer", "string", "Who described the region."),
        *_SOURCE,
    ),
}
"""Config -> its columns, in order, in a release that embeds its images."""
_SIZE = (
    Column("width", "int32", "Width in pixels of the image that the row is about, which `rehydrate` puts in."),
    Column("height", "int32", "Its height; boxes and polygons are in pixels of an image of this size."),
)


def columns(config: ConfigName, images: Images) -> tuple[Column, ...]:
    """The columns of a config; in a release by reference, the size of an image stands in its place."""
    if images == "embed" or COLUMNS[config][0].kind != "image":
        return COLUMNS[config]
    return (*_SIZE, *COLUMNS[config][1:])


def features(config: ConfigName, images: Images = "embed") -> Features:
    """The `datasets.Features` of a config."""
    from datasets import Features

    return Features({column.name: _feature(column.kind) for column in columns(config, images)})


def _feature(kind: Kind) -> Any:
    from datasets import Image, List, Value

    if kind == "image":
        return Image()
    if kind == "box":
        return List(Value("float32"), length=4)
    if kind == "lab":
        return List(Value("float32"), length=3)
    if kind == "polygons":
        return List(List(Value("float32")))
    if kind == "attributes":
        return List({"name": Value("string"), "value": Value("string")})
    if kind == "traits":
        return List({column.name: _feature(column.kind) for column in (_ID, *_TRAIT)})
    return Value(kind)


def scale_region(region: Region, source: tuple[int, int], size: tuple[int, int]) -> Region:
    """A region of an image of `source` = (width, height) pixels, in the pixels of the same image resized to `size`."""
    scale_x, scale_y = size[0] / source[0], size[1] / source[1]
    x, y, width, height = region.box
    return replace(
        region,
        box=(x * scale_x, y * scale_y, width * scale_x, height * scale_y),
        polygons=tuple(
            tuple(value * (scale_y if i % 2 else scale_x) for i, value in enumerate(ring)) for ring in region.polygons
        ),
    )


def default_row(record: ImageRecord, trait: Trait, size: tuple[int, int], sae: str | None) -> Row:
    """One image-trait pair without its image, with boxes in the pixels of an image of `size` = (width, height)."""
    region = scale_region(trait.region, (record.width, record.height), size)
    return {**_size(size), **_names(record), **_trait(trait, region, sae), **_source(record)}


def image_row(record: ImageRecord, traits: Sequence[Trait], sae: str | None) -> Row:
    """One image at its source size, without its pixels, with all its traits."""
    listed = [_trait(trait, trait.region, sae) for trait in traits]
    return {**_size((record.width, record.height)), **_names(record), "traits": listed, **_source(record)}


def preview_row(record: ImageRecord, trait: Trait, size: tuple[int, int]) -> Row:
    """One image-trait pair whose image, of `size` = (width, height), will have the region drawn on it."""
    return {
        **_size(size),
        "trait_id": trait.trait_id,
        "image_id": record.image_id,
        "species": record.taxon.species,
        "text": trait.description.text,
        "describer": trait.describer,
        **_source(record),
    }


def latent_row(latent: ChosenLatent, sae: str | None) -> Row:
    """One latent that describes a species."""
    return {
        "species": latent.species,
        "latent": latent.latent,
        "sae": sae,
        "threshold": latent.threshold,
        **_contrast(latent.contrast),
        "n_fired": latent.n_fired,
        "n_images": latent.n_images,
    }


def _size(size: tuple[int, int]) -> Row:
    return {"width": size[0], "height": size[1]}


def _names(record: ImageRecord) -> Row:
    return {"image_id": record.image_id, **record.taxon.to_dict()}


def _source(record: ImageRecord) -> Row:
    return {
        "license": record.license,
        "rights_holder": record.rights_holder,
        "source_url": record.source_url,
        "source_revision": record.source_revision,
        "source_id": record.file,
        "source_sha256": record.sha256,
    }


def _contrast(contrast: Contrast | None) -> Row:
    if contrast is None:
        return {column.name: None for column in _CONTRAST}
    return asdict(contrast) | {"q_value": None if math.isnan(contrast.q_value) else contrast.q_value}


def _trait(trait: Trait, region: Region, sae: str | None) -> Row:
    return {
        "trait_id": trait.trait_id,
        "text": trait.description.text,
        "part": trait.description.part,
        "attributes": [asdict(attribute) for attribute in trait.description.attributes],
        "box": region.box,
        "polygons": region.polygons,
        "region_source": trait.candidate.region_source,
        "latent": trait.candidate.latent,
        "sae": sae,
        "activation": trait.candidate.peak,
        **_contrast(trait.candidate.contrast),
        "n_images": trait.n_images,
        "describer": trait.describer,
        "describer_model": trait.describer_model,
        "prompt": trait.prompt,
        "area_fraction": region.area_fraction,
        **asdict(trait.measurement),
    }
