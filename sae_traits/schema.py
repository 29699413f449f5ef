"""The nouns that travel between rooms. The released tables made of them are described in
`sae_traits.release.tables`.

Units: pixels are pixels of the upright source image; boxes are x, y, width, height; latents and patches are 0-based.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sae_traits.arrow import arrow_schema, column
from sae_traits.errors import StoreError
from sae_traits.geometry import Framing, PatchGrid
from sae_traits.io import write_csv
from sae_traits.vocabulary import RANKS, Dtype, PartSource, ReferenceRank, RegionSource, Split
from sae_traits.vocabulary import REFERENCE_RANKS as REFERENCE_RANKS
from sae_traits.vocabulary import REGION_SOURCES as REGION_SOURCES
from sae_traits.vocabulary import SPLITS as SPLITS


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
        "Organism: several images of it share this; the image itself where nothing is known.", default=""
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
        """Numbers of images, individuals, species, problems and near-identical images, for the record of a step."""
        return {
            "n_images": len(self.images),
            "n_individuals": self.n_individuals,
            "n_species": len({record.taxon.species for record in self.images} - {None}),
            "n_problems": len(self.problems),
            "n_near_identical": {
                differ: sum(pair.differ == differ for pair in self.near_identical) for differ in ("split", "species")
            },
        }

    def save_problems(self, path: Path) -> None:
        """Write the problems and the near-identical images that contradict each other as CSV (RUN/problems.csv)."""
        problems = [(problem.file, problem.reason) for problem in self.problems]
        problems += [(pair.file, str(pair)) for pair in self.near_identical]
        write_csv(path, ["file", "reason"], problems)

    def path(self, record: ImageRecord) -> Path:
        return self.root / record.file

    def mask_path(self, record: ImageRecord) -> Path | None:
        """Where the mask of the image lies, if it has one."""
        return None if record.mask_file is None else self.root / record.mask_file

    def save(self, path: Path) -> None:
        """Write one row per image, without pixels, as Parquet (RUN/images.parquet)."""
        names = [f.name for f in fields(ImageRecord) if f.name != "taxon"]
        rows = [{name: getattr(s, name) for name in names} | s.taxon.to_dict() for s in self.images]
        schema = _IMAGE_SCHEMA.with_metadata({"root": str(self.root.resolve()), "note": self.note or ""})
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)

    @classmethod
    def load(cls, path: Path) -> Collection:
        """Read what `save` wrote, which is without problems; a StoreError where it is missing, or another table."""
        if not path.is_file():
            raise StoreError(f"{path} does not exist; run `sae-traits extract` or `sae-traits run` first")
        table = pq.read_table(path)
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
        return asdict(self) | {"framing": self.framing.to_dict(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BackboneInfo:
        recorded = {field.name: values[field.name] for field in fields(cls) if field.name != "compute_dtype"}
        recorded |= {"framing": Framing.from_dict(values["framing"])}
        recorded |= {name: tuple(values[name]) for name in ("mean", "std")}
        # Its name was `precision` at first; before that, all there was is float32.
        return cls(**recorded, compute_dtype=values.get("compute_dtype", values.get("precision", "float32")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How much more often a latent fires in a species than in its relatives."""

    f_species: float = column(
        "Share of the species' individuals in which the latent fired; with the contrast `paper` the latent's share of "
        "all firings at patches of the species' images."
    )
    f_reference: float = column(
        "The same for the reference group, without the species; with the contrast `paper` for the genus, with the "
        "species."
    )
    effect: float = column(
        "Log odds ratio of the species against the reference group, shrunk where individuals are few; with the "
        "contrast `paper` log(f_species / f_reference), not shrunk. Traits are ranked by it."
    )
    q_value: float = column("One-sided hypergeometric test, Benjamini-Hochberg adjusted; null where not tested.")
    """Adjusted within the species; NaN for `paper`."""
    significant: bool = column("Whether the contrast passed that test; where classes are small it seldom can.")
    reference_rank: ReferenceRank = column("What the species was contrasted with: genus, family, order or collection.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLatent:
    """A latent that describes a species: one row of the config `latents`."""

    species: str = column("The species that the latent describes.")
    latent: int = column("Index, from 0, in the dictionary named by `sae`.")
    threshold: float = column("The latent fires above this activation.")
    contrast: Contrast
    n_fired: int = column("Individuals of the species, of the train split, in which it fired.")
    """In any of their images."""
    n_individuals: int = column("Individuals of the species in the train split.")
    background: float | None = column(
        "Mean probability that the latent fires on background, 0 to 1; null where nothing is known.", default=None
    )
    name: str | None = column("What it stands for, as a person has named it; null without a name.", default=None)
    held_out_f_species: float | None = column(
        "Share of the species' individuals of the other splits in which it fires; null where there are none.",
        default=None,
    )
    held_out_f_reference: float | None = column(
        "The same of the rest of the reference group, from whose individuals nothing was learnt or chosen either.",
        default=None,
    )

    @property
    def held_out(self) -> tuple[float, float] | None:
        """Both shares of held-out individuals; None where there are none of the species."""
        if self.held_out_f_species is None or self.held_out_f_reference is None:
            return None
        return self.held_out_f_species, self.held_out_f_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A latent that the contrast picked for an image, with the patches where it fired.

    Grad-CAM and the whole image have no latents, hence no contrast either.
    """

    image: int
    """Row in images.parquet."""
    region_source: RegionSource = column(
        "What picked the region: sae, or a baseline (pca, k_means, gradcam, whole …).", default="sae"
    )
    latent: int | None = column("Index, from 0, in the dictionary named by `sae`; null where regions have no latents.")
    patches: tuple[int, ...]
    peak: float | None = column(
        "Highest activation of the latent (or of Grad-CAM's map) in the region; null for the whole image.",
        name="activation",
    )
    background: float | None = column(
        "Probability that the region shows background, 0 to 1, learnt from where things lie in the collection's "
        "photographs; null where nothing could be learnt.",
        default=None,
    )
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
class AnimalFrame:
    """An animal in its photograph, in a few numbers; all in pixels of the source image."""

    area: float
    centre: tuple[float, float]
    """x, y."""
    spread: tuple[float, float, float]
    """Variance of x, covariance, and variance of y."""
    ends: tuple[float, float] | None
    """How far it reaches along its longest axis, as projections; None where it is about as wide as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where a candidate lies in the source image."""

    box: tuple[float, float, float, float] = column("x, y, width, height in pixels of this row's image.")
    polygons: tuple[tuple[float, ...], ...] = column(
        "Outlines as x0, y0, x1, y1, … in pixels of this row's image, not closed."
    )
    """Outer rings; holes are filled."""
    patches: tuple[int, ...]
    area_fraction: float = column("Share of the image's area that the region covers.", unit="share of the image")
    animal: AnimalFrame | None = None
    """The animal that it lies on, as far as the image's background is known; see `traits.animals`."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing seen, for example colour: dark brown."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a describer said of a region."""

    text: str = column("One sentence about the region.")
    part: str | None = column("Part of the organism, null where nobody has said it.", default=None)
    part_source: PartSource | None = column(
        "Who said which part it is: describer, or named, by a person who named the latent; null without a part.",
        default=None,
    )
    """Set where the dataset is written; see `traits.latent_names`."""
    attributes: tuple[Attribute, ...] = column("Names and values: colour, pattern, shape, size …", default=())
    is_background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What a describer said of a whole image: one row of the config `captions`."""

    image: int
    """Row in images.parquet."""
    text: str = column("One sentence about the organism in the image.", name="caption")
    context_page: str | None = column(
        "Page of the reference text that settled its terms; null where the describer was given none.", default=None
    )
    describer: str = column("Who wrote the caption.")
    describer_model: str = column("Its model, as model@revision.")
    prompt: str = column("Version and hash of its prompt or rules.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured on a region's pixels; lengths in source pixels, and in millimetres where there is a scale."""

    length_px: float = column(
        "Longer side of the smallest rectangle around the region, in source image pixels.",
        unit="pixel of the source image",
    )
    width_px: float = column("Its shorter side, in source image pixels.", unit="pixel of the source image")
    elongation: float = column("Length over width.", unit="ratio of length to width")
    """1 is compact."""
    texture_contrast: float = column("Standard deviation of CIELAB lightness in the region, 0 to 50.", unit="CIELAB L*")
    color_lab: tuple[float, float, float] = column("CIELAB (D65) of the region's dominant colour.", unit="CIELAB (D65)")
    color_name: str = column("Its name.", unit="")
    length_mm: float | None = column(
        "Length in millimetres, null where the image has no scale.", default=None, unit="mm"
    )
    width_mm: float | None = column("Width in millimetres, null where the image has no scale.", default=None, unit="mm")
    animal_source: Literal["mask", "background"] | None = column(
        "What told the animal of the next columns: its mask, or what was learnt of the collection's backgrounds, patch "
        "by patch; null where neither did.",
        default=None,
    )
    on_animal: float | None = column(
        "Share of the region on the animal, 0 to 1; null where no mask was used.",
        default=None,
        unit="share of the region",
    )
    share_of_animal: float | None = column(
        "Share of the animal in the region, 0 to 1; null where the animal is not known.",
        default=None,
        unit="share of the animal",
    )
    distance_from_centre: float | None = column(
        "Distance of the region's middle from the animal's (0) towards its edge (1), the animal being taken for an "
        "ellipse; null where the animal is not known, and off the animal of a mask.",
        default=None,
        unit="share of the way from the animal's middle to its edge",
    )
    position_along_axis: float | None = column(
        "Distance from the middle (0) of the animal's longest axis towards either end (1); null where the animal is "
        "not known or as wide as long, and off the animal of a mask.",
        default=None,
        unit="share of the way from the middle of the longest axis to its end",
    )
    """See `traits.animals`."""

    def with_scale(self, mm_per_pixel: float | None) -> Measurement:
        """The same with millimetres, where a scale is known."""
        if mm_per_pixel is None:
            return self
        return replace(self, length_mm=self.length_px * mm_per_pixel, width_mm=self.width_px * mm_per_pixel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What people made of a trait that they saw on a blind sheet."""

    verdict: Literal["accepted", "rejected", "disputed"] = column(
        "What most of the people said who looked at it on a blind sheet: accepted, rejected, or disputed where as many "
        "said the one as the other; null where nobody has looked.",
        name="reviewed",
    )
    score: float | None = column(
        "Mean of their scores, 1 (wrong) to 5 (all of it true), normalised by each one's own mean; null without one.",
        name="review_score",
    )
    n_raters: int = column("How many people they were; null where nobody has looked.")
    sheet: str = column("The sheet on which they saw it; null where nobody has looked.", name="review_sheet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One row of the released dataset: a candidate, where it is, what was said of it and what was measured."""

    trait_id: str = column("Image-trait pair, stable across re-releases.")
    """Made of the image and the candidate's name."""
    candidate: Candidate
    region: Region
    description: Description
    measurement: Measurement
    n_images: int = column("How many images the description was agreed on.", default=1)
    describer: str = column("Who described the region.")
    describer_model: str = column("Its model, as model@revision.")
    prompt: str = column("Version and hash of its prompt or rules.")
    reviewed: Reviewed | None = None
    """Set where the dataset is written; see `evaluation.review`."""
