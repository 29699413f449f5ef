"""What a worker process does: open images' images, measure regions, and prepare what a describer needs of them.

Kept apart from the rest of the room so that a worker imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.describers import Look
from sae_traits.errors import ImageError
from sae_traits.images.decode import open_image, open_mask
from sae_traits.traits.animal import Animal
from sae_traits.traits.calls import Call
from sae_traits.traits.measure import measure


@dataclass(frozen=True)
class Prepared:
    """A call with all that its describer needs, or the reason why there is nothing."""

    call: Call
    looks: tuple[Any, ...] = ()
    """What the describer's look made of each member."""
    measurements: dict[str, dict[str, Any]] | None = None
    """By the members' region keys, in pixels."""
    error: str | None = None


def prepare_calls(look: Look, calls: Sequence[Call]) -> list[Prepared]:
    """Prepare calls that look at the same image, which is opened once, or a call that looks at several."""

    @lru_cache(maxsize=1)
    def pixels(image: Path) -> NDArray[np.uint8]:
        return np.asarray(open_image(image))

    @lru_cache(maxsize=1)
    def animal_of(mask: Path) -> Animal:
        return Animal.of(open_mask(mask))

    def prepare(call: Call) -> Prepared:
        looks, measurements = [], {}
        for member in call.members:
            try:
                image = pixels(member.image)
                animal = animal_of(member.mask) if member.mask else None
            except ImageError as error:
                return Prepared(call, error=f"{member.image}: {error}")
            measurement = measure(image, member.region, animal=animal)
            measurements[member.region_key] = asdict(measurement)
            looks.append(look(image, member.region, measurement, animal.mask if animal else None))
        return Prepared(call, tuple(looks), measurements)

    return [prepare(call) for call in calls]


def worker_pool(workers: int) -> Executor:
    """Processes that prepare calls; for one worker a thread of this process."""
    if workers == 1:
        return ThreadPoolExecutor(1)
    # Spawned, not forked: this process may hold the threads of torch.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed: a pool's workers would wait for work forever."""
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            wait([parent.sentinel])
            os._exit(1)

        Thread(target=watch, daemon=True).start()
