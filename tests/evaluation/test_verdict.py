"""The rule by which a trait is to be trusted: each condition alone, at its limit."""

import dataclasses

import pytest

from sae_traits.evaluation.verdict import RULES, judge, rank
from sae_traits.schema import Contrast

GOOD = Contrast(f_species=0.9, f_reference=0.1, effect=2.0, q_value=0.01, significant=True, reference_rank="genus")


@pytest.mark.parametrize(
    ("changes", "background", "expected"),
    [
        ({}, None, "trust"),
        ({}, 0.5, "trust"),
        ({}, 0.51, "do not use: likely background"),
        ({"f_species": 0.5, "f_reference": 0.25}, None, "trust"),
        ({"f_species": 0.49}, None, "look first: in less than half"),
        ({"f_reference": 0.46}, None, "look first: less than twice as often"),
        ({"significant": False}, None, "look first: not significant"),
        ({"significant": False, "f_species": 0.2}, None, "look first: not significant, in less than half"),
        ({"significant": False, "f_reference": 0.5}, 0.1, "do not use: not significant, less than twice as often"),
    ],
)
def test_a_trait_is_trusted_only_where_all_holds(changes, background, expected):
    assert str(judge(dataclasses.replace(GOOD, **changes), background)) == expected
    assert judge(dataclasses.replace(GOOD, **changes), background).word in RULES


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
    assert str(judge(GOOD, held_out=held_out)) == expected
    assert (rank(GOOD, held_out=held_out) == rank(GOOD)) is (expected == "trust")


def test_what_was_compared_with_nothing_has_no_verdict():
    assert str(judge(None)) == "not compared"


def test_better_verdicts_come_first_then_larger_differences():
    rare = dataclasses.replace(GOOD, f_species=0.1, f_reference=0.0, effect=9.0)
    clearer = dataclasses.replace(GOOD, f_species=1.0, f_reference=0.0)
    maybe = dataclasses.replace(clearer, significant=False)
    assert sorted([None, rare, maybe, GOOD, clearer], key=rank) == [clearer, GOOD, maybe, rare, None]
    assert rank(clearer, 0.9) > rank(rare)
