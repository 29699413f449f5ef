"""Colours are withheld where a latent's training individuals do not agree on one, and only there."""

import dataclasses

import pytest
from traits.made_traits import described, record_of, trait_of

from sae_traits.traits.withheld import ColourVotes


def groups_of(*said, split="train"):
    """Which latents are contradictory, of (individual, latent, colours) in the order of the images."""
    votes = ColourVotes()
    for row, (individual, latent, colour) in enumerate(said):
        record = dataclasses.replace(record_of(row, split=split), individual_id=individual)
        votes.add(record.species, trait_of(row, latent, described(colour=colour) if colour else described()), record)
    return votes.contradictory()


@pytest.mark.parametrize(
    ("colours", "is_withheld"),
    [
        (("red", "blue", "green"), True),
        (("red", "blue"), False),  # half of them
        (("red", "dark red", "blue", "green"), False),  # shades of one colour agree
        (("red", "blue", "blue and red", "green"), False),
        (("red", "red", "blue", "green", "white"), True),
        (("teal", "mauve", "puce"), False),  # words that exclude none
        ((None, None, "red"), False),
    ],
)
def test_a_colour_is_withheld_where_none_is_said_of_half_of_the_individuals(colours, is_withheld):
    said = [(str(n), 7, colour) for n, colour in enumerate(colours)]
    assert groups_of(*said) == ({("Heliconius erato", 7)} if is_withheld else frozenset())


def test_each_latent_is_judged_by_itself_an_individual_counts_once_and_held_out_ones_never():
    three = [("a", 7, "red"), ("b", 7, "blue"), ("c", 7, "green")]
    assert groups_of(*three, *((str(n), 8, "red") for n in range(3))) == {("Heliconius erato", 7)}
    assert groups_of(*three, *[("c", 7, "red")] * 5) == {("Heliconius erato", 7)}
    assert groups_of(*three, split="test") == frozenset()
