"""What the report says of each species: counted over its individuals, with what most of them share."""

import dataclasses

from evaluation.made_results import made_evidence, section
from traits.made_traits import collection_of, described, trait_of

from sae_traits.evaluation.tasks.species_traits import MAX_SPECIES, SpeciesTraits
from sae_traits.schema import Taxon


def rows_of(collection, traits):
    """The rows of the table in the report, each as its first four cells."""
    lines = section(SpeciesTraits(), made_evidence(collection, traits)).splitlines()
    return [line.strip("| ").split(" | ")[:4] for line in lines if line.startswith("| ")][2:]


def test_latents_of_most_individuals_come_first_with_what_most_of_them_share():
    collection = collection_of(["Aus bus", "Aus bus", "Aus bus", "Aus cus", "Aus"])
    nameless = dataclasses.replace(collection.images[4], taxon=Taxon())
    collection = dataclasses.replace(collection, images=(*collection.images[:4], nameless))
    traits = [
        trait_of(0, 7, described(part="wing", colour="red", pattern="plain")),
        trait_of(1, 7, described(part="wing", colour="red", pattern="banded")),
        trait_of(2, 7, described(part="leg", colour="black", pattern="spotted")),
        trait_of(0, 5, described(colour="grey")),
        trait_of(3, 9, described("<b>x</b>", colour="a|b")),
        trait_of(4, 9, described(colour="blue")),
    ]
    assert rows_of(collection, traits) == [
        ["Aus bus", "latent 7", "3 of 3", "colour red (67%), part wing (67%)"],
        ["Aus bus", "latent 5", "1 of 3", "colour grey (100%)"],
        ["Aus cus", "latent 9", "1 of 1", "colour a&#124;b (100%)"],
    ]


def test_images_of_an_individual_count_once():
    collection = collection_of(["Aus bus"] * 4)
    individuals = ("beetle", "beetle", "beetle", "another")
    images = tuple(
        dataclasses.replace(record, individual_id=name)
        for record, name in zip(collection.images, individuals, strict=True)
    )
    traits = [trait_of(row, 7, described(colour="red" if row < 3 else "blue")) for row in range(4)]
    traits += [trait_of(row, 5, described(colour="red")) for row in range(3)]
    assert rows_of(dataclasses.replace(collection, images=images), traits) == [
        ["Aus bus", "latent 7", "2 of 2", "colour blue (50%)"],
        ["Aus bus", "latent 5", "1 of 2", "colour red (100%)"],
    ]


def test_many_species_are_cut_off_and_counted_and_none_is_said():
    names = [f"Aus b{number:03d}" for number in range(MAX_SPECIES + 1)]
    traits = [trait_of(row, 1, described(colour="red")) for row in range(len(names))]
    collection = collection_of(names)
    assert len(rows_of(collection, traits)) == MAX_SPECIES
    assert f"The first {MAX_SPECIES} of {MAX_SPECIES + 1} species." in section(
        SpeciesTraits(), made_evidence(collection, traits)
    )
    assert "No image with a trait has a species." in section(SpeciesTraits(), made_evidence(collection, []))
