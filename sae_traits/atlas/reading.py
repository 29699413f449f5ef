"""Read a release into an `Atlas` in one pass, some images in memory at a time, and write its pictures on the way."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import DatasetCard
from skimage.color import lab2rgb

from sae_traits.atlas.drawing import letter_places, letter_size, outline_of
from sae_traits.atlas.judging import put_in_order, tally_regions
from sae_traits.atlas.nouns import (
    UNLABELLED,
    Atlas,
    ImageOfAtlas,
    Latent,
    LatentOfSpecies,
    Rights,
    Species,
    TraitOfImage,
)
from sae_traits.atlas.page_names import PageNames, folder_of
from sae_traits.atlas.pictures import LONGEST_SIDE, write_picture
from sae_traits.errors import ReleaseError, one_line
from sae_traits.evaluation.on_organism import SharesOfLatents
from sae_traits.images.pictures import reduced_size
from sae_traits.logging import track
from sae_traits.release.cards import CARD
from sae_traits.release.loading import data_files, web_address
from sae_traits.release.tables import ConfigName, Row
from sae_traits.schema import Contrast
from sae_traits.traits.released_latents import contrast_of
from sae_traits.vocabulary import RANKS

IMAGES_PER_WORKER = 4
"""Images in memory for each thread that makes pictures."""
ROWS_AT_A_TIME = 32
SYNTHETIC = "The images were drawn by a program: they show no real organisms."


def read_atlas(dataset: Path, out: Path, workers: int, on_organism: SharesOfLatents | None = None) -> Atlas:
    """Read the folder of a dataset, and write the pictures of its images below `out`.

    Args:
        on_organism: what masks or boxes say of its regions, which a dataset does not.

    Raises:
        ReleaseError: it is no dataset that sae-traits released, or cannot be read.
    """
    card = DatasetCard.load(dataset / CARD).data.to_dict() if (dataset / CARD).is_file() else {}
    names, images = PageNames(), []
    keys: dict[str, Species] = {}
    reader = _ImageReader(out, names)
    n_images = _number_of_rows(dataset, "images")
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[Future[ImageOfAtlas]] = deque()

        def finished() -> Iterator[tuple[Row, ImageOfAtlas]]:
            rows: deque[Row] = deque()
            for row in _rows(dataset, "images"):
                waiting.append(pool.submit(reader.read, row, reader.names_of(row)))
                rows.append({rank: row.get(rank) for rank in RANKS})
                if len(waiting) > IMAGES_PER_WORKER * max(1, workers):
                    yield rows.popleft(), waiting.popleft().result()
            while waiting:
                yield rows.popleft(), waiting.popleft().result()

        try:
            for lineage, image in track(finished(), "pictures", n_images):
                images.append(image)
                if image.species not in keys:
                    key = names.of(f"species {image.species}").removeprefix("species-")
                    keys[image.species] = Species(name=image.species, key=key, lineage=lineage)
                keys[image.species].images.append(image)
        except KeyError as error:
            raise ReleaseError(f"{dataset} is no dataset that sae-traits released: it lacks {error}") from error
        finally:
            for future in waiting:
                future.cancel()
    if not images:
        raise ReleaseError(f"{dataset} has no images, so there is nothing to look at")
    latents, sae = _latents(dataset, keys, on_organism or {})
    for image in images:
        for trait in image.traits:
            if trait.latent is not None:
                latents.setdefault(trait.latent, Latent(number=trait.latent)).regions.append((image, trait))
    return Atlas(
        title=str(card.get("pretty_name") or dataset.resolve().name),
        note=SYNTHETIC if "synthetic" in (card.get("tags") or []) else None,
        sae=sae or reader.sae,
        images=images,
        species=[keys[name] for name in sorted(keys)],
        latents=dict(sorted(latents.items())),
    )


def _latents(
    dataset: Path, species: Mapping[str, Species], on_organism: SharesOfLatents
) -> tuple[dict[int, Latent], str | None]:
    """The chosen latents by number, put to their species as well, and the dictionary that they are of."""
    latents: dict[int, Latent] = {}
    rows = list(_rows(dataset, "latents")) if data_files(dataset, "latents", missing_ok=True) else []
    tallies = tally_regions(species.values(), {(row["species"], row["latent"]) for row in rows})
    for row in rows:
        own, others = row.get("held_out_f_species"), row.get("held_out_f_reference")
        tally = tallies.get(row["species"], {}).get(str(row["latent"]))
        one = LatentOfSpecies(
            species=row["species"],
            latent=row["latent"],
            name=row.get("name"),
            contrast=Contrast(**contrast_of(row)),
            n_fired=row["n_fired"],
            n_individuals=row["n_individuals"],
            background=row.get("background") if tally is None else tally.background,
            held_out=None if own is None else (own, others),
            on_organism=on_organism.get(row["species"], {}).get(str(row["latent"])),
            n_with_region=0 if tally is None else len(tally.individuals),
        )
        latent = latents.setdefault(one.latent, Latent(number=one.latent, name=one.name))
        latent.of_species.append(one)
        if one.species in species:
            species[one.species].latents.append(one)
    put_in_order(species.values(), tallies)
    for latent in latents.values():
        latent.of_species.sort(key=lambda one: (-one.contrast.effect, one.species))
    return latents, rows[-1]["sae"] if rows else None


class _ImageReader:
    """Makes an `ImageOfAtlas` of a row of the config `images`, and its picture."""

    def __init__(self, out: Path, names: PageNames) -> None:
        self._out, self._names = out, names
        self._same: dict[Any, Any] = {}  # what many rows share is kept once
        self.sae: str | None = None
        """The dictionary that picked the regions, the SAE or a baseline; None without latents."""

    def names_of(self, row: Row) -> tuple[str, str]:
        """The folder and the name of an image's page and picture; given in the order of the rows."""
        folder = folder_of(row["image_id"])
        for kind in ("images", "pictures"):
            (self._out / kind / folder).mkdir(parents=True, exist_ok=True)
        return folder, self._names.of(row["image_id"])

    def read(self, row: Row, named: tuple[str, str]) -> ImageOfAtlas:
        place = "/".join(named)
        if row.get("image"):
            picture = f"pictures/{place}.webp"
            source, size = write_picture(row["image"]["bytes"], self._out / picture, row["image_id"])
        else:  # a release by reference says how large its images are
            picture, source = None, (row["width"], row["height"])
            size = reduced_size(source, LONGEST_SIDE)
        scale = size[0] / source[0], size[1] / source[1]
        places = letter_places([trait["polygons"] for trait in row["traits"]], letter_size(size) / min(scale))
        return ImageOfAtlas(
            image_id=row["image_id"],
            page=f"images/{place}.html",
            picture=picture,
            size=size,
            individual_id=row["individual_id"],
            species=self._once(row["species"] or UNLABELLED),
            split=row["split"],
            rights=self._once(Rights(row.get("license"), row.get("rights_holder"))),
            source_url=web_address(row),
            source_id=row["source_id"],
            traits=tuple(
                self._trait(trait, scale, (round(x * scale[0]), round(y * scale[1])))
                for trait, (x, y) in zip(row["traits"], places, strict=True)
            ),
        )

    def _trait(self, trait: Row, scale: tuple[float, float], letter_place: tuple[int, int]) -> TraitOfImage:
        self.sae = self.sae or trait.get("sae")
        x, y, width, height = trait["box"]
        box = round(x * scale[0]), round(y * scale[1]), round(width * scale[0]), round(height * scale[1])
        attributes = tuple((sys.intern(one["name"]), sys.intern(one["value"])) for one in trait["attributes"])
        return TraitOfImage(
            trait_id=trait["trait_id"],
            text=self._once(trait["text"]),
            part=self._once(trait.get("part")),
            part_source=self._once(trait.get("part_source")),
            attributes=self._once(attributes),
            outline=outline_of(trait["polygons"], scale),
            letter_place=letter_place,
            box=box,
            picked_by=self._once(trait["region_source"]),
            color_name=self._once(trait["color_name"]),
            color=_hex(trait["color_lab"]),
            describer=self._once(f"{trait['describer']}, {trait['describer_model']}"),
            area_fraction=trait["area_fraction"],
            length_px=trait["length_px"],
            width_px=trait["width_px"],
            **{name: trait.get(name) for name in _AS_THEY_ARE},
        )

    def _once(self, value: Any) -> Any:
        return self._same.setdefault(value, value)


# Releases of earlier versions may lack columns that can be null.
_AS_THEY_ARE = (
    "latent", "activation", "background", "length_mm", "width_mm", "reviewed", "review_score", "n_raters",
)  # fmt: skip


def _hex(lab: list[float]) -> str:
    red, green, blue = np.rint(255 * np.asarray(lab2rgb(np.array(lab, dtype=float)))).astype(int).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def _files(dataset: Path, config: ConfigName) -> Iterator[tuple[str, Path]]:
    """The files of a config with their splits, in the order in which they are read."""
    for split, patterns in data_files(dataset, config).items():
        for path in sorted({path for pattern in patterns for path in glob(pattern)}):
            yield split, Path(path)


def _number_of_rows(dataset: Path, config: ConfigName) -> int:
    with _errors_in_one_line(dataset):
        return sum(pq.read_metadata(path).num_rows for _, path in _files(dataset, config))


def _rows(dataset: Path, config: ConfigName) -> Iterator[Row]:
    """All rows of a config with their split, some in memory."""
    with _errors_in_one_line(dataset):
        for split, path in _files(dataset, config):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS_AT_A_TIME):
                    rows: list[Row] = batch.to_pylist()
                    yield from (row | {"split": split} for row in rows)


@contextmanager
def _errors_in_one_line(dataset: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ReleaseError(f"cannot read the dataset {dataset}: {one_line(error, max_length=300)}") from error
