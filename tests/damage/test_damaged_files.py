"""Every file of a run deleted, cut or with a bit flipped: healed, refused in one line, or named; never silent."""

from __future__ import annotations

import pytest
from damage.matrix import EARLIER, FAULTS, Bench, cells, check_all_damage, harmed, table
from damage.tiny_run import files_of

pytestmark = pytest.mark.slow

OFTEN = [
    ("sae/model.safetensors", "flipped", "run", "healed"),
    ("traits/traits.parquet", "cut", "annotate", "healed"),
    ("traits/traits.parquet", "flipped", "evaluate", "refused"),
    ("traits/ledger.sqlite", "flipped", "evaluate", "noticed or healed"),
    ("traits/captions.parquet", "cut", "caption", "healed"),
    ("traits/captions.parquet", "flipped", "publish", "refused"),
    ("traits/captions.sqlite", "flipped", "caption", "noticed or healed"),
    ("evaluation/results.json", "flipped", "publish", "refused"),
    ("sae/config.json", "rotten", "publish", "refused"),
    ("config.yaml", "deleted", "run", "noticed"),
    ("steps.json", "deleted", "run", "noticed"),
]
"""One cell of each kind; all of them take half an hour.

The bit of a ledger may lie in a time, which makes no difference to what a run comes to; it is named all the same.
"""


@pytest.mark.parametrize(("file", "harm", "command", "outcome"), OFTEN)
def test_a_damaged_file_is_healed_refused_or_named(made: Bench, file: str, harm: str, command: str, outcome: str):
    cell = harmed(made, file, harm, command, made.undisturbed(command))
    assert cell.outcome in outcome.split(" or "), cell
    assert cell.named or "noticed" not in outcome, cell


@pytest.mark.parametrize("command", EARLIER)
def test_no_damage_is_silent_and_none_ends_in_a_traceback(made: Bench, command: str):
    check_all_damage(made, command)


def test_what_a_disk_changes_and_leaves_its_time_is_not_published(made: Bench):
    found = list(cells(made, files_of(made.finished), ["publish"], ["rotten"]))
    # What is neither read nor sent, such as embeddings and ledgers, keeps its changed bit, and nobody is told.
    assert not [cell for cell in found if cell.outcome in FAULTS and not cell.published], table(found)
    assert not [cell for cell in found if cell.outcome == "traceback"], table(found)
