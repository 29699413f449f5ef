"""Asking when the machine, not the describer, is what fails: one clear line, and everything kept."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from describer_server.many import TRAITS, ManyCandidates

from sae_traits.describers import Answer
from sae_traits.errors import StoreError
from sae_traits.schema import Description
from sae_traits.traits.annotate import describe_candidates
from sae_traits.traits.ledger import Ledger


@dataclass(frozen=True)
class Obliging:
    """Answers everything; its worker is killed when it looks at an image of this first red value."""

    deadly: int | None = None
    name, model, prompt, settings = "obliging", "none@1", "v1", ()
    names_species = reads_masks = False
    images_per_description = 1
    batch_size = in_flight = 2

    def look(self, image, region, measurement, mask):
        if image[0, 0, 0] == self.deadly:
            os._exit(9)  # as the kernel does when memory runs out
        return int(image[0, 0, 0])

    @asynccontextmanager
    async def open(self):
        yield self.ask

    async def ask(self, questions):
        text = Description(text="A part.")
        return [Answer(description=text, raw="{}") for _ in questions]


def describe(folder, describer, workers):
    with Ledger(folder / "ledger.sqlite") as ledger:
        describe_candidates(ManyCandidates(folder, 3), describer, ledger, workers=workers)  # pyright: ignore
        return Counter(call.state for call in ledger)


def test_a_worker_that_is_killed_stops_the_run_with_what_to_do(tmp_path, caplog):
    stopped = describe(tmp_path, Obliging(deadly=40), workers=2)
    assert "was killed, perhaps for want of memory; give the same command again with fewer --describer-workers" in (
        caplog.text
    )
    assert stopped["failed"] == stopped["invalid"] == 0
    assert describe(tmp_path, Obliging(), workers=1) == {"pending": 0, "ok": 3 * TRAITS, "invalid": 0, "failed": 0}


def test_a_ledger_that_another_run_asks_for_is_not_asked_for_twice(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as other:
        with other.asking(), pytest.raises(StoreError, match="another process is asking"):
            describe(tmp_path, Obliging(), workers=1)
        assert Counter(call.state for call in other)["ok"] == 0
    assert describe(tmp_path, Obliging(), workers=1)["ok"] == 3 * TRAITS
