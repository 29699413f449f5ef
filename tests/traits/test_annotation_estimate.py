"""What an annotation will cost, known before anything is asked."""

from dataclasses import replace

import pytest
from describer_server.many import TRAITS, ManyCandidates

from sae_traits.config.describer import Measured, Server
from sae_traits.describers import make_describer
from sae_traits.schema import Taxon
from sae_traits.traits.calls import planned_calls
from sae_traits.traits.estimate import bound_annotation, estimate_annotation
from sae_traits.traits.ledger import Ledger, Outcome

N_IMAGES = 8
N_CALLS = N_IMAGES * TRAITS


def estimate(folder, n_answered=0, config=None, **options):
    config = config or Server(model="m", **options)
    plan, describer = ManyCandidates(folder, N_IMAGES), make_describer(config)
    with Ledger(folder / "ledger.sqlite") as ledger:
        calls = [call for calls in planned_calls(plan.candidates(), plan.collection, describer) for call in calls]
        ledger.begin([call.identity for call in calls[:n_answered]], {})
        ledger.record([Outcome(key=call.key, state="ok") for call in calls[:n_answered]])
        return estimate_annotation(plan, describer, ledger, config)


def test_calls_time_tokens_and_money_follow_from_each_other(tmp_path):
    found = estimate(tmp_path, seconds_per_call=3.6, in_flight=10, prompt_price=2.0, answer_price=10.0)
    assert (found.n_calls, found.n_open, found.n_finished) == (N_CALLS, N_CALLS, 0)
    assert found.hours == pytest.approx(N_CALLS * 3.6 / 10 / 3600)
    assert found.answer_tokens == 100 * N_CALLS
    # pictures are enlarged to 512 x 384 pixels: 250 tokens, and as many characters as the prompt has over four
    assert 250 + 300 < found.prompt_tokens / N_CALLS < 250 + 600
    assert found.money == pytest.approx((2 * found.prompt_tokens + 10 * found.answer_tokens) / 1e6)
    assert any(line.startswith("money") for line in found.lines())


def test_what_is_answered_costs_nothing(tmp_path):
    whole = estimate(tmp_path)
    half = estimate(tmp_path, n_answered=N_CALLS // 2)
    assert half.n_open == N_CALLS // 2
    assert half.prompt_tokens == whole.prompt_tokens / 2
    assert estimate(tmp_path, n_answered=N_CALLS).prompt_tokens == 0


def test_two_pictures_cost_more_and_shared_calls_less(tmp_path):
    one, both, shared = (
        estimate(tmp_path, **o) for o in ({}, {"show": "both"}, {"images_per_description": 2})
    )  # fmt: skip
    assert both.prompt_tokens > one.prompt_tokens
    assert shared.n_calls < one.n_calls
    assert shared.prompt_tokens < one.prompt_tokens


def test_a_describer_without_a_model_costs_no_tokens(tmp_path):
    found = estimate(tmp_path, config=Measured())
    assert (found.prompt_tokens, found.money) == (0, 0)
    assert not [line for line in found.lines() if line.startswith(("tokens", "money"))]


def bound(records, config=None, **options):
    config = config or Server(model="m", **options)
    return bound_annotation(records, make_describer(config), config, traits_per_image=TRAITS)


def test_before_there_are_regions_the_estimate_is_a_bound(tmp_path):
    records = ManyCandidates(tmp_path, N_IMAGES).collection.images
    found, counted = bound(records), estimate(tmp_path)
    assert (found.n_calls, found.n_finished) == (counted.n_calls, 0)
    assert found.prompt_tokens == counted.prompt_tokens
    assert found.answer_tokens == counted.answer_tokens


def test_images_of_a_species_and_split_share_calls_in_the_bound(tmp_path):
    (one, *_) = ManyCandidates(tmp_path, 1).collection.images
    names = ("primus",) * 7 + ("secundus",)
    named = [replace(one, individual_id=str(i), taxon=Taxon(species=f"Fictus {n}")) for i, n in enumerate(names)]
    assert bound(named, images_per_description=3).n_calls == TRAITS * (3 + 1)
    apart = [*named, *(replace(record, split="validation") for record in named)]
    assert bound(apart, images_per_description=3).n_calls == TRAITS * 2 * (3 + 1)
    one_individual = [replace(record, individual_id="0") for record in named]
    assert bound(one_individual, images_per_description=3).n_calls == TRAITS * 8
    unnamed = [replace(record, taxon=Taxon()) for record in named]
    assert bound(unnamed, images_per_description=3).n_calls == TRAITS * 8


def test_a_bound_of_a_describer_without_a_model_is_time_alone(tmp_path):
    records = ManyCandidates(tmp_path, N_IMAGES).collection.images
    found = bound(records, config=Measured(workers=2))
    assert (found.prompt_tokens, found.answer_tokens) == (0, 0)
    assert found.hours == pytest.approx(N_CALLS * 0.01 / 2 / 3600)
