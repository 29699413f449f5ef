"""Tests are run by root in containers, for whom no file is read-only: child processes without that."""

import ctypes


def without_root_powers() -> None:
    """In a child process (`preexec_fn`): permissions of files hold, also where tests are run by root."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
