from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_traits.config.regions import SAERegions, SpecimenContrast
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo, ChosenLatent, Contrast
from sae_traits.traits.candidates import evidence, image_candidates, organism_odds
from sae_traits.traits.codes import ImageCodes

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
GRID = INFO.grid((400, 300))


def chosen(*effects):
    """Latent i was chosen with the i-th effect; None was not chosen. Thresholds are 1, 2, 3 …"""
    return {
        latent: ChosenLatent(
            species="Gen a", latent=latent, threshold=latent + 1.0, n_fired=9, n_individuals=10,
            contrast=Contrast(
                f_species=0.9, f_reference=0.1, effect=effect, q_value=0.01, significant=True, reference_rank="genus"
            ),
        )
        for latent, effect in enumerate(effects)
        if effect is not None
    }  # fmt: skip


def codes(**fired):
    """Codes of one image: z0={patch: value, …}."""
    rows = [(int(name[1:]), patch, value) for name, where in fired.items() for patch, value in sorted(where.items())]
    latents, patches, values = zip(*sorted(rows), strict=True)
    return ImageCodes(7, np.array(latents, np.int32), np.array(patches, np.int32), np.array(values, np.float32))


def pick(found, choice, min_evidence=0.0, **options):
    regions = SAERegions(contrast=SpecimenContrast(min_evidence=min_evidence), **options)
    return image_candidates(found, choice, GRID, regions)


def test_candidates_are_ranked_by_effect_times_strength():
    found = codes(z0={0: 2.0}, z1={3: 6.0}, z2={12: 3.3})
    ranked = pick(found, chosen(1.0, 1.0, 4.0))
    # strengths are peak / threshold, times 1 for a single patch: 2, 3 and 1.1; scores 2, 3 and 4.4
    assert [candidate.latent for candidate, _ in ranked] == [2, 1, 0]
    assert [candidate.peak for candidate, _ in ranked] == pytest.approx([3.3, 6.0, 2.0])
    assert {candidate.image for candidate, _ in ranked} == {7}


def test_a_larger_region_is_stronger_by_the_square_root_of_its_patches():
    found = codes(z0={0: 4.5}, z1={10: 4.2, 11: 4.2, 14: 4.2, 15: 4.2})
    # 4.5 / 1 against 4.2 / 2 * sqrt(4) = 4.2: one patch more on the second would turn the order
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0))] == [0, 1]
    found = codes(z0={0: 4.5}, z1={9: 4.2, 10: 4.2, 11: 4.2, 14: 4.2, 15: 4.2})
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0))] == [1, 0]


def test_latents_that_were_not_chosen_for_the_species_are_left_out():
    ranked = pick(codes(z0={0: 2.0}, z1={3: 6.0}), chosen(None, 1.0))
    assert [candidate.latent for candidate, _ in ranked] == [1]
    assert pick(codes(z0={0: 2.0}), {}) == []


def test_a_region_inside_stronger_ones_is_left_out_even_if_it_is_in_none_of_them_alone():
    found = codes(z0={0: 9.0, 1: 9.0}, z1={2: 18.0, 3: 18.0}, z2={1: 6.0, 2: 6.0})
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0, 1.0))] == [0, 1]
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0, 1.0), max_overlap=1)] == [0, 1, 2]


def test_of_overlapping_regions_the_strongest_stays():
    found = codes(z0={0: 2.0, 1: 2.0, 2: 2.0}, z1={0: 9.0, 1: 9.0}, z2={12: 4.0})
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0, 1.0))] == [1, 2]
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0, 1.0), max_overlap=0.7)] == [1, 0, 2]


def test_at_most_so_many_and_only_the_strongest_component_of_each():
    found = codes(z0={0: 5.0, 15: 1.5, 14: 1.5}, z1={3: 6.0}, z2={12: 4.0})
    (first, region), *rest = pick(found, chosen(3.0, 1.0, 1.0), traits_per_image=2)
    assert first.latent == 0
    assert first.patches == region.patches == (0,)
    assert region.box == (0.0, 0.0, 100.0, 75.0)
    assert len(rest) == 1


def test_evidence_adds_up_what_the_latents_say_at_each_patch():
    found = codes(z0={0: 2.0, 1: 3.0}, z1={1: 5.0})
    own = [(choice, *found_at(found, latent)) for latent, choice in chosen(1.5, 2.0).items()]
    # effect x activation / threshold: 1.5 x 2 / 1; 1.5 x 3 / 1 + 2 x 5 / 2
    assert evidence(own, 16)[:3].tolist() == [3.0, 9.5, 0.0]


def found_at(found, latent):
    return next((patches, values) for z, patches, values in found.groups() if z == latent)


def test_a_region_keeps_only_the_patches_where_the_latents_agree():
    # Patch 5 is where three latents fire; patch 6 beside it has one of them, patch 15 another alone.
    found = codes(z0={5: 2.0, 6: 2.0}, z1={5: 4.0}, z2={5: 6.0, 15: 9.0})
    regions = {c.latent: c.patches for c, _ in pick(found, chosen(1.0, 1.0, 1.0), max_overlap=1, min_evidence=0.6)}
    assert regions == {0: (5,), 1: (5,), 2: (5,)}
    assert pick(found, chosen(1.0, 1.0, 1.0), max_overlap=1)[0][0].patches == (15,)


def test_a_latent_that_fires_only_where_no_other_agrees_is_no_candidate():
    found = codes(z0={5: 2.0}, z1={5: 4.0}, z2={15: 3.3})
    assert [c.latent for c, _ in pick(found, chosen(1.0, 1.0, 1.0), max_overlap=1, min_evidence=0.6)] == [0, 1]
    assert pick(found, {}, min_evidence=0.6) == []


def test_specks_are_no_regions_but_leave_their_latent_its_larger_group():
    found = codes(z0={0: 9.0, 10: 2.0, 11: 2.0}, z1={3: 6.0})
    assert [c.patches for c, _ in pick(found, chosen(1.0, 1.0))] == [(0,), (3,)]
    assert [c.patches for c, _ in pick(found, chosen(1.0, 1.0), min_patches=2)] == [(10, 11)]
    assert pick(found, chosen(1.0, 1.0), min_patches=3) == []


def test_a_margin_is_around_the_box_alone():
    ((candidate, region),) = pick(codes(z0={5: 2.0}), chosen(1.0), box_margin=0.5)
    assert region.box == (50.0, 25.0, 200.0, 175.0)
    assert candidate.patches == region.patches == (5,)
    assert region.area_fraction == pytest.approx(1 / 16)


def test_a_patch_on_background_counts_for_less_and_a_region_says_how_much_of_it_is():
    found = codes(z0={0: 4.0, 1: 3.0}, z1={10: 8.0})
    assert [candidate.background for candidate, _ in pick(found, chosen(1.0, 1.0))] == [None, None]
    background = np.full(16, 0.1, np.float32)
    background[[1, 10]] = 0.7, np.nan
    known = replace(found, background=background)
    by_latent = {candidate.latent: candidate for candidate, _ in pick(known, chosen(1.0, 1.0), min_evidence=0.5)}
    assert by_latent[0].patches == (0,)  # patch 1 has 3 x 0.3 of the evidence, less than half of 4 x 0.9
    assert by_latent[0].background == pytest.approx(0.1)
    assert by_latent[1].patches == (10,)
    assert by_latent[1].background is None
    both = {candidate.latent: candidate for candidate, _ in pick(known, chosen(1.0, 1.0))}
    assert both[0].background == pytest.approx(0.4)


def test_a_region_that_is_background_with_its_latent_is_left_out_for_one_that_is_not():
    found = replace(codes(z0={0: 9.0}, z1={0: 8.0}, z2={5: 9.0}), background=np.full(16, 0.6, np.float32))
    latents = chosen(1.0, 1.0, 1.0)
    backgrounds = {0: 0.3, 1: 0.2, 2: None}
    latents = {latent: replace(choice, background=backgrounds[latent]) for latent, choice in latents.items()}
    # 0.45 and 0.6 are too much, 0.4 is not; latent 1 would else lie in the region of latent 0
    assert [candidate.latent for candidate, _ in pick(found, latents)] == [1]
    assert [candidate.latent for candidate, _ in pick(replace(found, background=None), latents)] == [0, 2]


def known(found, **probabilities):
    """The same codes of an image of which a model of the organism says how probably each patch is background."""
    background = np.full(16, 0.9, np.float32)
    for patch, value in probabilities.items():
        background[int(patch[1:])] = value
    return replace(found, background=background, knows_organism=True)


def test_where_the_organism_is_known_a_region_keeps_the_patches_that_most_surely_show_it():
    found = known(codes(z0={4: 2.0, 5: 9.0, 6: 2.0, 7: 2.0}), p4=0.01, p5=0.2, p6=0.05, p7=0.4)
    # log odds 3.5 at most, 1.4, 2.9 and 0.4, of which at least 0.6 x 3.5 = 2.1 is asked, however strongly it fires
    [(candidate, _)] = pick(found, chosen(1.0), min_evidence=0.6, background="auto")
    assert candidate.patches == (4,), "6 is as active, and no neighbour"
    both = known(codes(z0={5: 2.0, 6: 2.0, 9: 2.0}), p5=0.001, p6=0.11, p9=0.12)  # log odds 2.09 and 1.99
    assert pick(both, chosen(1.0), min_evidence=0.6)[0][0].patches == (5, 6)
    assert pick(both, chosen(1.0), min_evidence=0.57)[0][0].patches == (5, 6, 9)


def test_a_photograph_in_which_nothing_looks_like_the_organism_has_no_region_unless_all_patches_are_kept():
    found = known(codes(z0={5: 2.0}), p5=0.5)
    latents = {0: replace(chosen(1.0)[0], background=0.1)}  # on average with the region's below the limit
    assert pick(found, latents, min_evidence=0.6) == []
    [(candidate, _)] = pick(found, latents, min_evidence=0.0)
    assert candidate.patches == (5,)


def test_a_region_says_how_surely_each_patch_of_its_photograph_shows_the_organism():
    background = {"p5": 0.001, "p6": 0.11, "p9": 0.3, "p10": 0.2, "p0": float("nan")}
    found = known(codes(z0={5: 2.0}), **background)
    [(_, region)] = pick(found, chosen(1.0))
    odds = {5: np.log(97 / 3), 6: np.log(0.89 / 0.11), 9: np.log(0.7 / 0.3), 10: np.log(0.8 / 0.2)}
    surely = {patch: value for patch, value in enumerate(region.organism) if value}
    assert surely == {patch: round(255 * value / np.log(97 / 3)) for patch, value in odds.items()}
    [(_, region)] = pick(replace(found, knows_organism=False), chosen(1.0))
    # Of edges, or of a mask, it is the probability, and a photograph's surest patch may be unsure.
    expected = {0: 0, 1: 0.1, 5: 0.999, 6: 0.89, 9: 0.7}
    assert {patch: region.organism[patch] for patch in expected} == {
        patch: round(255 * share) for patch, share in expected.items()
    }


def test_a_region_off_the_organism_knows_nothing_of_it():
    found = known(codes(z0={15: 2.0}), p0=0.001, p1=0.001, p4=0.001, p5=0.001, p15=0.52)
    latents = {0: replace(chosen(1.0)[0], background=0.1)}
    [(_, region)] = pick(found, latents)
    assert (region.animal, region.organism) == (None, None)
    [(_, region)] = pick(codes(z0={5: 2.0}), chosen(1.0))
    assert region.organism is None, "nothing is known"


@given(st.lists(st.floats(0, 1), min_size=16, max_size=16), st.floats(0.05, 1))
def test_no_patch_of_a_region_is_less_surely_organism_than_the_share_says(probabilities, share):
    background = np.array(probabilities, np.float32)
    found = replace(codes(z0=dict.fromkeys(range(16), 2.0)), background=background, knows_organism=True)
    odds = organism_odds(found, 16)
    assert (odds == 0).tolist() == (background >= 0.5).tolist()
    for candidate, _ in pick(found, chosen(1.0), min_evidence=share):
        assert odds[list(candidate.patches)].min() >= share * odds.max()


def test_from_a_probability_of_97_percent_on_patches_are_as_sure_and_unknown_ones_show_nothing():
    found = known(codes(z0={0: 2.0}), p0=0.0, p1=float("nan"), p3=0.03, p4=0.04)
    assert organism_odds(found, 16)[:5].tolist() == pytest.approx(
        [np.log(97 / 3), 0, 0, np.log(97 / 3), np.log(96 / 4)]
    )
    assert organism_odds(replace(found, background=None), 16).tolist() == [0] * 16


WIDE = replace(INFO, columns=6, framing=Framing(mode="squash", size=(96, 64))).grid((600, 400))
"""Four rows of six patches."""
PAIR = {0: 2.0, 6: 2.0, 5: 3.0}
"""A latent on the left, patches 0 and 6, and with less on the right, patch 5, of the first rows."""


def usual(x, y):
    return {0: replace(chosen(1.0)[0], background=0.1, usual_x=x, usual_y=y)}


def regions_of(found, choice):
    options = SAERegions(contrast=SpecimenContrast(min_evidence=0.6))
    return [candidate for candidate, _ in image_candidates(found, choice, WIDE, options)]


@pytest.mark.parametrize(("place", "group"), [((0.1, 0.2), (0, 6)), ((0.9, 0.2), (5,)), ((None, None), (0, 6))])
@pytest.mark.parametrize("knows_organism", [True, False])
def test_of_two_groups_that_one_is_the_region_which_lies_where_the_latent_usually_fires(place, group, knows_organism):
    found = replace(codes(z0=PAIR), background=np.full(24, 0.1, np.float32), knows_organism=knows_organism)
    [candidate] = regions_of(found, usual(*place))
    assert candidate.patches == group
    assert candidate.peak == pytest.approx(max(PAIR[patch] for patch in group))


@pytest.mark.parametrize(("stronger", "group"), [(22.0, (4,)), (23.5, (1,))])
def test_how_much_stronger_a_group_must_be_is_that_of_a_normal_density_a_fifth_of_the_organism_wide(stronger, group):
    # Patch 1 is half of the box away from the usual place, on patch 4: exp(0.5^2 / (2 x 0.2^2)) = 22.8.
    found = replace(codes(z0={1: 2.0 * stronger, 4: 2.0}), background=np.full(24, 0.1, np.float32), knows_organism=True)
    assert [c.patches for c in regions_of(found, usual(4.5 / 6, 0.125))] == [group]


def test_a_much_stronger_group_is_the_region_wherever_it_lies():
    found = replace(codes(z0=PAIR | {0: 90.0}), background=np.full(24, 0.1, np.float32), knows_organism=True)
    assert [c.patches for c in regions_of(found, usual(0.6, 0.2))] == [(0, 6)]


def test_the_usual_place_is_one_on_the_organism_and_says_nothing_where_backgrounds_are_not_known():
    # The organism is the two columns on the right, so that its left edge is patch 4.
    background = np.tile(np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1], np.float32), 4)
    found = replace(codes(z0={4: 2.0, 18: 9.0, 23: 3.0}), background=background, knows_organism=True)
    assert [c.patches for c in regions_of(found, usual(0.25, 0.1))] == [(4,)]
    assert [c.patches for c in regions_of(replace(found, background=None, knows_organism=False), usual(0.25, 0.1))] == [
        (18,)
    ]


def test_a_region_beyond_the_box_around_the_organism_is_not_lost_and_no_organism_is_no_place():
    background = np.full(24, 0.55, np.float32)
    found = replace(codes(z0={0: 2.0}), background=background)
    assert [c.patches for c in regions_of(found, usual(1.0, 1.0))] == [(0,)]
    background[23] = 0.1
    assert [c.patches for c in regions_of(replace(found, background=background), usual(1.0, 1.0))] == [(0,)]
