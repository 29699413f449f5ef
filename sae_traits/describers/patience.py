"""When to ask a server again, and when to stop asking."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from sae_traits.describers.base import Answer
from sae_traits.errors import DescriberError, one_line

FIRST_PAUSE, MAX_PAUSE = 0.5, 30.0
"""Seconds."""
MAX_TRIES = 5
"""How often a request is sent that ends in an error of the server, in one attempt at a call."""
MAX_WAIT = 600.0
"""Seconds that an attempt waits, all pauses together, for a server that asks for time."""


def back_off(n: int, random: Random) -> float:
    """Seconds to wait the n-th time (from 1): doubling, with jitter so that callers do not return together."""
    return min(MAX_PAUSE, FIRST_PAUSE * 2 ** min(n - 1, 10)) * random.uniform(0.5, 1.0)


@dataclass(eq=False)
class Trouble(Exception):
    """One request came to nothing, and may be sent again."""

    reason: str
    asks_for_time: bool = False
    """The server is alive, and said: later."""
    retry_after: float = 0.0
    """Seconds that it wants to be left alone."""


@dataclass
class Breaker:
    """Counts the errors since the last answer, over all calls, and stops where a call fails after too many of them.

    Of many calls in flight all fail together when a server is away for a moment, and no number of them says for how
    long. So it stops when one of them has been sent as often as a call is: before that call is given up.
    """

    limit: int
    n_errors: int = 0

    def succeeded(self) -> None:
        """An answer came, of whatever kind."""
        self.n_errors = 0

    def failed(self) -> None:
        """An error came."""
        self.n_errors += 1

    def check(self, reason: str) -> None:
        """A DescriberError where errors were too many; before a call is given up, which may not be its own fault."""
        if self.n_errors >= self.limit:
            raise DescriberError(
                f"the server gave {self.n_errors} errors and no answer between them, the last one: {reason}; "
                "see to the server, then give the same command again"
            )


@dataclass
class Doubt:
    """Counts the answers without a usable one between them, over all calls, and stops asking when they are too many."""

    limit: int
    n_unusable: int = 0
    example: str = ""
    """Reason and beginning of the last one."""

    def check(self) -> None:
        """A DescriberError where it is time to stop; before a call, so that every answer that came is recorded."""
        if self.n_unusable >= self.limit:
            raise DescriberError(
                f"{self.n_unusable} answers in a row could not be used (--max-consecutive-unusable), the last one: "
                f"{self.example}; see to the model, its server or the options, then give the same command again"
            )

    def see(self, answers: Sequence[Answer]) -> None:
        """Count answers that came; calls that brought none say nothing about what the model writes."""
        for answer in answers:
            if answer.description is not None:
                self.n_unusable = 0
            elif not answer.failed:
                self.n_unusable += 1
                said = one_line(answer.raw, max_length=80) if answer.raw.strip() else ""
                self.example = f"{answer.error} (it begins “{said}”)" if said else str(answer.error)


@dataclass
class Patience:
    """Of one attempt at a call: how long to wait after each trouble, until it is given up."""

    breaker: Breaker
    random: Random
    n_errors: int = 0
    n_waits: int = 0
    waited: float = 0.0

    def pause_after(self, trouble: Trouble) -> float | None:
        """Seconds to wait before the request is sent again, None when it is given up; errors as of the breaker."""
        if trouble.asks_for_time and self.waited + trouble.retry_after <= MAX_WAIT:
            self.n_waits += 1
            # Not all callers at the same moment, and later each time where the server does not say when.
            wanted = trouble.retry_after * self.random.uniform(1.0, 1.25)
            seconds = max(wanted, back_off(self.n_waits, self.random))
        else:
            self.n_errors += 1
            self.breaker.failed()
            if trouble.asks_for_time or self.n_errors >= min(MAX_TRIES, self.breaker.limit):
                self.breaker.check(trouble.reason)
            if trouble.asks_for_time or self.n_errors >= MAX_TRIES:
                return None
            seconds = back_off(self.n_errors, self.random)
        self.waited += seconds
        return seconds
