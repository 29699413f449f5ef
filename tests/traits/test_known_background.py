"""What is known of backgrounds is said in one way, whoever says it."""

from dataclasses import replace

from sae_traits.traits.chosen import MAX_BACKGROUND
from sae_traits.traits.known_background import KnownBackground

KNOWN = KnownBackground(
    is_known=True,
    how="Edges and middles were told apart with an AUC of 0.91.",
    separation=0.91,
    n_latents=1460,
    n_left_out=1079,
    mean_by_species={"Aus bus": 0.12, "Cus dus": 0.3, "Eus fus": 0.2, "Gus hus": 0.05},
)


def test_how_it_is_known_what_was_left_out_and_where_most_of_it_is_are_said():
    assert KNOWN.sentences("regions.png") == [
        "Edges and middles were told apart with an AUC of 0.91.",
        "Latents left out because they fire on background: 1,079 of 1,460.",
        "Mean probability that the regions of a species show background: highest in Cus dus (0.30), Eus fus (0.20), "
        "Aus bus (0.12).",
    ]
    assert KNOWN.warnings == []


def test_where_it_is_not_known_nothing_was_left_out_and_pictures_are_to_be_looked_at():
    unknown = KnownBackground(is_known=False, how="Background is not known: nobody looked.", n_latents=9)
    assert unknown.sentences("the pictures") == [
        "Background is not known: nobody looked.",
        "So no latent and no region was left out for it, and regions may lie on it.",
        "Look at the pictures before you believe them.",
    ]
    assert unknown.warnings == []


def test_species_above_the_limit_are_warned_about_and_those_on_it_are_not():
    means = {"Aus bus": MAX_BACKGROUND, "Cus dus": MAX_BACKGROUND + 0.01}
    assert replace(KNOWN, mean_by_species=means).warnings == [
        "Probably background, do not believe their traits: Cus dus (0.51)."
    ]


def test_species_that_lost_all_to_the_background_are_named_and_of_many_the_first():
    lost = replace(KNOWN, mean_by_species={}, only_on_background={f"Aus {i}": i for i in range(1, 15)})
    said = lost.sentences("")[-1]
    assert said.startswith("Species that latents on background alone tell from relatives (how many do): Aus 1 (1), ")
    assert said.endswith("Aus 12 (12) and 2 more.")
