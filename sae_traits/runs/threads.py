"""One thread for all that is computed, so that no result depends on how many cores a machine has.

Threads share sums out among them: another number of threads adds up in another order, and the last bits differ. A
training then takes another way, and some thousand steps later there is another SAE.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block torch, numpy, scipy and scikit-learn compute with one thread."""
    import torch
    from threadpoolctl import threadpool_limits

    former = torch.get_num_threads()
    torch.set_num_threads(1)  # which threads that begin later take over
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(former)
