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
        breaker.failed("500")
        breaker.failed("500")
        breaker.succeeded()
    breaker.failed("500")
    breaker.failed("500")
    with pytest.raises(DescriberError, match="3 errors and no answer between them, the last one: 503"):
        breaker.failed("503")
