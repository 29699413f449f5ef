"""What the report says of each species: counted over its images, with what most regions share."""

from pathlib import Path

from traits.made_traits import described, trait_of

from sae_traits.evaluation.species_traits import SPECIES_SHOWN, species_lines
from sae_traits.schema import Collection, ImageRecord, Taxon


def collection_of(*species):
    return Collection(
        Path(),
        tuple(
            ImageRecord(
                image_id=f"s{row}",
                file=f"{row}.png",
                taxon=Taxon(species=name),
                split="train",
                width=100,
                height=80,
                sha256="0" * 64,
            )
            for row, name in enumerate(species)
        ),
    )


def test_latents_of_most_images_come_first_with_what_most_regions_share():
    collection = collection_of("Aus bus", "Aus bus", "Aus bus", "Aus cus", None)
    traits = [
        trait_of(0, 7, described(part="wing", colour="red", pattern="plain")),
        trait_of(1, 7, described(part="wing", colour="red", pattern="banded")),
        trait_of(2, 7, described(part="leg", colour="black", pattern="spotted")),
        trait_of(0, 5, described(colour="grey")),
        trait_of(3, 9, described("<b>x</b>", colour="a|b")),
        trait_of(4, 9, described(colour="blue")),
    ]
    rows = [line for line in species_lines(collection, traits) if line.startswith(("| Aus", "| None"))]
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| Aus bus", "latent 7", "3 of 3", "colour red (67%), part wing (67%)"],
        ["| Aus bus", "latent 5", "1 of 3", "colour grey (100%)"],
        ["| Aus cus", "latent 9", "1 of 1", "colour a&#124;b (100%)"],
    ]


def test_many_species_are_cut_off_and_counted_and_none_is_said():
    names = [f"Aus b{number:03d}" for number in range(SPECIES_SHOWN + 1)]
    traits = [trait_of(row, 1, described(colour="red")) for row in range(len(names))]
    lines = species_lines(collection_of(*names), traits)
    assert sum(line.startswith("| Aus") for line in lines) == SPECIES_SHOWN
    assert f"The first {SPECIES_SHOWN} of {SPECIES_SHOWN + 1} species." in lines
    assert species_lines(collection_of(None), [trait_of(0, 1, described())]) == ["No image has a species."]
