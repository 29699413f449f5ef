"""Shards of a step: each by itself, complete or made again, and joined only when all are as they were written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

import pytest

from sae_traits.errors import CollectionError, ConfigError, StoreError
from sae_traits.io import sealed_json, write_text
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.lock import writing
from sae_traits.runs.record import Steps
from sae_traits.runs.shard_status import KILLED, ShardStatus
from sae_traits.runs.sharding import Part, Shard, ShardedStep, do_sharded, read_mark


@dataclass
class Numbers:
    """A step that writes ten numbers, each into a file of its own, and their sum."""

    folder: Path
    factor: int = 2
    broken: int | None = None
    made: list[int] = field(default_factory=list)

    def do(self, part: Part) -> None:
        factor = self.folder / "shards" / "encode" / "factor"

        def prepare() -> Iterator[Path]:
            write_text(factor, str(self.factor))
            yield factor

        def shard(part: Shard) -> Iterator[Path]:
            for number in part.share_of(10):
                if number == self.broken:
                    raise CollectionError(f"{number} cannot be read")
                path = self.folder / f"{number}.txt"
                if not path.is_file():
                    self.made.append(number)
                    write_text(path, str(number * int(factor.read_text())))
                yield path

        def join(files: dict[str, list]) -> dict[str, int]:
            total = sum(int((self.folder / name).read_text()) for name in files)
            write_text(self.folder / "sum.txt", str(total))
            return {"total": total}

        step = ShardedStep(
            name="encode", inputs={"factor": self.factor}, outputs=[self.folder / "sum.txt"],
            whole=dict, prepare=prepare, shard=shard, join=join,
        )  # fmt: skip
        do_sharded(Steps(self.folder / "steps.json", {"encode": ()}), RunFolder(self.folder), part, step)


@pytest.fixture
def numbers(tmp_path):
    return Numbers(tmp_path)


def status(numbers):
    return ShardStatus.of(RunFolder(numbers.folder), set())


def test_shards_are_joined_when_all_are_there(numbers):
    numbers.do("prepare")
    for number in (3, 1):
        numbers.do(Shard(number, 3))
    with pytest.raises(StoreError, match=r"1 are missing, unfinished or of other options: 2/3; see `sae-traits status"):
        numbers.do("merge")
    assert [state.state for state in status(numbers).shards] == ["done", "waiting", "done"]
    numbers.do(Shard(2, 3))
    numbers.do("merge")
    assert (numbers.folder / "sum.txt").read_text() == "90"
    assert Steps(numbers.folder / "steps.json", {"encode": ()}).counts("encode") == {"total": 90}


def test_what_is_left_of_a_step_in_shards_is_said(numbers):
    def left():
        return status(numbers).to_do("encode", Path("my run"))

    numbers.do("prepare")
    assert left() is None
    for number in range(1, 7):
        if number != 2:
            assert number == 1 or left().endswith(", then `sae-traits merge 'my run'`")
            numbers.do(Shard(number, 6))
    assert left() == "`sae-traits encode 'my run' --shard I/N` for 2/6, then `sae-traits merge 'my run'`"
    numbers.do(Shard(2, 6))
    assert left() == "`sae-traits merge 'my run'`"
    numbers.do("merge")
    assert ShardStatus.of(RunFolder(numbers.folder), {"encode"}).to_do("encode", Path("run")) is None


def test_a_merged_step_took_what_its_shards_took_together(numbers):
    numbers.do("prepare")
    for number in (1, 2):
        numbers.do(Shard(number, 2))
    numbers.do(Shard(1, 1))
    for name, seconds in ("prepared", 4), ("00001-of-00002", 20), ("00002-of-00002", 300), ("00001-of-00001", 7000):
        path = numbers.folder / "shards" / "encode" / f"{name}.json"
        write_text(path, sealed_json(read_mark(path) | {"seconds": seconds}))
    numbers.do("merge")
    record = Steps(numbers.folder / "steps.json", {"encode": ()}).records["encode"]
    assert record["seconds"] == pytest.approx(324, abs=5), "the shards that were joined, and no others"


def test_a_complete_shard_is_skipped_and_a_damaged_file_made_again(numbers, caplog):
    numbers.do("prepare")
    numbers.do(Shard(1, 1))
    with caplog.at_level("INFO", logger="sae_traits"):
        numbers.do(Shard(1, 1))
    assert "encode 00001-of-00001: complete, skipped" in caplog.text
    assert numbers.made == list(range(10))
    damaged = numbers.folder / "4.txt"
    state = damaged.stat()
    damaged.write_text("9")
    os.utime(damaged, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a disk damages it
    with pytest.raises(StoreError, match=r"4\.txt is missing or not as its shard wrote it"):
        numbers.do("merge")
    os.utime(damaged)
    numbers.do(Shard(1, 1))
    assert numbers.made[10:] == [4]
    numbers.do("merge")
    assert (numbers.folder / "sum.txt").read_text() == "90"


def test_a_failed_shard_says_why_and_goes_on_where_it_was(numbers):
    numbers.do("prepare")
    numbers.broken = 7
    with pytest.raises(CollectionError):
        numbers.do(Shard(2, 2))
    (waiting, failed) = status(numbers).shards
    assert (waiting.state, failed.state, failed.error) == ("waiting", "failed", "7 cannot be read")
    lines = status(numbers).lines()
    assert lines[0].split() == ["encode", "2", "shards:", "1", "failed,", "1", "waiting"]
    assert lines[1].split()[:2] == ["2/2", "failed"]
    assert lines[2].strip() == "7 cannot be read"
    numbers.broken = None
    numbers.do(Shard(2, 2))
    assert numbers.made == [5, 6, 7, 8, 9]


def test_what_runs_is_told_with_the_age_of_its_last_write(numbers):
    numbers.do("prepare")
    seen = []

    class Looking(Numbers):
        def look(self):
            path = self.folder / "shards" / "encode" / "00001-of-00001.json"
            os.utime(path, (1000, 1000))
            seen.extend(ShardStatus.of(RunFolder(self.folder), set(), now=1240).lines())
            with pytest.raises(StoreError, match="another process makes encode 00001-of-00001"):
                Numbers(self.folder).do(Shard(1, 1))
            with pytest.raises(StoreError, match="another process makes encode 00001-of-00001"), writing(self.folder):
                pass
            return 0

    looking = Looking(numbers.folder)
    looking.made = type("Once", (list,), {"append": lambda self, n: looking.look() if n == 0 else None})()
    looking.do(Shard(1, 1))
    assert seen[0].split() == ["encode", "1", "shards:", "1", "running"]
    assert "1/1 running on" in seen[1]
    assert seen[1].endswith("last write 4 min ago")


def test_a_shard_whose_process_was_killed_has_failed_and_is_made_again(numbers):
    numbers.do("prepare")
    child = os.fork()
    if child == 0:
        numbers.made = type("Killed", (list,), {"append": lambda self, n: n != 3 or os.kill(os.getpid(), SIGKILL)})()
        numbers.do(Shard(1, 2))
    os.waitpid(child, 0)
    (killed, waiting) = status(numbers).shards
    assert (killed.state, killed.error, waiting.state) == ("failed", KILLED, "waiting")
    assert status(numbers).lines()[0].split()[3:] == ["1", "failed,", "1", "waiting"]
    numbers.do(Shard(1, 2))
    assert numbers.made == [3, 4]
    assert status(numbers).shards[0].state == "done"


def test_of_another_machine_nothing_is_known_but_the_last_write(numbers, monkeypatch):
    numbers.do("prepare")
    numbers.broken = 0
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "node7")
        with pytest.raises(CollectionError):
            numbers.do(Shard(1, 1))
    path = numbers.folder / "shards" / "encode" / "00001-of-00001.json"
    write_text(path, sealed_json(read_mark(path) | {"state": "running"}))
    assert "1/1 running on node7, last write" in status(numbers).lines()[1]


def test_shards_that_were_not_prepared_or_for_other_options_are_refused(numbers):
    with pytest.raises(StoreError, match=r"is not there yet; `sae-traits encode .* --prepare` makes it"):
        numbers.do(Shard(1, 2))
    numbers.do("prepare")
    with pytest.raises(StoreError, match="prepared for other options"):
        Numbers(numbers.folder, factor=3).do(Shard(1, 2))
    numbers.do(Shard(1, 1))
    with pytest.raises(StoreError, match=r"of other options: 1/1"):
        Numbers(numbers.folder, factor=3).do("merge")
    assert len(status(numbers).shards) == 1
    Numbers(numbers.folder, factor=3).do("prepare")
    assert status(numbers).shards == ()


@pytest.mark.parametrize(("n", "count"), [(10, 3), (3, 7), (8, 8), (0, 2), (2932, 64)])
def test_shards_are_disjoint_balanced_and_complete(n, count):
    shares = [Shard(number, count).share_of(n) for number in range(1, count + 1)]
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_shards_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigError, match="--shard"):
        Shard.parse(text)


def test_a_run_without_shards_has_no_status(numbers):
    assert status(numbers).lines() == []
    with pytest.raises(StoreError, match="has no shards of the step 'encode'"):
        numbers.do("merge")
