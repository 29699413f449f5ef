"""Images with what is said of them, from a released dataset, a table or folder, or WebDataset shards."""

from __future__ import annotations

import json
import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, cast

from PIL import Image

from sae_traits.config.collection import CollectionConfig
from sae_traits.config.finetune import PairsConfig
from sae_traits.contrastive.texts import Texts, name_texts, trait_text
from sae_traits.errors import CollectionError, ConfigError, ImageError, one_line
from sae_traits.evaluation.text import read_common_names
from sae_traits.images.columns import FILE_NAMES, find_columns
from sae_traits.images.decode import IMAGE_SUFFIXES, decode_image, open_image
from sae_traits.images.reading import read_collection, say_problems
from sae_traits.images.table import table_of
from sae_traits.images.table_files import open_table
from sae_traits.logging import say, warn
from sae_traits.release.loading import Released, load_traits, local_dataset
from sae_traits.release.pictures import PictureGroup, StoredPicture, rows_with_places
from sae_traits.release.tables import Row
from sae_traits.schema import Collection, Taxon
from sae_traits.vocabulary import SPLITS, Split

SHARD_TEXTS = {f"{name}.txt": name for name in ("sci", "com", "taxon", "sci_com", "taxon_com", "caption")}
"""Key of BioCLIP's and BioCAP's shards -> type of text; they hold the text as the model reads it."""
PLAIN_TEXT = "txt"
"""Key of our shards and of the trait paper's: a trait's sentence, or a text with species and trait."""
_WITHOUT_COMMON_NAME = {"com": "sci", "sci_com": "sci", "taxon_com": "taxon"}
"""Type of text -> the one that says the same without the common name."""
SPECIES_KEYS = ("scientific_name.txt", "taxonomic_name.txt")
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
"""Name of a sample, and key; as in webdataset the key begins at the first dot of the file's name."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with all that is said of it."""

    name: str
    """For messages."""
    open: Callable[[], Image.Image]
    """Decodes the image: upright RGB; an ImageError where it cannot."""
    texts: Texts
    species: str | None
    picture: StoredPicture | None = None
    """Where its picture is, if that is read while training (--stream)."""
    license: str | None = None
    """Of the image, as its data have it; None where they say none."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A sample of a shard that cannot be used for want of something."""

    name: str
    what: Literal["image", "text"]


def read_samples(config: PairsConfig, split: Split = "train", images: Collection | None = None) -> list[Sample]:
    """The images of a split with their texts.

    Args:
        config: the data, and which texts are wanted.
        split: whose images.
        images: what `examine_images` gave, so that the images of several splits are decoded once.

    Raises:
        ConfigError, CollectionError, ReleaseError: the data cannot be read, have none of the kinds, or (of train) lack
            texts of a wanted type.
    """
    samples = _read(config, split, images)
    if split != "train":
        return samples
    _examine_lacking_texts(samples, config)
    enough = any if config.without_text == "keep" and config.text_per == "sample" else all
    kept = [sample for sample in samples if enough(kind in sample.texts for kind in config.text_types)]
    if len(kept) < len(samples):
        wanted = "any wanted type" if enough is any else "a wanted type"
        say(f"{len(samples) - len(kept)} of {len(samples)} images have no text of {wanted} and are left out")
    if not kept:
        raise CollectionError(f"no image of {config.data} has texts of all of {', '.join(config.text_types)}")
    _say_where_no_common_name_is(kept, config)
    return kept


def _examine_lacking_texts(samples: Sequence[Sample], config: PairsConfig) -> None:
    """Say how many images lack which wanted type; a CollectionError where they may not."""
    for kind in dict.fromkeys(config.text_types):
        without = [sample for sample in samples if kind not in sample.texts]
        if len(without) == len(samples):
            known = Counter(name for sample in samples for name in sample.texts)
            there = ", ".join(sorted(known)) or "no text at all"
            raise CollectionError(f"no image of {config.data} has a text of the type {kind}; there is {there}")
        if not without:
            continue
        lack = f"{len(without)} of {len(samples)} images of {config.data} have no text of the type {kind}, the first "
        lack += without[0].name
        if config.without_text == "refuse":
            raise CollectionError(f"{lack}; choose other --text-types, or another --without-text")
        if config.without_text == "keep" and config.text_per == "batch" and len(config.text_types) > 1:
            raise CollectionError(
                f"{lack}, and with --text-per batch a step takes one type of all its images; leave them out with "
                "--without-text drop, or choose --text-per sample"
            )
        say(lack)


def _say_where_no_common_name_is(samples: Sequence[Sample], config: PairsConfig) -> None:
    """Warn where a text with the common name is the text without it for every image."""
    same = [
        kind
        for kind in config.text_types
        if (without := _WITHOUT_COMMON_NAME.get(kind))
        and all(sample.texts.get(kind) == sample.texts.get(without) for sample in samples)
    ]
    if same:
        warn(
            f"warning: no image of {config.data} has a common name, so {', '.join(same)} are the text without one; "
            "give them with --common-names"
        )


def examine_images(config: PairsConfig) -> Collection | None:
    """Decode the images of a table or folder once, and say which cannot be used.

    None where the data are of another kind, whose images are decoded when they are wanted.
    """
    if _is_released(config) or _shards(config) or config.stream:
        return None
    images = read_collection(CollectionConfig(source=config.data), workers=config.workers)
    say_problems(images.problems, f"`sae-traits collect {config.data}` writes all to problems.csv")
    return images


def _read(config: PairsConfig, split: Split, images: Collection | None) -> list[Sample]:
    if _is_released(config):
        return read_released(config, split)
    if config.stream:
        raise ConfigError(
            f"--stream reads the pictures of a dataset that sae-traits released, and {config.data} is none; leave "
            "--stream out"
        )
    if shards := _shards(config):
        of_split = [shard for shard, of in shards.items() if of == split]
        return read_shards(of_split, config) if of_split else []
    images = images or examine_images(config)
    assert images is not None
    return read_images(images, config, split)


def _is_released(config: PairsConfig) -> bool:
    """Whether the data are a dataset of sae-traits: a run, a folder with one, or an id on the Hub."""
    path = Path(config.data)
    if config.data.startswith("hf://") or path.is_file() or path.suffix == ".tar" or any(path.glob("*.tar")):
        return False
    folder = local_dataset(config.data, config.data_revision)
    if folder is None or folder != path:
        return True
    return (folder / "data").is_dir() and table_of(CollectionConfig(source=config.data)) is None


def _shards(config: PairsConfig) -> dict[Path, Split]:
    """The shards of the data, each with its split; one that is named itself is for training. Other data have none."""
    path = Path(config.data)
    if path.suffix == ".tar":
        return {path: "train"}
    return {shard: _split_of(shard) for shard in sorted(path.glob("*.tar"))}


def _split_of(shard: Path) -> Split:
    """The split that a shard is named after, as those of `sae-traits export` are; any other is for training."""
    for split in SPLITS:
        if shard.name.startswith(f"{split}-"):
            return split
    return "train"


def read_released(config: PairsConfig, split: Split) -> list[Sample]:
    """The samples of a dataset that sae-traits released."""
    captions = Released.open(config.data, config.data_revision).captions(split)
    common_names = _common_names(config)
    samples = []
    for row, opened, picture in _stored_rows(config, split) if config.stream else _loaded_rows(config, split):
        taxon = Taxon.from_dict(row)
        texts = dict(name_texts(taxon, config.template, common_names))
        if traits := [trait["text"] for trait in row["traits"]]:
            texts["trait"] = tuple(trait_text(taxon.species, trait) for trait in traits)
        if caption := captions.get(row["image_id"]):
            texts["caption"] = (caption,)
        samples.append(Sample(row["image_id"], opened, texts, taxon.species, picture, row["license"]))
    return samples


_ReleasedRow = tuple[Row, Callable[[], Image.Image], StoredPicture | None]
"""A row without its picture, what opens that, and where it is if it has not been loaded."""


def _loaded_rows(config: PairsConfig, split: Split) -> Iterator[_ReleasedRow]:
    import datasets

    by_split = load_traits(config.data, config.data_revision, config="images")
    if split not in by_split:
        return
    rows = by_split[split].cast_column("image", datasets.Image(decode=False))
    columns = [name for name in rows.column_names if name != "image"]
    for index, row in enumerate(cast(Iterable[Row], rows.select_columns(columns))):
        yield row, partial(_open_loaded, rows, index), None


def _open_loaded(rows: Any, index: int) -> Image.Image:
    return _decode((rows[index].get("image") or {}).get("bytes"))


def _stored_rows(config: PairsConfig, split: Split) -> Iterator[_ReleasedRow]:
    for row, picture in rows_with_places(config.data, config.data_revision, "images", split):
        yield row, partial(_open_stored, picture), picture


def _open_stored(picture: StoredPicture) -> Image.Image:
    return _decode(_read_group(picture.group)[picture.row])


@lru_cache(maxsize=1)
def _read_group(group: PictureGroup) -> list[bytes | None]:
    """Kept, because validation images are opened in their order."""
    return group.read()


def _decode(encoded: bytes | None) -> Image.Image:
    if not encoded:
        raise ImageError("the dataset names its images instead of holding them; fetch them with `sae-traits rehydrate`")
    return decode_image(encoded)


def read_images(images: Collection, config: PairsConfig, split: Split) -> list[Sample]:
    """The samples of a table or folder of images; a table may have a column `caption`."""
    table = table_of(CollectionConfig(source=config.data))
    captions = {} if table is None else _column_of(table, "caption")
    common_names = _common_names(config)
    samples = []
    for record in images.images:
        if record.split != split:
            continue
        texts = dict(name_texts(record.taxon, config.template, common_names))
        if caption := captions.get(_plain_path(record.file)):
            texts["caption"] = (caption,)
        path = images.path(record)
        opened = partial(open_image, path)
        samples.append(Sample(record.file, opened, texts, record.taxon.species, license=record.license))
    return samples


def _column_of(table: Path, column: str) -> dict[str, str]:
    """File -> what a column of a table says of it, of several rows the first; nothing without such a column."""
    names, rows_of = open_table(table)
    columns = find_columns(names, {"file": FILE_NAMES, column: (column,)})
    if column not in columns:
        return {}
    said: dict[str, str | None] = {}
    for row in rows_of(columns):
        if row["file"]:
            said.setdefault(_plain_path(row["file"]), row[column])
    return {file: text for file, text in said.items() if text}


def _plain_path(written: str) -> str:
    """A path as records have it, but for letters with marks, of which there are two spellings."""
    return unicodedata.normalize("NFC", str(PurePosixPath(PureWindowsPath(written).as_posix())))


def _common_names(config: PairsConfig) -> dict[str, str]:
    return {} if config.common_names is None else read_common_names(Path(config.common_names))


def read_shards(shards: Sequence[Path], config: PairsConfig) -> list[Sample]:
    """The samples of WebDataset shards with our keys, BioCLIP's, or the trait paper's (jpg, txt).

    Only texts are kept; images are read from their place in the shard when they are wanted, in any order. Samples
    without an image or a text are left out and counted.
    """
    common_names = _common_names(config)
    found = [sample for shard in shards for sample in _of_shard(shard, config, common_names)]
    samples = [sample for sample in found if isinstance(sample, Sample)]
    if not samples:
        raise CollectionError(
            f"{config.data} has no sample with an image (jpg, png …) and a text ({', '.join(SHARD_TEXTS)} or "
            f"{PLAIN_TEXT}); its shards must have these keys"
        )
    _say_what_lacks([sample for sample in found if isinstance(sample, Lacking)], len(found), config.data)
    return samples


def _say_what_lacks(lacking: Sequence[Lacking], n_samples: int, data: str) -> None:
    """Warn of the samples that are left out, by what they lack."""
    for what in dict.fromkeys(sample.what for sample in lacking):
        names = [sample.name for sample in lacking if sample.what == what]
        warn(f"{len(names)} of {n_samples} samples of {data} have no {what} and are left out, the first {names[0]}")


def _of_shard(shard: Path, config: PairsConfig, common_names: Mapping[str, str]) -> list[Sample | Lacking]:
    try:
        with tarfile.open(shard, "r:") as tar:
            members: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in tar:
                if member.isfile() and (match := _MEMBER.fullmatch(member.name)) is not None:
                    members.setdefault(match[1], {})[match[2].lower()] = member
            _check_end(tar, shard)
            return [_of_members(tar, shard, name, keys, config, common_names) for name, keys in members.items()]
    except (tarfile.TarError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CollectionError(f"cannot read the shard {shard}: {one_line(error)}; get the file again") from error


def _check_end(tar: tarfile.TarFile, shard: Path) -> None:
    """Raise a TarError where what follows the last member is not the end: tarfile takes a broken header for it."""
    with shard.open("rb") as file:
        file.seek(tar.offset)
        end = file.read(tarfile.BLOCKSIZE)
    if not end:
        warn(f"{shard} has no mark of its end; it may be broken off there, and samples be lost")
    elif len(end) < tarfile.BLOCKSIZE or any(end):
        raise tarfile.ReadError(f"it breaks off, or is damaged, behind {tar.offset:,} bytes")


def _of_members(
    tar: tarfile.TarFile,
    shard: Path,
    name: str,
    members: Mapping[str, tarfile.TarInfo],
    config: PairsConfig,
    common_names: Mapping[str, str],
) -> Sample | Lacking:
    def text(key: str) -> str:
        stream = tar.extractfile(members[key])
        assert stream is not None
        return stream.read().decode("utf-8").strip()

    image = next((member for key, member in members.items() if f".{key}" in IMAGE_SUFFIXES), None)
    if image is None:
        return Lacking(f"{shard.name}/{name}", "image")
    row = json.loads(text("json")) if "json" in members else {}
    row = row if isinstance(row, dict) else {}
    taxon = Taxon.from_dict(row)
    texts = dict(name_texts(taxon, config.template, common_names))
    species = taxon.species or next((text(key) for key in SPECIES_KEYS if key in members), None)
    texts |= {kind: (text(key),) for key, kind in SHARD_TEXTS.items() if key in members}
    if PLAIN_TEXT in members:
        texts["trait"] = (trait_text(taxon.species, text(PLAIN_TEXT)),)
    texts = {kind: said for kind, said in texts.items() if said[0]}
    if not texts:
        return Lacking(f"{shard.name}/{name}", "text")
    opened = partial(_open_member, shard, image.offset_data, image.size)
    license = written if isinstance(written := row.get("license"), str) and written.strip() else None
    return Sample(f"{shard.name}/{name}", opened, texts, species, license=license)


def _open_member(shard: Path, offset: int, size: int) -> Image.Image:
    with shard.open("rb") as file:
        file.seek(offset)
        return decode_image(file.read(size))


def check_species(samples: Sequence[Sample], data: str, why: str) -> None:
    """Raise a ConfigError where a sample has no species, which something needs."""
    for sample in samples:
        if sample.species is None:
            raise ConfigError(f"{why} needs the species of every image, and {sample.name} of {data} has none")
