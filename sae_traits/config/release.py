"""The section `release`: what the published dataset looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sae_traits.config.options import check_at_least, option


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """What the published dataset looks like."""

    title: str = option("Image traits", "Title of the dataset card.", metavar="TEXT")
    longest_side: int = option(
        512, "Shrink the images in the dataset to at most this many pixels on their longest side."
    )
    images: Literal["embed", "reference"] = option(
        "embed",
        "embed: the dataset holds the images; reference: it says where they came from, for images that may not be "
        "passed on (`sae-traits rehydrate` puts them in).",
    )
    sae_license: str | None = option(
        None, "Licence of the SAE for its card, as the Hub names it (mit, cc-by-4.0), or an address.", metavar="LICENCE"
    )
    shard_megabytes: int = option(64, "Size of a Parquet file of the dataset, about.")

    def __post_init__(self) -> None:
        check_at_least(32, self, "longest_side")
        check_at_least(1, self, "shard_megabytes")
