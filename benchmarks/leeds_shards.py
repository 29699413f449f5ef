"""Steps in shards on real photographs: whether shards, Ray and kills change anything of what one process makes.

All 832 Leeds butterflies, MobileNetV2, the describer `measured`. One process extracts, trains an SAE on some patches,
encodes and annotates. Every other way gets that SAE and makes features, codes, traits and dataset anew:

- 1, 3 and 7 shards, each a process of its own, two at a time, and merged;
- 7 shards by Ray, on a local cluster of two nodes with one CPU each, where Ray is installed;
- the same with kills: of `extract` and of `annotate` a worker is killed (SIGKILL) when a fifth of the step is done,
  then the driver when three fifths are, and the driver is started again until it ends well.

Printed is what differs from one process, and of the kills what was there before and was made again:

    SAE_TRAITS_SHARED=… OMP_NUM_THREADS=1 python benchmarks/leeds_shards.py --folder leeds-shards
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from tables import describe_machine, markdown_table

from sae_traits.cli import main as sae_traits
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.sharding import SHARDED

MADE = ("activations", "codes", "background.safetensors", "traits", "dataset", "shards", "*.log")
"""What every way makes anew."""
AT_ONCE = 2
WORKER, DRIVER = 0.2, 0.6
"""Which share of a step is done when the one and the other is killed."""
N_SHARDS_OF_RAY = 7
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def call(*words: object) -> int:
    """A command of sae-traits, in this process."""
    with redirect_stdout(sys.stderr):
        return sae_traits([str(word) for word in words])


def one_after_the_other(commands: Sequence[Sequence[object]], at_once: int = 1) -> None:
    """Do commands, each in a process of its own, that has what this one has imported."""
    with multiprocessing.get_context("fork").Pool(at_once, maxtasksperchild=1) as pool:
        codes = pool.starmap(call, commands, chunksize=1)
    assert not any(codes), [words for words, code in zip(commands, codes, strict=True) if code]


def begin(first: Path, run: Path) -> Path:
    """A run that has the images and the SAE of the first one, and nothing else."""
    shutil.rmtree(run, ignore_errors=True)
    return Path(shutil.copytree(first, run, ignore=shutil.ignore_patterns(*MADE)))


def in_shards(run: Path, n: int) -> None:
    """All steps in shards of processes of their own."""
    for step in SHARDED:
        one_after_the_other([(step, run, "--prepare")])
        one_after_the_other([(step, run, "--shard", f"{i}/{n}") for i in range(1, n + 1)], AT_ONCE)
        one_after_the_other([("merge", run)])


def driver(step: str, run: Path, address: str) -> subprocess.Popen[bytes]:
    """A process that has Ray make the shards of a step."""
    words = ["launch", step, run, "--engine", "ray", "--shards", N_SHARDS_OF_RAY, "--engine-option"]
    with (run / f"{step}.log").open("ab") as log:
        command = [sys.executable, "-m", "sae_traits", *map(str, words), f"address={address}"]
        return subprocess.Popen(command, stdout=log, stderr=log)


def by_ray(run: Path, address: str) -> None:
    """All steps by Ray."""
    for step in SHARDED:
        assert driver(step, run, address).wait() == 0, run / f"{step}.log"


@contextmanager
def cluster() -> Iterator[str]:
    """A local Ray cluster of two nodes with one CPU each; its address."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    made = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        made.add_node(**NODE)
        yield made.address
    finally:
        made.shutdown()


def features_there(run: Path) -> dict[str, int]:
    """Feature shards that are written, and when."""
    return {path.name: path.stat().st_mtime_ns for path in RunFolder(run).activations.glob("shard-*.safetensors")}


def calls_there(run: Path) -> dict[str, tuple[str, float]]:
    """Calls that are in a ledger, of the run or of a shard, with their state and the seconds that they took."""
    folder = RunFolder(run)
    found: dict[str, tuple[str, float]] = {}
    for path in (*folder.shards("annotate").glob("*-of-*/ledger.sqlite"), folder.ledger("sae")):
        if path.is_file():
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)
            try:
                rows = connection.execute("SELECT key, state, seconds FROM describer_calls").fetchall()
            except sqlite3.OperationalError:  # it is being made
                rows = []
            connection.close()
            found |= {key: (state, seconds) for key, state, seconds in rows}
    return found


def answered(run: Path) -> int:
    return sum(state == "ok" for state, _ in calls_there(run).values())


def workers() -> list[psutil.Process]:
    """Processes of the cluster that make a shard at this moment."""
    return [one for one in psutil.Process().children(recursive=True) if "_make" in " ".join(command_of(one))]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def with_kills(first: Path, run: Path, address: str) -> list[list[str]]:
    """All steps by Ray, two of them with kills; what of them was there before, and what was made again."""
    n_images, n_units = pq.read_metadata(RunFolder(first).images).num_rows, len(features_there(first))
    kill(driver("extract", run, address), lambda: len(features_there(run)) / n_units)
    before = features_there(run)
    n_starts = finish("extract", run, address)
    n_again = sum(features_there(run)[name] != written for name, written in before.items())
    lost = f"what was computed of {AT_ONCE} x {-(-n_images // n_units)} images at most, at each of both kills"
    extracted = ["extract", f"{len(before)} of {n_units} feature shards", f"{n_again}", lost, f"{n_starts}"]

    assert driver("encode", run, address).wait() == 0, run / "encode.log"

    n_answers = answered(first)
    kill(driver("annotate", run, address), lambda: answered(run) / n_answers)
    begun = calls_there(run)
    n_starts = finish("annotate", run, address)
    after, kept = calls_there(run), {key: call for key, call in begun.items() if call[0] == "ok"}
    n_again = sum(after[key] != call for key, call in kept.items())
    lost = f"{len(begun) - len(kept)} calls under way when the driver was killed"
    annotated = ["annotate", f"{len(kept):,} of {n_answers:,} answers", f"{n_again}", lost, f"{n_starts}"]
    return [extracted, annotated]


def kill(running: subprocess.Popen[bytes], share_done: Callable[[], float]) -> None:
    """Kill a worker of a step that is being made, and later its driver."""
    wait_until(lambda: share_done() >= WORKER and bool(workers()), running)
    time.sleep(1)  # into the work on the next file
    workers()[0].send_signal(signal.SIGKILL)
    wait_until(lambda: share_done() >= DRIVER, running)
    running.kill()
    running.wait()


def finish(step: str, run: Path, address: str) -> int:
    """Start the driver of a step until it ends well; how often it was started."""
    for n in range(1, 10):
        if driver(step, run, address).wait() == 0:
            return n
    raise AssertionError(run / f"{step}.log")


def wait_until(is_so: Callable[[], bool], running: subprocess.Popen[bytes]) -> None:
    """Wait for something to become true while a process runs."""
    while not is_so():
        assert running.poll() is None, "it was done before it could be killed"
        time.sleep(0.05)


def differences(first: Path, run: Path) -> list[str]:
    """What differs in features, codes, traits and dataset."""
    told = [
        same_files(first, run, "activations", "*"),
        same_tables(first, run, "codes"),
        same_files(first, run, "traits", "*.parquet"),
        same_files(first, run, "dataset/data", "*"),
    ]
    one, other = (pq.read_table(RunFolder(path).traits).to_pandas() for path in (first, run))
    assert one.shape == other.shape, (one.shape, other.shape)
    values = list(one.select_dtypes("floating"))
    rest = [name for name in one if name not in values]
    far = float(np.nanmax(np.abs(one[values].to_numpy() - other[values].to_numpy()), initial=0))
    is_equal = one[rest].astype(str).equals(other[rest].astype(str))
    return [*told, f"{len(other):,} rows, {'equal' if is_equal else 'NOT equal'}, numbers within {far:g}"]


def same_files(first: Path, run: Path, name: str, pattern: str) -> str:
    """How many files of a folder have other bytes."""
    folders = (first / name, run / name)
    one, other = (
        {path.relative_to(f): path.read_bytes() for path in f.rglob(pattern) if path.is_file()} for f in folders
    )
    different = sum(one.get(path) != other.get(path) for path in one.keys() | other.keys())
    return f"{different} of {len(one)} files differ" if different else f"{len(one)} files, same bytes"


def same_tables(first: Path, run: Path, name: str) -> str:
    """Codes of shards say in their metadata what they are made of, so that bytes differ and values do not."""
    one, other = ({path.name: values_of(path) for path in (f / name).glob("*.parquet")} for f in (first, run))
    different = sum(one.get(path) != other.get(path) for path in one.keys() | other.keys())
    return f"{different} of {len(one)} tables differ" if different else f"{len(one)} tables, equal"


def values_of(path: Path) -> bytes:
    """The values of a table, bit by bit: Arrow holds NaN for unequal to NaN."""
    table = pq.read_table(path).replace_schema_metadata()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def timed(work: Callable[..., object], *arguments: object) -> list[str]:
    """Seconds by the clock, and of the processor in processes that were waited for."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [f"{time.perf_counter() - start:.0f}", f"{busy:.0f}"]


def main() -> None:
    """Make everything in every way, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("leeds-shards"))
    parser.add_argument("--n-patches", type=int, default=200_000, help="the SAE is trained on")
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 3, 7])
    parser.add_argument("--keep", action="store_true", help="go on with the run of one process that is there")
    arguments = parser.parse_args()
    shared = Path(os.environ["SAE_TRAITS_SHARED"])
    source = shared / "data/leeds_butterfly/metadata.csv"
    backbone = ("--backbone", shared / "models/mobilenet_v2_inat_insect", "--layer", 11, "--workers", 0)
    first = arguments.folder.absolute() / "one"
    print(describe_machine(), flush=True)
    if not arguments.keep:
        shutil.rmtree(first, ignore_errors=True)
        for words in (
            ("collect", source, "--out", first, *backbone),
            ("extract", source, "--out", first, *backbone),
            ("train", first, "--n-patches", arguments.n_patches),
            ("encode", first),
            ("annotate", first, "--describer-workers", 1),
        ):
            print(words[0], *timed(one_after_the_other, [words]), flush=True)
    rows: list[list[str]] = []

    def add(name: str, run: Path, seconds: Sequence[str]) -> None:
        rows.append([name, *differences(first, run), *seconds])
        print(" | ".join(rows[-1]), flush=True)

    for n in arguments.shards:
        run = begin(first, first.parent / f"shards-{n}")
        add(f"{n} shards" if n > 1 else "1 shard", run, timed(in_shards, run, n))
    killed: list[list[str]] = []
    if importlib.util.find_spec("ray") is not None:
        with cluster() as address:
            run = begin(first, first.parent / "ray")
            add(f"{N_SHARDS_OF_RAY} shards by Ray", run, timed(by_ray, run, address))
            run = begin(first, first.parent / "killed")
            seconds = timed(lambda: killed.extend(with_kills(first, run, address)))
            add("the same, with kills", run, seconds)
    header = ["way", "features", "codes", "traits", "dataset", "rows of traits", "s", "s of CPU, without Ray's workers"]
    print(markdown_table(header, rows))
    print(
        markdown_table(["step", "there when the driver was killed", "of it made again", "lost", "starts after"], killed)
    )


if __name__ == "__main__":
    main()
