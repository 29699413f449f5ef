"""How places that are said are compared with those by masks."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from traits.made_traits import HEIGHT, WIDTH, box_region, collection_of, described, trait_of

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from quality_sentences import agreement, places_said


def test_the_place_that_is_said_is_compared_with_that_on_the_mask(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[30:50, 10:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    collection = collection_of(["Aus bus"] * 3, root=tmp_path)
    images = [dataclasses.replace(record, mask_file="mask.png") for record in collection.images[:2]]
    collection = dataclasses.replace(collection, images=(*images, collection.images[2]))

    def said(row, place, x, source="background"):
        trait = trait_of(row, 7, described(place=place), region=box_region(x, 35.0, 8.0, 8.0))
        return dataclasses.replace(trait, measurement=dataclasses.replace(trait.measurement, animal_source=source))

    traits = [said(0, "centre", 46.0), said(1, "end", 80.0), said(1, "halfway to an end", 80.0), said(2, "end", 80.0)]
    places = list(places_said(collection, [*traits, said(0, "centre", 46.0, "mask")]))
    assert [pair[1:] for pair in places] == [("centre", "centre"), ("end", "end"), ("halfway to an end", "end")]
    exact, thirds = agreement(places)
    assert exact[1] == thirds[1] == "3"
    assert exact[2].startswith("0.667")
    assert exact[3] == "0.667"
