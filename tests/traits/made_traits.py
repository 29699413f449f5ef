"""Traits and images made up for tests of what is said of traits."""

from pathlib import Path

import numpy as np
from describer_server.many import CONTRAST
from scipy.sparse import csr_array

from sae_traits.schema import (
    Attribute,
    Candidate,
    Collection,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Taxon,
    Trait,
)

WIDTH, HEIGHT = 100, 80
MEASUREMENT = Measurement(
    length_px=9.0, width_px=3.0, elongation=3.0, texture_contrast=1.0, color_lab=(50.0, 0.0, 0.0), color_name="grey"
)


def described(text="A part.", *, part=None, **attributes):
    """A description; attributes by their names, several values of one as a tuple."""
    pairs = [(n, v) for n, values in attributes.items() for v in ([values] if isinstance(values, str) else values)]
    return Description(text=text, part=part, attributes=tuple(Attribute(n, v) for n, v in pairs))


def box_region(x, y, width, height, size=(WIDTH, HEIGHT)):
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    share = width * height / (size[0] * size[1])
    return Region(box=(x, y, width, height), polygons=(ring,), patches=(0,), area_fraction=share)


def trait_of(row, latent, description, *, region=None, n_images=1, describer=("scripted", "none@1", "v1")):
    name, model, prompt = describer
    return Trait(
        trait_id=f"s{row}-{latent}",
        candidate=Candidate(image=row, latent=latent, patches=(0,), peak=2.0, contrast=CONTRAST),
        region=region or box_region(10.0, 10.0, 20.0, 20.0),
        description=description,
        measurement=MEASUREMENT,
        n_images=n_images,
        describer=name,
        describer_model=model,
        prompt=prompt,
    )


def record_of(row, species="Heliconius erato", split="train", size=(WIDTH, HEIGHT)):
    taxon = Taxon(genus=species.split()[0], species=species)
    return ImageRecord(
        image_id=f"s{row}", file=f"{row}.png", taxon=taxon, split=split, width=size[0], height=size[1],
        sha256=f"{row:064x}",
    )  # fmt: skip


def firings_of_all(counts):
    """A part with all images of a collection, given the patches at which each latent fired in each."""
    return np.arange(counts.shape[0]), csr_array(counts)


def collection_of(species, root=Path("/photographs")):
    """An image for each species name."""
    return Collection(root, tuple(record_of(row, name) for row, name in enumerate(species)))
