"""The nouns that travel between rooms. The released tables made of them are described in
`sae_traits.release.tables`.

Units: pixels are pixels of the upright source image; boxes are x, y, width, height; latents and patches are 0-based.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sae_traits.errors import StoreError
from sae_traits.geometry import Framing, PatchGrid

Dtype = Literal["float32", "bfloat16", "float16"]
"""In which features are computed, or kept."""
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""The seven ranks, from the widest; these are also the column names of every table."""
ReferenceRank = Literal["genus", "family", "order", "collection"]
REFERENCE_RANKS: tuple[ReferenceRank, ...] = ("genus", "family", "order", "collection")
"""What a species is contrasted with, from the closest relatives outwards."""
RegionSource = Literal["sae", "pca", "nmf", "k_means", "random", "gradcam", "whole"]
"""What picks the regions of an image; all but `sae` are baselines."""
REGION_SOURCES: dict[RegionSource, str] = {
    "sae": "latents of the sparse autoencoder (SAE)",
    "pca": "principal components of the patch features; a component and its negative count as two latents",
    "nmf": "components of a non-negative matrix factorisation of the patch features",
    "k_means": "clusters of the patch features, a latent each",
    "random": "random directions in the space of the patch features, a latent each",
    "gradcam": "Grad-CAM of the class that the backbone's own classifier predicts; there are no latents",
    "whole": "the whole image; there are no latents",
}
"""In words, for cards and reports."""


@dataclass(frozen=True, slots=True)
class Taxon:
    """A name in seven ranks; any may be missing, and `species` is the binomial."""

    kingdom: str | None = None
    phylum: str | None = None
    class_: str | None = None
    order: str | None = None
    family: str | None = None
    genus: str | None = None
    species: str | None = None

    def rank(self, name: str) -> str | None:
        """The name at one of RANKS."""
        return getattr(self, "class_" if name == "class" else name)

    def to_dict(self) -> dict[str, str | None]:
        """The columns of RANKS."""
        return {rank: self.rank(rank) for rank in RANKS}

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Taxon:
        """The taxon in a row with the columns of RANKS; other columns are ignored, missing ones are None."""
        return cls(**{"class_" if rank == "class" else rank: row.get(rank) for rank in RANKS})


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image of one organism."""

    image_id: str
    """Stable and unique: made of the file's path in the collection."""
    individual_id: str = ""
    """Which organism: several images of one share it; the image itself where nothing is said."""
    file: str
    """Path of the image relative to the collection's root, with forward slashes."""
    taxon: Taxon
    split: Split
    width: int
    height: int
    sha256: str
    """Of the image file's bytes."""
    license: str | None = None
    rights_holder: str | None = None
    source_url: str | None = None
    source_revision: str | None = None
    """Version of the source that the image came from, where the source has versions."""
    mm_per_pixel: float | None = None
    mask_file: str | None = None
    """Foreground mask of the same size, relative to the root; for scoring only, unless --use-masks says otherwise."""

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
    """An input that could not be used, and why."""

    file: str
    reason: str


_SPECIMEN_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("individual_id", pa.string()),
        ("file", pa.string()),
        *((rank, pa.string()) for rank in RANKS),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("license", pa.string()),
        ("rights_holder", pa.string()),
        ("source_url", pa.string()),
        ("source_revision", pa.string()),
        ("mm_per_pixel", pa.float64()),
        ("mask_file", pa.string()),
    ]
)


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

    def path(self, record: ImageRecord) -> Path:
        """Where the image's image lies."""
        return self.root / record.file

    def mask_path(self, record: ImageRecord) -> Path | None:
        """Where the image's mask lies, if it has one."""
        return None if record.mask_file is None else self.root / record.mask_file

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Rows of the images of a split, in their order `[n]`."""
        return np.flatnonzero([record.split == split for record in self.images])

    def digest(self, *names: str) -> str:
        """Hash of some fields of all images, in order."""
        digest = hashlib.sha256()
        for record in self.images:
            digest.update(repr([getattr(record, name) for name in names]).encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write one row an image, without pixels, as Parquet (RUN/images.parquet)."""
        names = [f.name for f in fields(ImageRecord) if f.name != "taxon"]
        rows = [{name: getattr(s, name) for name in names} | s.taxon.to_dict() for s in self.images]
        schema = _SPECIMEN_SCHEMA.with_metadata({"root": str(self.root.resolve()), "note": self.note or ""})
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)

    @classmethod
    def load(cls, path: Path) -> Collection:
        """Read what `save` wrote; problems and near-identical images are not part of it.

        Raises:
            StoreError: the file is missing or is not a table of images.
        """
        if not path.is_file():
            raise StoreError(f"{path} does not exist; run `sae-traits extract` or `sae-traits run` first")
        table = pq.read_table(path)
        metadata = table.schema.metadata or {}
        if b"root" not in metadata or table.schema.names != _SPECIMEN_SCHEMA.names:
            raise StoreError(f"{path} is not a table of images written by sae-traits {_SPECIMEN_SCHEMA.names}")
        records = []
        for row in table.to_pylist():
            taxon = Taxon.from_dict(row)
            records.append(ImageRecord(taxon=taxon, **{k: v for k, v in row.items() if k not in RANKS}))
        note = metadata.get(b"note", b"").decode() or None
        return cls(Path(metadata[b"root"].decode()), tuple(records), note=note)


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

    def grid(self, source: tuple[int, int]) -> PatchGrid:
        """The patches of a source image of (width, height) pixels."""
        return self.framing.grid(source, rows=self.rows, columns=self.columns, patch=self.patch)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        return asdict(self) | {"framing": self.framing.to_dict(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BackboneInfo:
        """The info that `to_dict` wrote."""
        recorded = {field.name: values[field.name] for field in fields(cls) if field.name != "compute_dtype"}
        recorded |= {"framing": Framing.from_dict(values["framing"])}
        recorded |= {name: _three(values[name]) for name in ("mean", "std")}
        # Its name was `precision` at first; before that, all there was is float32.
        return cls(**recorded, compute_dtype=values.get("compute_dtype", values.get("precision", "float32")))


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How much more often a latent fires in a species than in its relatives."""

    f_species: float
    """Share of the species' images in which the latent fired (`paper`: share of the species' firings)."""
    f_reference: float
    """The same for the reference group without the species (`paper`: with it)."""
    effect: float
    """Shrunken log odds ratio of species against reference; the ranking."""
    q_value: float
    """Of a one-sided hypergeometric test, Benjamini-Hochberg adjusted within the species; NaN for `paper`."""
    significant: bool
    reference_rank: ReferenceRank


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLatent:
    """A latent that describes a species: one row of the config `latents`."""

    species: str
    latent: int
    threshold: float
    """The latent fires above this activation."""
    contrast: Contrast
    n_fired: int
    """Training images of the species in which it fired."""
    n_images: int
    """Training images of the species."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A latent that the contrast picked for an image, with the patches where it fired.

    Grad-CAM and the whole image have no latents, hence no contrast either.
    """

    image: int
    """Row in images.parquet."""
    region_source: RegionSource = "sae"
    latent: int | None
    patches: tuple[int, ...]
    peak: float | None
    """Highest activation among the patches, or value of the Grad-CAM map; None for the whole image."""
    contrast: Contrast | None

    @property
    def name(self) -> str:
        """What picked the region, unique within the image: `17` of the SAE, `pca-17`, `gradcam`, `whole`."""
        if self.latent is None:
            return self.region_source
        return str(self.latent) if self.region_source == "sae" else f"{self.region_source}-{self.latent}"

    @property
    def effect(self) -> float:
        """The contrast's effect, for ranking; 0 where nothing was contrasted."""
        return self.contrast.effect if self.contrast else 0.0

    @property
    def significant(self) -> bool:
        """Whether the contrast is significant; what was not contrasted is not."""
        return self.contrast is not None and self.contrast.significant


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where a candidate lies in the source image."""

    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...]
    """Outer rings as x0, y0, x1, y1, … not closed; holes are filled."""
    patches: tuple[int, ...]
    area_fraction: float
    """Share of the image's area."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing seen, for example colour: dark brown."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a describer said of a region."""

    text: str
    part: str | None = None
    attributes: tuple[Attribute, ...] = ()
    is_background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured on a region's pixels; lengths in source pixels, and in millimetres where there is a scale."""

    length_px: float
    width_px: float
    elongation: float
    """Length over width of the smallest rectangle around the region; 1 is compact."""
    texture_contrast: float
    """Standard deviation of CIELAB lightness in the region, 0 to 50."""
    color_lab: tuple[float, float, float]
    """CIELAB (D65) of the dominant colour."""
    color_name: str
    length_mm: float | None = None
    width_mm: float | None = None
    on_animal: float | None = None
    """Share of the region that lies on the animal; this and the next are known only where masks are used."""
    share_of_animal: float | None = None
    """Share of the animal that the region covers."""
    position_along_axis: float | None = None
    """How far from the middle of the animal's longest axis, 0, to either of its ends, 1; see `traits.animal`."""

    def with_scale(self, mm_per_pixel: float | None) -> Measurement:
        """The same with millimetres, where a scale is known."""
        if mm_per_pixel is None:
            return self
        return replace(self, length_mm=self.length_px * mm_per_pixel, width_mm=self.width_px * mm_per_pixel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One row of the released dataset: a candidate, where it is, what was said of it and what was measured."""

    trait_id: str
    """Stable across re-releases: made of the image and the candidate's name."""
    candidate: Candidate
    region: Region
    description: Description
    measurement: Measurement
    n_images: int = 1
    """How many images the description was agreed on."""
    describer: str
    describer_model: str
    """Model and revision, as model@revision."""
    prompt: str
    """Version and hash of the prompt; of the measuring code where there is no prompt."""
