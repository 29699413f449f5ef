"""Batches of prepared images from worker processes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import torch
from tiny_collections import PatchMeans, make_collection

from sae_traits.features.loading import prepared_batches


class KilledAtTheThird(PatchMeans):
    """Kills the process that it is called in, as the system does when memory is full."""

    def __init__(self):
        self.n_calls = 0

    def __call__(self, image):
        self.n_calls += 1
        if self.n_calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image)


_KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_loading import KilledAtTheThird
from tiny_collections import make_collection
from sae_traits.features.loading import prepared_batches
if __name__ == "__main__":
    collection = make_collection(Path(sys.argv[1]), 8)
    list(prepared_batches(collection, range(8), KilledAtTheThird(), batch_size=1, workers=1))
"""


def test_a_worker_that_is_killed_is_explained(tmp_path):
    # In a process of its own: once a worker is killed, torch raises at any line of the process that had started it.
    script = tmp_path / "script.py"
    script.write_text(_KILLED.format(tests=str(Path(__file__).parent)))
    done = subprocess.run([sys.executable, script, tmp_path / "images"], capture_output=True, text=True, check=False)
    # Also while Python prints the traceback: then it shows the error in another way, as StoreError('a process …').
    assert re.search(r"StoreError\W+a process that reads images was killed, .* choose fewer --workers", done.stderr)


def test_batches_come_in_the_order_of_the_rows(tmp_path):
    collection = make_collection(tmp_path, 5)
    one, two = (
        list(prepared_batches(collection, [4, 0, 2], PatchMeans(), batch_size=2, workers=workers)) for workers in (0, 2)
    )
    assert [len(batch) for batch in one] == [2, 1]
    assert all(torch.equal(mine, other) for mine, other in zip(one, two, strict=True))
    assert not torch.equal(one[0][0], one[0][1])
