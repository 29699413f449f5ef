"""Taxa, images and collections of images; and what features were made with."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sae_traits.arrow import arrow_schema, column, read_parquet
from sae_traits.errors import CollectionError, StoreError
from sae_traits.geometry import Framing, PatchGrid
from sae_traits.io import whole_file, write_csv
from sae_traits.vocabulary import RANKS, Dtype, Split

LABELS_NAMED = 3
"""Of the labels without an image; the others are counted."""


@dataclass(frozen=True, slots=True)
class Taxon:
    """A name in seven ranks; any may be missing, and `species` is the binomial."""

    kingdom: str | None = column("Kingdom, null where unknown.", default=None)
    phylum: str | None = column("Phylum, null where unknown.", default=None)
    class_: str | None = column("Class, null where unknown.", default=None, name="class")
    order: str | None = column("Order, null where unknown.", default=None)
    family: str | None = column("Family, null where unknown.", default=None)
    genus: str | None = column("Genus, null where unknown.", default=None)
    species: str | None = column("The binomial, null where unknown.", default=None)

    def rank(self, name: str) -> str | None:
        """The name at one of RANKS."""
        return getattr(self, "class_" if name == "class" else name)

    def to_dict(self) -> dict[str, str | None]:
        return {rank: self.rank(rank) for rank in RANKS}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Taxon:
        """The taxon in a row with the columns of RANKS; other columns are ignored, missing ones are None."""
        return cls(**{"class_" if rank == "class" else rank: row.get(rank) for rank in RANKS})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image of one organism."""

    image_id: str = column("Image, stable across re-releases.")
    """Unique: made of the file's path in the collection."""
    individual_id: str = column(
        "Organism: several images of it, or near-identical ones, share this; else the image itself.",
        default="",
    )
    file: str = column("The source image's path in its collection.", name="source_id")
    """Relative to the collection's root, with forward slashes."""
    taxon: Taxon
    split: Split
    width: int
    height: int
    sha256: str = column("sha256 of the source image file.", name="source_sha256")
    license: str | None = column("Licence of the source image, null where none was given.", default=None)
    rights_holder: str | None = column("Who holds the rights in the source image, null where unknown.", default=None)
    source_url: str | None = column("Where the source image came from, null where unknown.", default=None)
    source_revision: str | None = column("Version of that source, null where it has none.", default=None)
    mm_per_pixel: float | None = None
    mask_file: str | None = None
    """Foreground mask of the same size, relative to the root; for scoring only, unless --use-masks says otherwise."""
    animal_box: tuple[float, float, float, float] | None = None
    """x, y, width, height of the box around the organism, in pixels; for scoring only."""

    def __post_init__(self) -> None:
        if not self.individual_id:
            object.__setattr__(self, "individual_id", self.image_id)

    @property
    def species(self) -> str:
        """The binomial of an image with a label; `taxon.species` is None for a photograph without one."""
        assert self.taxon.species is not None
        return self.taxon.species


@dataclass(frozen=True, slots=True)
class Problem:
    """An input that could not be used, or not as it was meant, and why."""

    file: str
    reason: str


_RANK_FIELDS = [pa.field(rank, pa.string()) for rank in RANKS]
_IMAGE_SCHEMA = pa.schema(
    [part for field in arrow_schema(ImageRecord) for part in (_RANK_FIELDS if field.name == "taxon" else [field])]
)
"""The fields of an ImageRecord, with the ranks in the place of the taxon."""


@dataclass(frozen=True, slots=True)
class NearIdentical:
    """Two images that show the same photograph, and what their labels make of it."""

    file: str
    other: str
    differ: Literal["split", "species"]
    """What they do not share."""
    labels: tuple[str, str]
    """The split or the species of each."""

    def __str__(self) -> str:
        return f"near-identical to {self.other}; its {self.differ} is {self.labels[0]}, there {self.labels[1]}"


@dataclass(frozen=True)
class Collection:
    """The images of a collection, in a stable order, and what could not be used."""

    root: Path
    images: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...] = ()
    near_identical: tuple[NearIdentical, ...] = ()
    """Images that nearly equal one of another split or another species; all of them are among the images."""
    note: str | None = None
    """Why the images show no real organisms, for every summary, report and card; None for photographs."""
    without_images: tuple[str, ...] = ()
    """Labels (names of folders, or values of the column) at whose species no image is left."""

    @property
    def n_individuals(self) -> int:
        """How many organisms the images show."""
        return len({record.individual_id for record in self.images})

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Rows of the images of a split, in their order `[n]`."""
        return np.array([row for row, record in enumerate(self.images) if record.split == split], dtype=np.int64)

    def digest(self, *names: str) -> str:
        """Hash some fields of all images, in order."""
        state = hashlib.sha256()
        for record in self.images:
            state.update(repr([getattr(record, name) for name in names]).encode())
        return state.hexdigest()

    def counts(self) -> dict[str, Any]:
        """What there is of images, individuals, species, problems, rights, lost labels, for the record of a step."""
        licensed = [record for record in self.images if record.license is not None]
        return {
            "n_images": len(self.images),
            "n_individuals": self.n_individuals,
            "n_species": len({record.taxon.species for record in self.images} - {None}),
            "n_problems": len(self.problems),
            "n_without_license": len(self.images) - len(licensed),
            "n_without_rights_holder": sum(record.rights_holder is None for record in licensed),
            "n_near_identical": {
                differ: sum(pair.differ == differ for pair in self.near_identical) for differ in ("split", "species")
            },
            "n_without_images": len(self.without_images),
            "without_images": list(self.without_images[:LABELS_NAMED]),
        }

    def save_problems(self, path: Path) -> None:
        """Write the problems and the near-identical images that contradict each other as CSV (RUN/problems.csv)."""
        problems = [(problem.file, problem.reason) for problem in self.problems]
        problems += [(pair.file, str(pair)) for pair in self.near_identical]
        write_csv(path, ["file", "reason"], problems)

    def path(self, record: ImageRecord) -> Path:
        return self.root / record.file

    def check_images_are_there(self, run: str = "RUN") -> None:
        """Raise a CollectionError where none of the images is where it was read; it says what to do with a run."""
        if any(self.path(record).exists() for record in self.images):
            return
        if self.root.exists():
            raise CollectionError(
                f"none of the images is in {self.root} any more, such as {self.images[0].file}; put them back"
            )
        raise CollectionError(no_longer_in(str(self.root), run))

    def mask_path(self, record: ImageRecord) -> Path | None:
        """Where the mask of the image lies, if it has one."""
        return None if record.mask_file is None else self.root / record.mask_file

    def save(self, path: Path) -> None:
        """Write one row per image, without pixels, as Parquet (RUN/images.parquet)."""
        names = [f.name for f in fields(ImageRecord) if f.name != "taxon"]
        rows = [{name: getattr(s, name) for name in names} | s.taxon.to_dict() for s in self.images]
        schema = _IMAGE_SCHEMA.with_metadata({"root": str(self.root.resolve()), "note": self.note or ""})
        with whole_file(path) as stream:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), stream)

    @classmethod
    def load(cls, path: Path) -> Collection:
        """Read what `save` wrote, which is without problems; a StoreError where it is missing or another table."""
        if not path.is_file():
            raise StoreError(f"{path} does not exist; run `sae-traits extract` or `sae-traits run` first")
        table = read_parquet(path)
        metadata = table.schema.metadata or {}
        absent = [name for name in _IMAGE_SCHEMA.names if name not in table.schema.names]
        if b"root" not in metadata or not set(absent) <= {"animal_box"}:
            raise StoreError(f"{path} is not a table of images written by sae-traits {_IMAGE_SCHEMA.names}")
        records = []
        for row in table.to_pylist():
            taxon = Taxon.from_dict(row)
            box = row.pop("animal_box", None)  # which tables of runs before there was this column do not have
            values = {k: v for k, v in row.items() if k not in RANKS}
            records.append(ImageRecord(taxon=taxon, animal_box=None if box is None else tuple(box), **values))
        note = metadata.get(b"note", b"").decode() or None
        return cls(Path(metadata[b"root"].decode()), tuple(records), note=note)


def no_longer_in(source: str, run: str) -> str:
    """What to do where the images of a run are not in their source any more."""
    return (
        f"the images are no longer in {source}; where they have moved, `sae-traits run NEW_PLACE --out {run}` goes on "
        "with them"
    )


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """Everything that patch features depend on: written into the feature index and into the SAE's config.json."""

    backbone: str
    """Hub id, local folder, or `texture`."""
    revision: str
    """Commit on the Hub, or a hash of a local folder's weights."""
    layer: int
    """Index into the model's hidden states, 0 the embeddings; 0 for a backbone without layers."""
    d_model: int
    rows: int
    columns: int
    patch: float | None
    """Side of a patch in model input pixels; None where the rows and columns divide the input evenly."""
    framing: Framing
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    compute_dtype: Dtype = "float32"
    """In which the model computes; the features that come out are rounded on their way through it."""
    second_layer: int | None = None
    """Another hidden state, beside that of `layer`; None where there is one alone."""

    @property
    def layers(self) -> str:
        """The layers in words, as `layer 11` or `layers 11 and 7`."""
        return f"layer {self.layer}" if self.second_layer is None else f"layers {self.layer} and {self.second_layer}"

    def grid(self, source: tuple[int, int]) -> PatchGrid:
        """The patches of a source image of (width, height) pixels."""
        return self.framing.grid(source, rows=self.rows, columns=self.columns, patch=self.patch)

    def differences(self, other: BackboneInfo) -> list[str]:
        """What another backbone has otherwise, in words; where either lies makes no difference to its patches."""
        names = [field.name for field in fields(self) if field.name not in ("backbone", "framing")]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        pairs += [
            (f"framing.{name}", value, other.framing.to_dict()[name]) for name, value in self.framing.to_dict().items()
        ]
        return [f"{name} {there}, not {here}" for name, here, there in pairs if here != there]

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self) | {"framing": self.framing.to_dict(), "mean": list(self.mean), "std": list(self.std)}
        if self.second_layer is None:  # as it was recorded before there could be two
            del values["second_layer"]
        return values

    def identity(self) -> dict[str, Any]:
        """What tells it from others: not the folder of a model, whose revision is the hash of its weights."""
        values = self.to_dict()
        if self.revision.startswith("sha256:"):
            del values["backbone"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BackboneInfo:
        newer = ("compute_dtype", "second_layer")
        recorded = {field.name: values[field.name] for field in fields(cls) if field.name not in newer}
        recorded |= {"framing": Framing.from_dict(values["framing"])}
        recorded |= {name: tuple(values[name]) for name in ("mean", "std")}
        # Its name was `precision` at first; before that, all there was is float32.
        compute_dtype = values.get("compute_dtype", values.get("precision", "float32"))
        return cls(**recorded, compute_dtype=compute_dtype, second_layer=values.get("second_layer"))
