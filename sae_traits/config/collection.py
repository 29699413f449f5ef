"""The section `collection`: which images, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sae_traits.config.options import check, check_connections, option


@dataclass(frozen=True, kw_only=True)
class CollectionConfig:
    """Which images, and how they are split."""

    source: str | None = option(
        None,
        "Image folder (Genus_species/…), table (CSV or Parquet), folder of BIOSCAN-5M, Darwin Core archive, or "
        "hf://datasets/ORG/NAME[@REVISION].",
        metavar="SOURCE",
        is_path=True,
    )
    family: str | None = option(None, "Only images of this family.", metavar="NAME")
    split: tuple[str, ...] = option(
        (), "Only these splits of the source, by its own names, such as train,val.", metavar="NAME,…"
    )
    per_species: int | None = option(None, "At most this many individuals per species, drawn with --split-seed.")
    validation_share: float = option(0.1, "Share of each species' individuals for validation, where no split is given.")
    test_share: float = option(0.2, "Share of each species' individuals for testing, where no split is given.")
    split_seed: int = option(0, "Seed of the split, and of the individuals that --per-species draws.")
    near_identical: Literal["keep", "train"] = option(
        "keep",
        "Near-identical images in different splits of the source: keep: leave the splits as they are, and report the "
        "images; train: move the images to train.",
    )
    image_package: Literal["original_full", "cropped", "original_256", "cropped_256"] = option(
        "cropped_256", "For BIOSCAN-5M: which of its packages of images."
    )
    source_config: str | None = option(None, "For a dataset on the Hub: which of its configurations.", metavar="NAME")
    species_column: str | None = option(
        None, "For a dataset on the Hub: the column with the species, where its name does not say so.", metavar="COLUMN"
    )
    image_column: str | None = option(
        None, "For a dataset on the Hub: the column with the image, where there are several.", metavar="COLUMN"
    )
    image_cache: str | None = option(
        None,
        "Folder that keeps images fetched for a Hub dataset or a Darwin Core archive; by default in the Hugging Face "
        "cache.",
        metavar="FOLDER",
        is_made=True,
        is_local=True,
    )
    connections: int = option(8, "For a Darwin Core archive: images fetched at the same time.", is_local=True)
    allow_private_addresses: bool = option(
        False,
        "For a Darwin Core archive: fetch images also from this machine and from private networks.",
        is_local=True,
    )
    species_codes: bool = option(
        False,
        "Take labels that are codes (morphospecies such as `Viola v01`, BINs such as BOLD:AAB1234) for species, as "
        "they are written; their family and other ranks come from columns.",
    )
    labels: bool = option(
        True, "Whether the source names the species; photographs without names are for `sae-traits predict`."
    )

    @property
    def path(self) -> Path:
        """The source on this machine."""
        return Path(self.source or "").expanduser().absolute()

    def __post_init__(self) -> None:
        shares = self.validation_share, self.test_share
        check(
            min(shares) >= 0 and sum(shares) < 1,
            "validation_share and test_share must be 0 or more, together < 1, not {} and {}".format(*shares),
        )
        check(self.per_species is None or self.per_species >= 1, f"per_species must be 1 or more: {self.per_species}")
        for name in ("per_species", "species_column", "near_identical", "species_codes"):
            given = getattr(self, name) not in (None, "keep", False)
            check(self.labels or not given, f"{name} needs labels, and these photographs have none; leave it out")
        check_connections(self.connections)
