"""When to ask again and when to stop."""

from random import Random

import pytest
from hypothesis import given
from hypothesis.strategies import integers

from sae_traits.describers.patience import (
    MAX_PAUSE,
    MAX_TRIES,
    MAX_WAIT,
    Breaker,
    Patience,
    Trouble,
    back_off,
)
from sae_traits.errors import DescriberError


@given(n=integers(1, 100), seed=integers(0, 99))
def test_pauses_double_with_jitter_up_to_a_limit(n, seed):
    seconds = back_off(n, Random(seed))
    whole = min(MAX_PAUSE, 0.5 * 2 ** (n - 1))
    assert whole / 2 <= seconds <= whole


def test_callers_do_not_come_back_together():
    assert len({back_off(3, Random(seed)) for seed in range(50)}) == 50


def test_an_error_is_tried_again_a_few_times():
    patience = Patience(Breaker(100), Random(0))
    pauses = [patience.pause_after(Trouble("500")) for _ in range(MAX_TRIES)]
    assert all(pauses[:-1])
    assert pauses[-1] is None


def test_a_server_that_asks_for_time_gets_it_without_being_blamed():
    breaker = Breaker(2)
    patience = Patience(breaker, Random(0))
    for _ in range(3 * MAX_TRIES):
        assert (patience.pause_after(Trouble("429", asks_for_time=True, retry_after=3.0)) or 0) >= 3.0
    assert breaker.n_errors == 0


def test_a_server_that_asks_for_too_much_time_is_given_up():
    breaker = Breaker(2)
    patience = Patience(breaker, Random(0))
    assert patience.pause_after(Trouble("429", asks_for_time=True, retry_after=MAX_WAIT + 1)) is None
    assert breaker.n_errors == 1


def test_the_breaker_opens_after_errors_without_an_answer_between_them():
    breaker = Breaker(3)
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    breaker.failed()
    breaker.failed()
    breaker.check("500")
    breaker.failed()
    with pytest.raises(DescriberError, match="3 errors and no answer between them, the last one: 503"):
        breaker.check("503")


def test_errors_of_many_calls_at_once_stop_nothing_before_one_of_them_has_been_tried_as_often_as_a_call_is():
    breaker = Breaker(20)
    calls = [Patience(breaker, Random(seed)) for seed in range(64)]
    for _ in range(MAX_TRIES - 1):
        assert all(call.pause_after(Trouble("503")) for call in calls)
    assert breaker.n_errors == 64 * (MAX_TRIES - 1)
    with pytest.raises(DescriberError, match="257 errors"):
        calls[0].pause_after(Trouble("503"))


def test_a_limit_below_the_tries_of_a_call_holds():
    patience = Patience(Breaker(2), Random(0))
    assert patience.pause_after(Trouble("500"))
    with pytest.raises(DescriberError, match="2 errors"):
        patience.pause_after(Trouble("500"))
