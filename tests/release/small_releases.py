"""Small collections with traits, written as datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from sae_traits.config.release import ReleaseConfig
from sae_traits.geometry import Framing
from sae_traits.images.decode import open_image
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import DatasetFacts, DatasetSummary, Provenance
from sae_traits.schema import (
    Attribute,
    BackboneInfo,
    Candidate,
    Caption,
    ChosenLatent,
    Collection,
    Contrast,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Taxon,
    Trait,
)
from sae_traits.vocabulary import Split

PROVENANCE = Provenance(
    backbone=BackboneInfo(
        backbone="texture",
        revision="1",
        layer=0,
        d_model=32,
        rows=14,
        columns=14,
        patch=16,
        framing=Framing(mode="crop", size=(224, 224), shortest_side=256),
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0),
    ),
    dictionary_metrics={"explained_variance": 0.91, "l0": 16.0, "sweep": {"k": [1, 2]}},
    contrast={"kind": "specimen", "firing_quantile": 0.9},
    contrast_in_words="Unlike theirs, the contrast counts each individual once and is tested.",
    describer="measured",
    describer_model="sae-traits-measured@1",
    prompt="rules-1 sha256:0123456789abcdef",
    n_problems=2,
    command="sae-traits run moths",
)
FACTS = DatasetFacts(title="Beetles", sae="org/sae@0123", longest_side=256, provenance=PROVENANCE)
CONTRAST = Contrast(f_species=0.8, f_reference=0.1, effect=2.5, q_value=0.01, significant=True, reference_rank="genus")
LATENTS = (ChosenLatent(species="Aus bus", latent=3, threshold=0.4, contrast=CONTRAST, n_fired=3, n_individuals=4),)


def record_of(path: Path, root: Path, split: Split, url: str | None) -> ImageRecord:
    """The image of an image file below a folder named after its species."""
    width, height = open_image(path).size
    genus, epithet = path.parent.name.split("_")
    return ImageRecord(
        image_id=f"{path.stem}-{hashlib.sha256(path.name.encode()).hexdigest()[:8]}",
        file=path.relative_to(root).as_posix(),
        taxon=Taxon(genus=genus, species=f"{genus} {epithet}"),
        split=split,
        width=width,
        height=height,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        license="CC BY-NC-ND 4.0",
        rights_holder="A. Naturalist",
        source_url=url,
        source_revision="v2",
    )


def traits_of(collection: Collection, n: int) -> list[Trait]:
    """So many traits for each image but every fifth, with boxes that no float32 holds exactly."""
    rng = np.random.default_rng(0)
    traits = []
    for row, record in enumerate(collection.images):
        for latent in range(n if row % 5 else 0):
            x, y = (rng.random(2) * (record.width / 2, record.height / 2)).tolist()
            width, height = record.width / 3, record.height / 3
            traits.append(
                Trait(
                    trait_id=f"{record.image_id}-{latent}",
                    candidate=Candidate(image=row, latent=latent, patches=(1,), peak=1.5, contrast=CONTRAST),
                    region=Region(
                        box=(x, y, width, height),
                        polygons=((x, y, x + width, y, x + width, y + height, x, y + height),),
                        patches=(1,),
                        area_fraction=1 / 9,
                    ),
                    description=Description(text="A small area.", attributes=(Attribute("colour", "blue"),)),
                    measurement=Measurement(
                        length_px=width,
                        width_px=height,
                        elongation=1.0,
                        texture_contrast=3.0,
                        color_lab=(50.0, 10.0, -40.0),
                        color_name="blue",
                    ),
                    describer=PROVENANCE.describer,
                    describer_model=PROVENANCE.describer_model,
                    prompt=PROVENANCE.prompt,
                )
            )
    return traits


def captions_of(collection: Collection) -> list[Caption]:
    """A caption for each image but every third."""
    return [
        Caption(
            image=row,
            text=f"{record.species}: a small, blue area.",
            describer=PROVENANCE.describer,
            describer_model=PROVENANCE.describer_model,
            prompt=PROVENANCE.prompt,
        )
        for row, record in enumerate(collection.images)
        if row % 3
    ]


def many_images(root: Path, n: int) -> Collection:
    """Images of 400 x 300 pixels, some 29 of which are expected to make a megabyte."""
    records = []
    for number in range(n):
        path = root / f"Aus_s{number % 7}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (400, 300), (number % 256, number // 256, 90)).save(path, compress_level=1)
        records.append(record_of(path, root, "test" if number % 4 == 3 else "train", None))
    return Collection(root, tuple(sorted(records, key=lambda record: record.file)))


def odd_photographs(root: Path, url_of: Callable[[str], str | None]) -> Collection:
    """Photographs of every kind: large, small, turned, grey, transparent, for print, plain."""
    rng = np.random.default_rng(1)

    def noise(width: int, height: int) -> Image.Image:
        small = Image.fromarray(rng.integers(0, 255, (9, 12, 3)).astype(np.uint8))
        return small.resize((width, height), Image.Resampling.BICUBIC)

    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    half = noise(90, 70).convert("RGBA")
    half.putalpha(128)
    images: Sequence[tuple[str, Image.Image, dict[str, object]]] = (
        ("Aus_bus/large.jpg", noise(700, 500), {"quality": 95}),
        ("Aus_bus/small.png", noise(80, 61), {}),
        ("Aus_bus/turned.jpg", noise(300, 610), {"exif": turned}),
        ("Aus_cus/grey.png", noise(333, 200).convert("L"), {}),
        ("Aus_cus/half.png", half, {}),
        ("Aus_cus/print.tif", noise(640, 480).convert("CMYK"), {}),
        ("Bus_aus/plain.jpg", noise(256, 256), {}),
    )
    records = []
    for number, (name, image, options) in enumerate(images):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)  # pyright: ignore[reportArgumentType]
        split: Split = "test" if number % 3 == 2 else "train"
        records.append(record_of(path, root, split, url_of(name)))
    return Collection(root, tuple(records))


def release(folder: Path, collection: Collection, traits: Sequence[Trait], **options: object) -> DatasetSummary:
    """Write a dataset and its card; the options are those of ReleaseConfig."""
    config = replace(ReleaseConfig(longest_side=256, shard_megabytes=1), **options)
    summary = write_dataset(
        folder, collection, traits, LATENTS, captions_of(collection), sae=FACTS.sae, config=config, workers=2
    )
    write_dataset_card(folder, summary, replace(FACTS, longest_side=config.longest_side))
    return summary


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Path -> content of all files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
