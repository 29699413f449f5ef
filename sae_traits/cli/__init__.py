"""The command line: parse, call one function, print. Exit codes: 0 done, 1 failed, 2 usage, 3 partly done."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from importlib import import_module

from sae_traits.cli.base import COMMANDS, FAILED, PARTLY_DONE
from sae_traits.cli.base import build_parser as build_parser
from sae_traits.config.command_line import USAGE, message_of, refuse_unknown
from sae_traits.errors import ConfigError, SaeTraitsError
from sae_traits.logging import printing_to_stderr
from sae_traits.runs.folder import RunFolder

_COMMANDS = (
    *("making", "sharding", "captioning", "training", "looking", "ablating"),
    *("benchmarking", "releasing", "trying"),
)
"""Modules that register commands."""

for _name in _COMMANDS:
    import_module(f"{__name__}.{_name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser(words)
    arguments, unknown = parser.parse_known_args(words)
    if arguments.command is None:
        if unknown:
            return refuse_unknown(parser, unknown)
        parser.print_help()
        return USAGE
    if unknown:
        return refuse_unknown(arguments.parser, unknown)
    with printing_to_stderr(), _termination_as_interruption():
        return _run_and_report(arguments)


@contextmanager
def _termination_as_interruption() -> Iterator[None]:
    """Inside the block, SIGTERM does what Ctrl-C does; processes that are forked meanwhile end by it as ever."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    process = os.getpid()

    def interrupt(number: int, _frame: object) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _run_and_report(arguments: argparse.Namespace) -> int:
    """Call the function of a command; every error that has a reason is one line on stderr."""
    name = f"sae-traits {arguments.command}"
    resumes = COMMANDS[arguments.command].resumes
    again = "the same command goes on where it stopped" if resumes else "the same command begins anew"
    try:
        if "run" in arguments:  # before the command imports what takes seconds
            RunFolder(arguments.run).check_is_run()
        return COMMANDS[arguments.command].function(arguments)
    except ConfigError as error:
        print(f"{name}: {message_of(error, arguments)}", file=sys.stderr)
        return USAGE
    except SaeTraitsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # who reads stdout has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"{name}: {_reason_of(error)}, then {again}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"interrupted; {again}", file=sys.stderr)
        return PARTLY_DONE


def _reason_of(error: OSError) -> str:
    """Which file cannot be used and why, and what to do."""
    if error.errno in (ENOSPC, EDQUOT):
        return "the disk is full; free some space"
    is_of_one = error.filename is not None and error.filename2 is None
    return f"cannot use {error.filename}: {error.strerror}; mend that" if is_of_one else f"{error}; mend that"
