"""The rule by which a trait is to be trusted: each condition alone, at its limit."""

import dataclasses

import pytest

from sae_traits.evaluation.verdict import RULES, Observed, judge, rank
from sae_traits.schema import Contrast

GOOD = Contrast(f_species=0.9, f_reference=0.1, effect=2.0, q_value=0.01, significant=True, reference_rank="genus")


OBSERVED = Observed(background=0.1, n_individuals=5, is_told=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "trust"),
        ({"f_species": 0.5, "f_reference": 0.25}, "trust"),
        ({"f_species": 0.49}, "look first: in less than half"),
        ({"f_reference": 0.46}, "look first: less than twice as often"),
        ({"significant": False}, "look first: not significant"),
        ({"significant": False, "f_species": 0.2}, "look first: not significant, in less than half"),
        ({"significant": False, "f_reference": 0.5}, "do not use: not significant, less than twice as often"),
    ],
)
def test_a_trait_is_trusted_only_where_all_of_its_contrast_holds(changes, expected):
    verdict = judge(dataclasses.replace(GOOD, **changes), OBSERVED)
    assert str(verdict) == expected
    assert verdict.word in RULES


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"background": 0.5}, "trust"),
        ({"background": 0.51}, "do not use: likely background"),
        ({"background": None}, "look first: background not known"),
        ({"background": None, "on_organism": 0.5}, "trust"),
        ({"on_organism": 0.49}, "do not use: beside the organism"),
        ({"n_individuals": 4}, "look first: regions in few individuals"),
        ({"n_individuals": None}, "trust"),
        ({"is_told": False}, "look first: no word says how it differs"),
        ({"is_told": False, "background": 0.51}, "do not use: likely background, no word says how it differs"),
    ],
)
def test_regions_must_lie_on_organisms_in_some_individuals_and_be_told_in_a_word(changes, expected):
    assert str(judge(GOOD, dataclasses.replace(OBSERVED, **changes))) == expected


@pytest.mark.parametrize(
    ("held_out", "expected"),
    [
        (None, "trust"),
        ((0.5, 0.25), "trust"),
        ((0.5, None), "trust"),
        ((0.49, None), "look first: not so in held-out individuals"),
        ((0.49, 0.0), "look first: not so in held-out individuals"),
        ((0.9, 0.46), "look first: not so in held-out individuals"),
    ],
)
def test_held_out_individuals_must_bear_it_out(held_out, expected):
    observed = dataclasses.replace(OBSERVED, held_out=held_out)
    assert str(judge(GOOD, observed)) == expected
    assert (rank(GOOD, observed) == rank(GOOD, OBSERVED)) is (expected == "trust")


def test_what_was_compared_with_nothing_has_no_verdict():
    assert str(judge(None, OBSERVED)) == "not compared"


def test_better_verdicts_come_first_then_larger_differences():
    rare = dataclasses.replace(GOOD, f_species=0.1, f_reference=0.0, effect=9.0)
    clearer = dataclasses.replace(GOOD, f_species=1.0, f_reference=0.0)
    maybe = dataclasses.replace(clearer, significant=False)
    in_order = sorted([None, rare, maybe, GOOD, clearer], key=lambda contrast: rank(contrast, OBSERVED))
    assert in_order == [clearer, GOOD, maybe, rare, None]
    assert rank(clearer, Observed(background=0.9)) > rank(rare, OBSERVED)


def test_of_equal_verdicts_that_against_which_less_speaks_comes_first():
    untold = dataclasses.replace(OBSERVED, is_told=False)
    rarer = dataclasses.replace(GOOD, f_species=0.49, f_reference=0.0)
    clearer_but_not_found_again = dataclasses.replace(untold, held_out=(0.1, 0.0))
    found = [(GOOD, clearer_but_not_found_again), (rarer, OBSERVED), (GOOD, untold)]
    assert {judge(*one).word for one in found} == {"look first"}
    assert sorted(found, key=lambda one: rank(*one)) == [(GOOD, untold), (rarer, OBSERVED), found[0]]
