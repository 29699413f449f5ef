"""How often latents fire: counted in individuals, apart for those that were learnt from and those held out."""

import dataclasses
from types import SimpleNamespace

import numpy as np
from traits.made_traits import collection_of, firings_of_all

from sae_traits.schema import ChosenLatent, Contrast
from sae_traits.traits.firing_shares import Share, firing_shares, with_held_out_shares

SPECIES = ["Aus bus", "Aus bus", "Aus bus", "Aus cus", "Aus dus", "Xus yus"]
SPLITS = ("train", "train", "test", "train", "validation", "train")
FIRED = ([1, 0], [1, 3], [0, 1], [0, 2], [1, 0], [1, 0])  # patches of each image at which two latents fired


def shares_of(individuals=("a", "b", "c", "d", "e", "f")):
    collection = collection_of(SPECIES)
    images = [
        dataclasses.replace(record, split=split, individual_id=individual)
        for record, split, individual in zip(collection.images, SPLITS, individuals, strict=True)
    ]
    codes = SimpleNamespace(n_latents=2, firing_counts=lambda: iter([firings_of_all(np.array(FIRED))]))
    return firing_shares(codes, dataclasses.replace(collection, images=tuple(images)))  # pyright: ignore


def test_training_and_held_out_individuals_are_counted_apart():
    shares = shares_of()
    assert shares.of_species(0, "Aus bus", held_out=False) == Share(2, 2)
    assert shares.of_species(1, "Aus bus", held_out=False) == Share(1, 2)
    assert shares.of_species(0, "Aus bus", held_out=True) == Share(0, 1)
    assert shares.of_species(0, "Xus yus", held_out=True) == Share(0, 0)
    assert str(shares.of_species(1, "Aus bus", held_out=False)) == "50 % (1 of 2)"
    assert (str(Share(0, 0)), Share(0, 0).value) == ("none", None)


def test_an_individual_counts_once():
    assert shares_of(("a", "a", "c", "d", "e", "f")).of_species(1, "Aus bus", held_out=False) == Share(1, 1)


def test_relatives_are_the_rest_of_the_group_of_a_rank():
    shares = shares_of()
    assert shares.relatives("Aus bus", "genus") == ("Aus cus",)  # of Aus dus nothing was learnt
    assert shares.relatives("Aus bus", "collection") == ("Aus cus", "Xus yus")
    assert shares.of_relatives(1, "Aus cus", "genus") == shares.of_relatives(1, "Xus yus", "collection") == Share(1, 1)
    assert shares.of_relatives(0, "Aus cus", "genus") == Share(0, 1)
    assert shares.of_relatives(0, "Xus yus", "genus") == shares.of_relatives(0, "Zus zus", "genus") == Share(0, 0)
    assert shares.relatives("Zus zus", "genus") == ()


def test_latents_get_the_shares_of_held_out_individuals_where_there_are_any():
    contrast = Contrast(
        f_species=1.0, f_reference=0.0, effect=2.0, q_value=0.01, significant=True, reference_rank="genus"
    )
    one = ChosenLatent(species="Aus bus", latent=1, threshold=0.5, contrast=contrast, n_fired=2, n_individuals=2)
    unseen = dataclasses.replace(one, species="Xus yus")
    assert one.held_out is None
    of_species, of_unseen = with_held_out_shares([one, unseen], shares_of())
    assert of_species.held_out == (1.0, None), "of the relative, Aus cus, none was held out"
    assert of_unseen == unseen
