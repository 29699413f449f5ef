"""Steps in shards: what comes out is what one process makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from steps.small_runs import CARD, content

from sae_traits.cli import main

MADE_IN_SHARDS = ("activations", "codes", "traits", "dataset")
KEPT_OF_CALLS = ("ledger.sqlite", "ledger.sqlite.lock", "pictures.sqlite", "pictures.sqlite-shm", "pictures.sqlite-wal")


def make(run: Path, step: str, n: int) -> None:
    """Prepare a step, make its shards, the last one first, and merge them."""
    assert main([step, str(run), "--prepare"]) == 0
    for number in range(n, 0, -1):
        assert main([step, str(run), "--shard", f"{number}/{n}"]) == 0
    assert main(["merge", str(run)]) == 0


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["annotate", "RUN", "--shard", "1/2", "--estimate"], "--estimate"),
        (["annotate", "RUN", "--prepare", "--estimate"], "--estimate"),
        (["extract", "RUN", "--shard", "1/2", "--out", "elsewhere"], "--out"),
    ],
)
def test_a_shard_is_neither_estimated_nor_made_elsewhere(finished, capsys, words, flag):
    assert main([str(finished) if word == "RUN" else word for word in words]) == 2
    assert f"{flag} does not go with --prepare and --shard" in capsys.readouterr().err
    assert not (finished / "shards").exists()


@pytest.mark.slow
def test_shards_of_a_step_can_be_made_anew_after_another_training(run, capsys):
    """Beside marks of the shards of a later step, which are of what was trained before."""
    for step in ("encode", "annotate"):
        make(run, step, 2)
    assert main(["train", str(run), "--k", "6", "--n-patches", "5000"]) == 0
    make(run, "encode", 2)
    assert main(["merge", str(run)]) == 0  # once more, which takes no notice of the former shards either
    assert "left alone" in capsys.readouterr().err
    make(run, "annotate", 2)


@pytest.mark.parametrize("n", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_shards_give_what_one_process_gives(finished, run, n, capsys):
    """Three feature shards: of two shards one has two of them, of seven four have none."""
    for name in MADE_IN_SHARDS:
        shutil.rmtree(run / name)
    for step in ("extract", "encode", "annotate"):
        make(run, step, n)
    for name in MADE_IN_SHARDS:
        without = (*KEPT_OF_CALLS, "faithfulness.json", CARD)
        made, expected = content(run / name, *without), content(finished / name, *without)
        if name == "codes":  # parts say what they were made of, so that a shard goes on where it was
            assert made.keys() == expected.keys()
        else:
            assert made == expected
    assert not list((run / "shards").rglob("*.sqlite"))
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [f"{step:9} {n} shards: {n} done; merged" for step in ("extract", "encode", "annotate")]
