"""The tables of a released dataset: columns derived from the dataclasses of `schema`, and rows made of the nouns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from sae_traits.arrow import Column, columns_of, single_precision
from sae_traits.describers.overlay import place_region
from sae_traits.schema import Caption, ChosenLatent, ImageRecord, Region, Trait

if TYPE_CHECKING:
    from datasets import Features

ConfigName = Literal["default", "traits", "images", "captions", "latents", "preview"]
CONFIG_NAMES: tuple[ConfigName, ...] = ("default", "traits", "images", "captions", "latents", "preview")
"""Those without rows are left out, as `captions` is where no image has one."""
Images = Literal["embed", "reference"]
"""Whether rows hold the images, or say what they are and where they came from."""
Row = dict[str, Any]
Rows = dict[str, dict[str, int]]
"""Config -> split -> number of rows."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SAE = Column(
    "sae",
    pa.string(),
    "The SAE, as repo@revision, or the baseline in its place, as pca@sha256:…; null without latents.",
    may_be_null=True,
)
_ORDER = (
    "trait_id", "description", "region", "candidate", "n_images", "describer", "describer_model", "prompt",
    "measurement", "reviewed",
)  # fmt: skip
"""Of what a trait consists of."""
_NAMES = tuple(c for c in columns_of(ImageRecord) if c.path[0] in ("image_id", "individual_id", "taxon"))
_SOURCE = tuple(c for c in columns_of(ImageRecord) if c not in _NAMES)
_TRAIT = tuple(sorted(columns_of(Trait), key=lambda column: _ORDER.index(column.path[0])))
_SIZE = (
    Column("width", pa.int32(), "Width in pixels of the image that the row is about, which is not in this config."),
    Column("height", pa.int32(), "Its height; boxes and polygons are in pixels of an image of this size."),
)


def _with_sae(columns: Sequence[Column]) -> tuple[Column, ...]:
    place = next(i for i, column in enumerate(columns, start=1) if column.name == "latent")
    return (*columns[:place], _SAE, *columns[place:])


_ID, *_DESCRIBED = _with_sae(_TRAIT)
_PREVIEWED = ("image_id", "individual_id", "species")
MEASURES = tuple(column for column in _TRAIT if column.unit is not None)
"""The columns of a trait that were measured."""
_OF_TRAITS = (_ID, *_NAMES, *_DESCRIBED, *_SOURCE)
COLUMNS: dict[ConfigName, tuple[Column, ...]] = {
    "default": (
        Column("image", _IMAGE, "The image, reduced where larger than the size that the card states."),
        *_OF_TRAITS,
    ),
    "traits": (*_SIZE, *_OF_TRAITS),
    "images": (
        Column("image", _IMAGE, "The image at its source size."),
        *_NAMES,
        Column(
            "traits",
            pa.list_(pa.struct([(column.name, column.type) for column in (_ID, *_DESCRIBED)])),
            "The image's traits, with the columns of `default`; may be empty.",
        ),
        *_SOURCE,
    ),
    "captions": (*_NAMES, *columns_of(Caption), *_SOURCE),
    "latents": _with_sae(columns_of(ChosenLatent)),
    "preview": (
        Column("image", _IMAGE, "The image with the region's outline (orange) and box (white) drawn on it."),
        _ID,
        *(column for column in _NAMES if column.name in _PREVIEWED),
        *(column for column in _DESCRIBED if column.name in ("text", "describer")),
        *_SOURCE,
    ),
}
"""Config -> its columns, in order, in a release that embeds its images."""


def columns(config: ConfigName, images: Images) -> tuple[Column, ...]:
    """The columns of a config; in a release by reference, the size of an image stands in its place."""
    first, *others = COLUMNS[config]
    return (*_SIZE, *others) if images == "reference" and first.name == "image" else COLUMNS[config]


def folder_of(config: ConfigName, images: Images) -> str:
    """Folder of a config's files below `data`; without images `traits` is `default`, and lies there once."""
    return "default" if config == "traits" and images == "reference" else config


@cache
def features(config: ConfigName, images: Images = "embed") -> Features:
    """The `datasets.Features` of a config: numbers are float32 and int32."""
    from datasets import Features, Image

    found = columns(config, images)
    schema = pa.schema([(column.name, single_precision(column.type)) for column in found])
    others = {"image": Image()} if found[0].name == "image" else {}
    return Features(Features.from_arrow_schema(schema) | others)


def is_of_this_or_an_earlier_version(config: ConfigName, images: Images, found: pa.Schema) -> bool:
    """Whether a table has the columns of a config, apart from some that may be null: they came with later versions."""
    later = {column.name for column in (*columns(config, images), *_TRAIT) if column.may_be_null}
    return _fits(found, features(config, images).arrow_schema, later)


def _fits(found: pa.Schema | pa.StructType, expected: pa.Schema | pa.StructType, later: Collection[str]) -> bool:
    fields, wanted = ({field.name: field.type for field in one} for one in (found, expected))
    if not fields.keys() <= wanted.keys() or not wanted.keys() - fields.keys() <= set(later):
        return False
    return all(
        dtype == wanted[name]
        or (
            all(pa.types.is_list(one) and pa.types.is_struct(one.value_type) for one in (dtype, wanted[name]))
            and _fits(dtype.value_type, wanted[name].value_type, later)
        )
        for name, dtype in fields.items()
    )


def type_in_words(dtype: pa.DataType) -> str:
    """The type of a column for the card, such as `List(float32, 4)`."""
    if dtype == _IMAGE:
        return "image"
    if pa.types.is_fixed_size_list(dtype):
        return f"List({type_in_words(dtype.value_type)}, {dtype.list_size})"
    if pa.types.is_list(dtype):
        return f"List({type_in_words(dtype.value_type)})"
    if pa.types.is_struct(dtype):
        names = [field.name for field in dtype]
        return f"struct({', '.join(names)})" if len(names) < 5 else "struct"
    return {"float": "float32", "double": "float32"}.get(str(dtype), str(dtype))


def scale_region(region: Region, source: tuple[int, int], size: tuple[int, int]) -> Region:
    """A region of an image of `source` = (width, height) pixels, in the pixels of the same image resized to `size`."""
    return place_region(region, (0.0, 0.0), (size[0] / source[0], size[1] / source[1]))


def default_row(record: ImageRecord, trait: Trait, size: tuple[int, int], sae: str | None) -> Row:
    """One image-trait pair without its image, with boxes in the pixels of an image of `size` = (width, height)."""
    region = scale_region(trait.region, (record.width, record.height), size)
    return {
        "width": size[0],
        "height": size[1],
        **_row(record, _NAMES),
        **_trait_row(replace(trait, region=region), sae),
        **_row(record, _SOURCE),
    }


def image_row(record: ImageRecord, traits: Sequence[Trait], sae: str | None) -> Row:
    """One image at its source size, without its pixels, with all its traits."""
    return {
        "width": record.width,
        "height": record.height,
        **_row(record, _NAMES),
        "traits": [_trait_row(trait, sae) for trait in traits],
        **_row(record, _SOURCE),
    }


def preview_row(record: ImageRecord, trait: Trait, size: tuple[int, int]) -> Row:
    """One image-trait pair whose image, of `size` = (width, height), will have the region drawn on it."""
    row = default_row(record, trait, size, None)
    return {column.name: row[column.name] for column in columns("preview", "reference")}


def caption_row(record: ImageRecord, caption: Caption) -> Row:
    """One image with its caption, without the image: `image_id` leads to the row of `images`."""
    return {**_row(record, _NAMES), **_row(caption, columns_of(Caption)), **_row(record, _SOURCE)}


def latent_row(latent: ChosenLatent, sae: str | None) -> Row:
    """One latent that describes a species."""
    return _row(latent, columns_of(ChosenLatent)) | {"sae": sae}


def _trait_row(trait: Trait, sae: str | None) -> Row:
    return _row(trait, _TRAIT) | {"sae": sae}


def _row(instance: object, columns: Sequence[Column]) -> Row:
    return {column.name: column.of(instance) for column in columns}
