"""Measure regions that were described before, but not in this way: with the animal's mask, or without it any more.

A model's answer does not depend on a mask, so it is kept and nobody is asked again; what is measured does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError
from sae_traits.logging import track
from sae_traits.schema import Measurement, Region
from sae_traits.traits.calls import Call
from sae_traits.traits.describing import Prepared, prepare_calls, worker_pool
from sae_traits.traits.ledger import Ledger

TASKS_A_LOOKUP = 100
"""Images, or groups of images, that are looked up in the ledger together."""


def measure_answered(tasks: Iterator[list[Call]], ledger: Ledger, *, workers: int) -> None:
    """Measure the regions of calls that have an answer and no measurement; both are then in the ledger.

    Args:
        tasks: calls that are prepared together.
        ledger: where answers and measurements are kept.
        workers: processes that open images and measure.

    Raises:
        CollectionError: an image or a mask cannot be read any more.
    """
    with worker_pool(workers) as pool:

        def prepared() -> Iterator[Prepared]:
            while some := list(islice(tasks, TASKS_A_LOOKUP)):
                found = pool.map(partial(prepare_calls, _see_nothing), _unmeasured(some, ledger))
                yield from chain.from_iterable(found)

        for one in track(prepared(), "measure", None, "call"):
            if one.error is not None:
                raise CollectionError(f"{one.error}; it was described before, so put it back and try again")
            ledger.begin((), one.measurements or {})


def _unmeasured(tasks: list[list[Call]], ledger: Ledger) -> list[list[Call]]:
    calls = [call for task in tasks for call in task]
    measured = ledger.measurements([member.region_key for call in calls for member in call.members])
    lacking = {call.key for call in calls if any(member.region_key not in measured for member in call.members)}
    answered = {key for key, entry in ledger.entries(lacking).items() if entry.state == "ok"}
    found = ([call for call in task if call.key in answered] for task in tasks)
    return [task for task in found if task]


def _see_nothing(
    image: NDArray[np.uint8], region: Region, measurement: Measurement, mask: NDArray[np.bool_] | None
) -> None:
    """No describer looks."""
