"""Have calls answered: pictures are prepared in worker processes, answers are waited for in one event loop.

A call is pending in the ledger before it is sent, and what came of it is recorded as soon as it is there. Nothing
grows with the number of calls: what is prepared waits in a short queue until a describer has room for it. A worker
process imports this module, which therefore imports no torch.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.describers import Answer, Ask, Describer, Look, Question
from sae_traits.errors import CollectionError, DescriberError, ImageError
from sae_traits.images.decode import decode_image, open_mask, read_image
from sae_traits.images.pictures import PictureCache, released_picture
from sae_traits.images.workers import worker_pool
from sae_traits.logging import track, warn
from sae_traits.schema import Measurement, Region
from sae_traits.traits.animals import Animal
from sae_traits.traits.calls import Call
from sae_traits.traits.ledger import MAX_ATTEMPTS, Ledger, Outcome
from sae_traits.traits.measures import measure
from sae_traits.traits.outlines import OUTLINED, outline_record

TASKS_PER_WORKER = 2
"""Tasks handed to each worker in advance, so that it never waits for the next one."""


@dataclass(frozen=True)
class Pictures:
    """Small pictures that are made while a photograph is open, for the dataset and for looking."""

    cache: PictureCache
    longest_side: int

    def lacking(self, calls: Sequence[Call]) -> frozenset[str]:
        """Hashes of the photographs of some calls that are larger and have no picture yet."""
        members = {m.sha256: m for call in calls for m in call.members if max(m.source) > self.longest_side}
        return frozenset(sha256 for sha256 in members if self.cache.get(sha256, self.longest_side) is None)


async def answer_calls(
    tasks: Iterator[list[Call]],
    n_calls: int,
    describer: Describer,
    ledger: Ledger,
    *,
    workers: int,
    pictures: Pictures | None = None,
) -> None:
    """Ask the describer all calls, each until its answer is valid or it was asked MAX_ATTEMPTS times.

    When the describer gives up, everything so far is in the ledger, the rest stays open, and one line says why.

    Args:
        n_calls: in all tasks together, for the progress.
        pictures: which are made of the photographs on the way; None makes none.

    Raises:
        DescriberError: the describer cannot answer from the start.
        StoreError: another process is asking for the same ledger, or the ledger cannot be read or written.
    """
    with ledger.asking(), worker_pool(workers) as pool:
        async with describer.open() as ask:
            flow = _Flow(describer, ledger, ask, n_calls, pictures)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(flow.prepare(tasks, pool, workers))
                    for _ in range(describer.in_flight):
                        group.create_task(flow.answer())
            except BaseExceptionGroup as errors:
                stopped, others = errors.split(DescriberError)
                if others is not None:
                    raise others.exceptions[0] from errors
                assert stopped is not None
                warn(f"stopped: {stopped.exceptions[0]}; what was answered is kept")
            else:
                if flow.n_unusable and not flow.n_usable:
                    warn(f"none of {flow.n_unusable:,} answers could be used, the last one because: {flow.reason}")


def _see_error(done: asyncio.Future[Any]) -> None:
    """Look at the error of what is done: where several end by the same one, only the first is raised."""
    if not done.cancelled():
        done.exception()


@dataclass
class _Flow:
    """One producer and `in_flight` consumers around a queue of prepared calls; None is the end for one consumer."""

    describer: Describer
    ledger: Ledger
    ask: Ask
    n_calls: int
    pictures: Pictures | None
    queue: asyncio.Queue[Prepared | None] = field(init=False)
    ticks: Iterator[int] = field(init=False)
    under_way: set[str] = field(default_factory=set)
    """Keys that are being asked; the same image may be in a collection twice."""
    n_usable: int = 0
    n_unusable: int = 0
    """Answers, as the usable ones; a call may have several."""
    reason: str | None = None
    """Why the last of these cannot be used."""

    def __post_init__(self) -> None:
        self.queue = asyncio.Queue(self.describer.in_flight * self.describer.batch_size)
        self.ticks = track(range(self.n_calls), "describe", self.n_calls, "call", self._note)
        next(self.ticks)  # starts the clock

    def _note(self) -> str:
        return f"{self.n_unusable} unusable" if self.n_unusable else ""

    async def prepare(self, tasks: Iterator[list[Call]], pool: Executor, workers: int) -> None:
        """Hand tasks to the workers, a few in advance, and queue what they prepared."""
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Future[list[Prepared]]] = set()
        for calls in tasks:
            wanted = self.pictures.lacking(calls) if self.pictures else frozenset[str]()
            side = self.pictures.longest_side if self.pictures else 0
            prepared = loop.run_in_executor(pool, prepare_calls, self.describer.look, calls, wanted, side)
            prepared.add_done_callback(_see_error)
            waiting.add(prepared)
            if len(waiting) >= workers * TASKS_PER_WORKER:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                await self._enqueue(done)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await self._enqueue(done)
        for _ in range(self.describer.in_flight):
            await self.queue.put(None)

    async def _enqueue(self, done: set[asyncio.Future[list[Prepared]]]) -> None:
        try:
            tasks = [future.result() for future in done]
        except BrokenProcessPool as error:
            raise DescriberError(
                "a process that prepares pictures was killed, perhaps for want of memory; give the same command "
                "again with fewer --describer-workers"
            ) from error
        for prepared in chain.from_iterable(tasks):
            for sha256, picture in prepared.pictures.items():
                assert self.pictures is not None
                self.pictures.cache.put(sha256, self.pictures.longest_side, picture)
            await self.queue.put(prepared)

    async def answer(self) -> None:
        """Take batches from the queue and see them through, until the end comes."""
        while (first := await self.queue.get()) is not None:
            batch = [first]
            while len(batch) < self.describer.batch_size and not self.queue.empty():
                if (another := self.queue.get_nowait()) is None:
                    self.queue.put_nowait(None)  # for this consumer, once the batch is done
                    break
                batch.append(another)
            await self._see_through(batch)
            for _ in batch:
                next(self.ticks, None)

    async def _see_through(self, batch: list[Prepared]) -> None:
        """Ask calls until each is answered or was asked often enough."""
        attempts = self.ledger.open_calls(p.call.key for p in batch if p.call.key not in self.under_way)
        waiting = {p.call.key: p for p in batch if p.call.key in attempts}
        self.under_way |= waiting.keys()
        try:
            while waiting:
                outcomes = await self._attempt(list(waiting.values()))
                self.ledger.record(outcomes)
                for outcome in outcomes:
                    self.n_usable += outcome.state == "ok"
                    if outcome.state == "invalid":
                        self.n_unusable, self.reason = self.n_unusable + 1, outcome.error
                    attempts[outcome.key] += 1
                    lost = waiting[outcome.key].error is not None
                    if outcome.state == "ok" or lost or attempts[outcome.key] >= MAX_ATTEMPTS:
                        del waiting[outcome.key]
        finally:
            self.under_way -= attempts.keys()

    async def _attempt(self, prepared: list[Prepared]) -> list[Outcome]:
        """Ask calls once; those whose image cannot be read have failed without asking."""
        measurements = {key: value for p in prepared for key, value in (p.measurements or {}).items()}
        self.ledger.begin((p.call.identity for p in prepared), measurements)
        readable = [p for p in prepared if p.error is None]
        started = time.perf_counter()
        questions = [Question(p.call.key, p.looks, p.call.species, p.call.told) for p in readable]
        answers = await self.ask(questions) if questions else []
        seconds = (time.perf_counter() - started) / max(len(readable), 1)
        outcomes = [_outcome(p.call.key, a, seconds) for p, a in zip(readable, answers, strict=True)]
        return outcomes + [
            Outcome(key=p.call.key, state="failed", error=p.error) for p in prepared if p.error is not None
        ]


def _outcome(key: str, answer: Answer, seconds: float) -> Outcome:
    return Outcome(
        key=key,
        state="failed" if answer.failed else "invalid" if answer.description is None else "ok",
        raw=answer.raw,
        description=None if answer.description is None else asdict(answer.description),
        usage=answer.usage,
        seconds=seconds,
        error=answer.error,
    )


def measure_answered(tasks: Sequence[list[Call]], ledger: Ledger, pool: Executor) -> None:
    """Measure the regions of calls that have an answer and no measurement; both are then in the ledger.

    These were described before, but not measured in this way: with the animal's mask, or without it any more. A model's
    answer does not depend on a mask, so it is kept and nobody is asked again; what is measured does.

    Raises:
        CollectionError: an image or a mask cannot be read any more.
    """
    calls = [call for task in tasks for call in task]
    measured = ledger.measurements([member.region_key for call in calls for member in call.members])
    lacking = {call.key for call in calls if any(member.region_key not in measured for member in call.members)}
    answered = {key for key, entry in ledger.entries(lacking).items() if entry.state == "ok"}
    unmeasured = [wanted for task in tasks if (wanted := [call for call in task if call.key in answered])]
    for prepared in chain.from_iterable(pool.map(partial(prepare_calls, _look_at_nothing), unmeasured)):
        if prepared.error is not None:
            raise CollectionError(f"{prepared.error}; it was described before, so put it back and try again")
        ledger.begin((), prepared.measurements or {})


def _look_at_nothing(
    image: NDArray[np.uint8], region: Region, measurement: Measurement, mask: NDArray[np.bool_] | None
) -> None:
    """The look of no describer, where a region is measured alone."""


@dataclass(frozen=True)
class Prepared:
    """A call with all that its describer needs, or the reason why there is nothing."""

    call: Call
    looks: tuple[Any, ...] = ()
    """What the describer's look made of each member."""
    measurements: dict[str, dict[str, Any]] | None = None
    """By the members' region keys, in pixels; with the outline, box and area of those that the image outlined."""
    error: str | None = None
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Hash of a photograph -> the picture that was made of it."""


def prepare_calls(
    look: Look, calls: Sequence[Call], wanted: frozenset[str] = frozenset(), longest_side: int = 0
) -> list[Prepared]:
    """Prepare calls that look at the same image, which is opened once, or a call that looks at several.

    Args:
        wanted: hashes of the photographs of which a picture is to be made.
        longest_side: of these pictures.
    """
    pictures: dict[str, bytes] = {}

    @lru_cache(maxsize=1)
    def pixels(path: Path, sha256: str) -> NDArray[np.uint8]:
        data = read_image(path)
        image = decode_image(data)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageError("has changed since the collection was read; put it back, or start a new run")
        if sha256 in wanted and sha256 not in pictures:
            pictures[sha256] = released_picture(image, longest_side)
        return np.asarray(image)

    @lru_cache(maxsize=1)
    def animal_of(mask: Path) -> Animal:
        return Animal.of(open_mask(mask))

    def prepare(call: Call) -> Prepared:
        looks, measurements = [], {}
        for member in call.members:
            try:
                image = pixels(member.image, member.sha256)
                animal = animal_of(member.mask) if member.mask else None
            except ImageError as error:
                return Prepared(call, error=f"{member.image}: {error}")
            region = member.outline(image, member.region) if member.outline else member.region
            measurement = measure(image, region, animal=animal)
            outlined = {OUTLINED: outline_record(region)} if member.outline else {}
            measurements[member.region_key] = asdict(measurement) | outlined
            looks.append(look(image, region, measurement, animal.mask if animal else None))
        made = {member.sha256: pictures.pop(member.sha256) for member in call.members if member.sha256 in pictures}
        return Prepared(call, tuple(looks), measurements, pictures=made)

    return [prepare(call) for call in calls]
