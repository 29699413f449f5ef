"""A word tells a species from its relatives where it is said of at least twice as large a share of its individuals."""

import pytest

from sae_traits.evaluation.species_tallies import SharedAttribute, Tally
from sae_traits.evaluation.telling_words import SaidOfSpecies

RED = SharedAttribute(name="colour", value="red", share=1.0)


def species(n_training, n_red, n_held_out=0, n_red_held_out=0, name="s"):
    """Tallies of a species of which some individuals are red, the others blue; and its held-out individuals."""
    training, held_out = (
        [f"{name}-{split}{i}" for i in range(n)] for split, n in (("train", n_training), ("test", n_held_out))
    )
    red = {*training[:n_red], *held_out[:n_red_held_out]}
    tally = Tally(None, {*training, *held_out}, set(held_out))
    tally.values["colour"]["red"] |= red
    tally.values["colour"]["blue"] |= tally.individuals - red
    return {"7": tally}, set(held_out)


def marked(own, *relatives, n_individuals=10, shared=RED):
    """Whether red tells the species from relatives, and its share in them."""
    all_of = {"own": own} | {f"relative {number}": one for number, one in enumerate(relatives)}
    said = SaidOfSpecies({name: one[0] for name, one in all_of.items()}, {name: one[1] for name, one in all_of.items()})
    (found,) = said.beside("own", list(all_of)[1:]).mark([shared], n_individuals)
    assert (found.name, found.value, found.share) == ("colour", "red", shared.share)
    return found.is_telling, found.share_of_relatives


@pytest.mark.parametrize(("n_red", "is_telling"), [(0, True), (4, True), (5, False), (10, False)])
def test_twice_as_large_a_share_tells(n_red, is_telling):
    assert marked(species(10, 8), species(10, n_red)) == (is_telling, n_red / 10)


def test_what_is_rare_in_the_species_does_not_tell_it_however_common_at_a_latent():
    """All of those with a region of the latent are red, and they are two of ten."""
    assert marked(species(10, 2), species(10, 5)) == (False, 0.5)


@pytest.mark.parametrize(("share", "is_telling"), [(0.5, False), (0.6, True)])
def test_what_is_rare_at_the_latent_does_not_tell_there_however_common_in_the_species(share, is_telling):
    shared = SharedAttribute(name="colour", value="red", share=share)
    assert marked(species(10, 10), species(10, 3), shared=shared) == (is_telling, 0.3)


@pytest.mark.parametrize(("n_individuals", "is_telling"), [(4, False), (5, True)])
def test_of_few_individuals_with_a_region_nothing_tells(n_individuals, is_telling):
    assert marked(species(10, 10), species(10, 0), n_individuals=n_individuals) == (is_telling, 0.0)


@pytest.mark.parametrize(
    ("own", "relative", "is_telling"),
    [
        ((6, 6, 4, 4), (6, 0, 4, 2), True),
        ((6, 6, 4, 4), (6, 0, 4, 3), False),
        ((6, 6, 4, 4), (6, 4, 4, 0), False),
        ((6, 6, 4, 0), (6, 0, 4, 0), False),
        ((6, 0, 4, 4), (6, 0, 4, 0), False),
        ((6, 6, 0, 0), (6, 0, 4, 4), True),
        ((6, 6, 4, 0), (6, 0, 0, 0), True),
        ((0, 0, 4, 4), (6, 0, 0, 0), False),
    ],
)
def test_training_and_held_out_individuals_must_both_bear_it_out_where_both_species_have_some(
    own, relative, is_telling
):
    """Numbers of training individuals, red ones of them, held-out ones, and red ones of them."""
    assert marked(species(*own), species(*relative, name="r"))[0] is is_telling


def test_each_of_three_relatives_must_lack_it_and_four_do_so_together():
    red, blue = species(10, 6), species(10, 0)
    assert marked(species(10, 10), blue, red, blue) == (False, 0.6)
    assert marked(species(10, 10), blue, red, blue, blue) == (True, 0.15)


def test_the_share_is_that_of_the_relative_with_most_of_both_splits():
    assert marked(species(10, 10), species(4, 0, 4, 2), species(10, 1)) == (True, 0.25)


def test_without_a_relative_that_was_described_nothing_tells():
    assert marked(species(10, 10)) == (False, None)


def test_individuals_count_once_over_latents_and_as_held_out_if_any_image_is():
    """One latent has the training image of an individual, whose other image is held out."""
    one, two = Tally(None, {"a", "b"}, set()), Tally(None, {"a", "c"}, {"a"})
    one.values["colour"]["red"] |= {"a", "b"}
    two.values["colour"]["red"] |= {"a", "c"}
    said = SaidOfSpecies({"own": {"1": one, "2": two}}, {"own": {"a"}})
    training, held_out = said.beside("own", ()).own
    assert (training.n, training.counts) == (2, {("colour", "red"): 2})
    assert (held_out.n, held_out.counts) == (1, {("colour", "red"): 1})
