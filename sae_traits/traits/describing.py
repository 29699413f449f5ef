"""What a worker process does: open one specimen's image, measure its regions and have them described.

Kept apart from the rest of the room so that a worker imports no torch.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sae_traits.collections.images import open_image
from sae_traits.errors import ImageError
from sae_traits.schema import Region
from sae_traits.traits.describers import Describer
from sae_traits.traits.ledger import LedgerEntry
from sae_traits.traits.measure import measure


@dataclass(frozen=True)
class Call:
    """One region to describe."""

    key: str
    trait_id: str
    region: Region


@dataclass(frozen=True)
class SpecimenCalls:
    """The regions of one specimen, so that its image is opened once."""

    image: Path
    mm_per_pixel: float | None
    calls: tuple[Call, ...]


def describe_specimen(describer: Describer, specimen: SpecimenCalls) -> list[LedgerEntry]:
    """Describe the regions of one specimen; an image that cannot be read is a failed call, not a stop."""
    try:
        pixels = np.asarray(open_image(specimen.image))
    except ImageError as error:
        return [
            LedgerEntry(
                key=call.key,
                trait_id=call.trait_id,
                describer=describer.name,
                model=describer.model,
                prompt=describer.prompt,
                state="failed",
                raw="",
                error=f"{specimen.image}: {error}",
            )
            for call in specimen.calls
        ]
    entries = []
    for call in specimen.calls:
        started = time.perf_counter()
        measurement = measure(pixels, call.region, specimen.mm_per_pixel)
        answer = describer.describe(pixels, call.region, measurement)
        entries.append(
            LedgerEntry(
                key=call.key,
                trait_id=call.trait_id,
                describer=describer.name,
                model=describer.model,
                prompt=describer.prompt,
                state="invalid" if answer.description is None else "ok",
                raw=answer.raw,
                description=None if answer.description is None else asdict(answer.description),
                measurement=asdict(measurement),
                usage=answer.usage,
                seconds=time.perf_counter() - started,
                error=answer.error,
            )
        )
    return entries
