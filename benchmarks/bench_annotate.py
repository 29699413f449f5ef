"""How fast candidates are described through a server, and what faults and kills cost.

The server is the test server of tests/describer_server, a process of its own on the same machine; it thinks for two
seconds, or not at all. Rates are worth something on a machine that is idle otherwise; processor time a call, with the
start-up of the processes, on any. Prints Markdown tables. Some minutes:
python benchmarks/bench_annotate.py [--candidates 20000]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from describer_server.many import TRAITS  # noqa: E402
from describer_server.running import RunningServer, describer_server  # noqa: E402

from sae_traits.traits.ledger import Ledger, LedgerEntry  # noqa: E402

IN_FLIGHT = 64
SECONDS_BETWEEN_LOOKS = 0.5
FAULTS = dict.fromkeys(("error", "busy", "truncated", "malformed", "dropped"), 0.02)


@contextmanager
def annotation(folder: Path, server: RunningServer, n_candidates: int):
    """A process that describes candidates until the block ends."""
    options = {"class": "Server", "model": "m", "base_url": server.base_url, "in_flight": IN_FLIGHT}
    script = TESTS / "describer_server" / "many.py"
    command = [sys.executable, str(script), str(folder), str(n_candidates // TRAITS), json.dumps(options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tree_bytes(pid: int) -> int:
    """Memory of a process and of its workers; pages that they share are counted once."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(proportional_bytes(int(one)) for one in (pid, *children))


def proportional_bytes(pid: int) -> int:
    """Proportional set size of a process, 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def steady_rate(n_candidates: int, latency: float) -> tuple[float, float]:
    """Calls a second from a quarter of the calls to nine tenths, and milliseconds of processor time a call."""
    with tempfile.TemporaryDirectory() as folder, describer_server(latency=latency) as server:
        seen = []
        with annotation(Path(folder), server, n_candidates) as process:
            while process.poll() is None:
                seen.append((time.monotonic(), server.n_requests()))
                time.sleep(SECONDS_BETWEEN_LOOKS)
            assert process.stdout is not None
            cpu_seconds = json.loads(process.stdout.read())["cpu_seconds"]
        steady = [(when, n) for when, n in seen if n_candidates / 4 <= n <= n_candidates * 0.9]
        (begun, first), (ended, last) = steady[0], steady[-1]
        return (last - first) / (ended - begun), 1000 * cpu_seconds / n_candidates


def survive(n_candidates: int, n_kills: int) -> dict[str, str]:
    """Describe candidates with faults and kills; what came of them."""
    with tempfile.TemporaryDirectory() as name, describer_server(faults=FAULTS, retry_after=0.5) as server:
        folder, peak, started = Path(name), 0, time.monotonic()
        n_asked: dict[str, int] = {}
        # by key of each call that was seen answered: how often it had been asked then
        requests: dict[str, list[str]] = {}
        calls: list[LedgerEntry] = []
        for kill in range(1, n_kills + 2):
            target = n_candidates * kill / (n_kills + 1) if kill <= n_kills else float("inf")
            with annotation(folder, server, n_candidates) as process:
                while process.poll() is None and server.n_requests() < target:
                    peak = max(peak, tree_bytes(process.pid))
                    time.sleep(SECONDS_BETWEEN_LOOKS)
            time.sleep(1)  # requests that the killed process had sent
            requests = server.requests()
            with Ledger(folder / "ledger.sqlite") as ledger:
                calls = list(ledger)
            for call in calls:
                if call.state == "ok":
                    n_asked.setdefault(call.key, len(requests[call.key]))
        seconds = time.monotonic() - started
        states = Counter(call.state for call in calls)
        reasons = Counter(str(call.error).split("(")[0].strip() for call in calls if call.state != "ok")
        statistics = server.statistics()
    return {
        "candidates": f"{n_candidates:,}",
        "kills": str(n_kills),
        "requests": f"{statistics['n_requests']:,}",
        "faults": ", ".join(f"{n} {kind}" for kind, n in statistics["outcomes"].items() if kind != "ok"),
        "answered": f"{states['ok']:,}",
        "quarantined": ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none",
        "still open": str(sum(call.is_open for call in calls) + n_candidates - len(calls)),
        "asked again after their answer was kept": str(sum(len(requests[key]) != n for key, n in n_asked.items())),
        "peak memory, workers included": f"{peak / 1e6:.0f} MB",
        "seconds": f"{seconds:.0f}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=20_000, help="for the run with faults and kills")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| latency of the server | in flight | at most | calls/s in steady state | share | processor time a call |")
    print("| --- | --- | --- | --- | --- | --- |")
    (rate, cpu), ideal = steady_rate(2000, latency=2.0), IN_FLIGHT / 2.0
    print(f"| 2 s | {IN_FLIGHT} | {ideal:.0f} | {rate:.1f} | {rate / ideal:.0%} | {cpu:.1f} ms |", flush=True)
    rate, cpu = steady_rate(4000, latency=0.0)
    print(f"| 0 s | {IN_FLIGHT} | | {rate:.0f} | | {cpu:.1f} ms |\n", flush=True)
    print("| faults and kills | |\n| --- | --- |")
    for name, value in survive(arguments.candidates, n_kills=3).items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
