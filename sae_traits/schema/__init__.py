"""The nouns that travel between rooms. The released tables made of them are described in
`sae_traits.release.tables`.

Units: pixels are pixels of the upright source image; boxes are x, y, width, height; latents and patches are 0-based.
"""

from sae_traits.schema.images import BackboneInfo, Collection, ImageRecord, NearIdentical, Problem, Taxon
from sae_traits.schema.traits import (
    AnimalFrame,
    Attribute,
    Candidate,
    Caption,
    ChosenLatent,
    Contrast,
    Description,
    Measurement,
    Region,
    Reviewed,
    Trait,
)

__all__ = [
    "AnimalFrame",
    "Attribute",
    "BackboneInfo",
    "Candidate",
    "Caption",
    "ChosenLatent",
    "Collection",
    "Contrast",
    "Description",
    "ImageRecord",
    "Measurement",
    "NearIdentical",
    "Problem",
    "Region",
    "Reviewed",
    "Taxon",
    "Trait",
]
