"""Worker processes that end with the process that started them."""

import os
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import current_process, get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from sae_traits.errors import ConfigError

_CALLED_AGAIN = 78
"""Exit code of a worker in which a script would do again what started the worker."""


def worker_pool(workers: int) -> Executor:
    """Start a pool of processes; for one worker, or none, a thread of this process."""
    if workers <= 1:
        return ThreadPoolExecutor(1)
    # Spawned, not forked: this process may hold the threads of torch.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)


def end_if_imported_by_worker() -> None:
    """End this process where it is a worker that only imports the script that started it, as each one does."""
    if getattr(current_process(), "_inheriting", False):  # as multiprocessing itself asks
        os._exit(_CALLED_AGAIN)


def check_script(call: str) -> None:
    """Make sure that workers can import the script that starts them, before hours of work come to that.

    Raises:
        ConfigError: it would do a call again, which calls `end_if_imported_by_worker`.
    """
    if getattr(sys.modules["__main__"], "__file__", None) is None:  # as in a notebook, which no worker imports
        return
    process = get_context("spawn").Process(target=_do_nothing)
    process.start()
    process.join()
    if process.exitcode == _CALLED_AGAIN:
        raise ConfigError(
            f'put the call of {call} below `if __name__ == "__main__":`: photographs are read by processes that import '
            "this script, and each would call it again"
        )


def _do_nothing() -> None:
    """Only be there."""


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed: a pool's workers would wait for work forever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, daemon=True).start()
