"""Sentences of an annotated run: how many several species share, and whether the places that they say are right.

The place of a region on the estimated animal, as its sentence says it, is compared with the place of the same region on
the animal of the photograph's mask, over regions of images that have one.

    python benchmarks/quality_sentences.py RUN
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tables import markdown_table

from sae_traits.describers.measured import place_of
from sae_traits.evaluation.statistics import bootstrap_interval
from sae_traits.images.decode import open_mask
from sae_traits.runs.folder import RunFolder
from sae_traits.schema import Collection, Trait
from sae_traits.traits.animals import Animal, place_on_animal
from sae_traits.traits.shared_sentences import SentenceCounter
from sae_traits.traits.table import read_traits

THIRDS = {"centre": "centre", "most of the organism": "centre", "end": "edge", "side": "edge", "edge": "edge"}
"""Place -> how far out it is; the other places are halfway."""


def places_said(collection: Collection, traits: Iterable[Trait]) -> Iterator[tuple[str, str, str]]:
    """Yield the image, the place that is said, and the place by the mask of regions where both are known."""
    opened, animal = None, None
    for trait in traits:
        record, measured = collection.images[trait.candidate.image], trait.measurement
        said = {attribute.name: attribute.value for attribute in trait.description.attributes}.get("place")
        mask = collection.mask_path(record)
        if mask is None or said is None or measured.animal_source != "background":
            continue
        if opened != mask:
            opened, animal = mask, Animal.of(open_mask(mask))
        assert animal is not None
        true = place_on_animal(trait.region, animal)
        place = place_of(true.share_of_animal, true.distance_from_centre, true.position_along_axis)
        if place is not None:
            yield record.image_id, said, place


def agreement(places: list[tuple[str, str, str]]) -> list[list[str]]:
    """Rows of the table: all places, and thirds of the way out; beside always saying the commonest."""
    rows = []
    for name, of in (("place", str), ("third of the way out", lambda place: THIRDS.get(place, "halfway"))):
        pairs = [(of(said), of(true)) for _, said, true in places]
        right = bootstrap_interval([said == true for said, true in pairs], groups=[image for image, *_ in places])
        commonest = max(Counter(true for _, true in pairs).values(), default=0) / max(len(pairs), 1)
        rows.append([name, str(len(pairs)), str(right), f"{commonest:.3f}"])
    return rows


def main() -> None:
    """Print Markdown tables of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of an annotated run whose photographs have masks")
    folder = RunFolder(parser.parse_args().run)
    collection, traits = Collection.load(folder.images), list(read_traits(folder.traits))
    sentences = SentenceCounter()
    for trait in traits:
        sentences.add(trait.description.text, collection.images[trait.candidate.image].species)
    shared = sentences.count()
    share = f"{np.divide(shared.n_shared, shared.n_traits):.3f}"
    rows = [[str(shared.n_traits), share, str(shared.n_sentences)]]
    print(markdown_table(["sentences", "said of another species, too", "different"], rows))
    columns = ["", "regions", "as on the mask", "always the commonest"]
    print("\n" + markdown_table(columns, agreement(list(places_said(collection, traits)))))


if __name__ == "__main__":
    main()
