"""Worker processes that end with the process that started them."""

import os
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread


def worker_pool(workers: int) -> Executor:
    """Start a pool of processes; for one worker, or none, a thread of this process."""
    if workers <= 1:
        return ThreadPoolExecutor(1)
    # Spawned, not forked: this process may hold the threads of torch.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed: a pool's workers would wait for work forever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
