"""`sae-traits` in processes that are forked from one with everything imported: as good as new, and started at once.

    python -m damage.commands        with `tests` and the package on PYTHONPATH

is that one: it reads lines of JSON on stdin, one per command or question, and answers each with a line.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import psutil

MODULES = "modules"
"""Names of modules that a command had to import."""
TESTS = Path(__file__).parents[1]
IMPORTED = (
    *("accelerate", "datasets", "huggingface_hub.hf_api", "matplotlib.pyplot", "openai", "scipy.stats", "torch"),
    *("skimage.feature", "sklearn.decomposition", "sae_traits.cli", "sae_traits.runs.summary"),
    *(
        f"sae_traits.steps.{name}"
        for name in ("check", "collect", "extract", "train", "encode", "annotate", "evaluate")
    ),
    *(f"sae_traits.steps.{name}" for name in ("dataset", "cards", "publish", "latents", "compare", "faithfulness")),
    *(f"sae_traits.release.{name}" for name in ("exports", "rehydrate", "loading")),
    *("sae_traits.features.texture", "sae_traits.images.table"),
    *("sae_traits.describers.measured", "sae_traits.describers.server"),
)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    """Exit code; negative for a signal."""
    out: str
    err: str

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.out + self.err

    @property
    def error(self) -> list[str]:
        """The lines with which the command line says that it failed."""
        return [line for line in self.err.splitlines() if line.startswith("sae-traits ")]


class Running:
    """A command that is under way."""

    def __init__(self, forks: Forks, pid: int, folder: Path) -> None:
        self._forks, self.pid, self._folder = forks, pid, folder

    def said(self) -> str:
        """What it has said on stderr so far."""
        return (self._folder / f"{self.pid}.err").read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, which may come too late."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Done:
        """How it ended."""
        code = self._forks.ask(wait=self.pid)
        files = [self._folder / f"{self.pid}.{name}" for name in ("out", "err")]  # none where a kill came at once
        done = Done(code, *(file.read_text(errors="replace") if file.exists() else "" for file in files))
        for file in files:
            file.unlink(missing_ok=True)
        return done

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE


class Forks:
    """The process that is forked from."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING_FACE_", "OPENAI_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "damage.commands", str(folder)],
            env=kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, *words: object, **environment: str) -> Running:
        """Start a command."""
        return Running(self, self.ask(words=[str(word) for word in words], environment=environment), self._folder)

    def do(self, *words: object, **environment: str) -> Done:
        """Do a command."""
        return self.start(*words, **environment).wait()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def forks(folder: Path, **environment: str) -> Iterator[Forks]:
    """A process to fork from, until the block ends."""
    opened = Forks(folder, environment)
    try:
        yield opened
    finally:
        opened.close()


def _answer(question: dict[str, object], folder: Path) -> int:
    if "wait" in question:
        return os.waitstatus_to_exitcode(os.waitpid(int(str(question["wait"])), 0)[1])
    _import_what_was_needed(folder / MODULES)
    gc.collect()
    gc.freeze()  # the collector of the fork need not touch, hence copy, what is imported
    pid = os.fork()
    if pid == 0:
        _become(list(question["words"]), dict(question["environment"]), folder)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return pid


def _import_what_was_needed(file: Path) -> None:
    """Import what earlier commands had to import by themselves, so that later ones need not."""
    for name in file.read_text().splitlines() if file.exists() else ():
        with suppress(ImportError):
            import_module(name)
    file.unlink(missing_ok=True)


def _become(words: Sequence[str], environment: dict[str, str], folder: Path) -> None:
    """Be that command, and end as the interpreter would."""
    from sae_traits.cli import main

    os.environ.update(environment)
    imported = set(sys.modules)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 70
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  as the interpreter
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        with (folder / MODULES).open("a") as file:
            file.writelines(f"{name}\n" for name in sys.modules.keys() - imported)
        gc.collect()  # which closes what the command left open, as the end of an interpreter does
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(folder: Path) -> None:
    """Answer until stdin ends."""
    for name in IMPORTED:
        import_module(name)
    for line in sys.stdin:
        print(_answer(json.loads(line), folder), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
