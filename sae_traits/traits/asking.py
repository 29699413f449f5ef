"""Have calls answered: pictures are prepared in worker processes, answers are waited for in one event loop.

A call is pending in the ledger before it is sent, and what came of it is recorded as soon as it is there. Nothing
grows with the number of calls: what is prepared waits in a short queue until a describer has room for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import chain

from sae_traits.describers import Answer, Ask, Describer, Question
from sae_traits.errors import DescriberError
from sae_traits.logging import say, track
from sae_traits.traits.calls import Call
from sae_traits.traits.describing import Prepared, prepare_calls, worker_pool
from sae_traits.traits.ledger import MAXIMUM_ATTEMPTS, Ledger, Outcome

TASKS_A_WORKER = 2
"""Tasks handed to each worker in advance, so that it never waits for the next one."""


async def answer_calls(
    tasks: Iterator[list[Call]], n_calls: int, describer: Describer, ledger: Ledger, *, workers: int
) -> None:
    """Ask the describer all calls, each until its answer is valid or it was asked MAXIMUM_ATTEMPTS times.

    When the describer gives up, everything so far is in the ledger, the rest stays open, and one line says why.

    Args:
        tasks: calls that are prepared together; empty lists let other work have its turn.
        n_calls: in all tasks together, for the progress.
        describer: who answers.
        ledger: where calls and answers are kept.
        workers: processes that prepare pictures.

    Raises:
        DescriberError: the describer cannot answer from the start.
        StoreError: another process is asking for the same ledger, or the ledger cannot be read or written.
    """
    with ledger.asking(), worker_pool(workers) as pool:
        async with describer.open() as ask:
            flow = _Flow(describer, ledger, ask, n_calls)
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
                say(f"stopped: {stopped.exceptions[0]}; what was answered is kept")


@dataclass
class _Flow:
    """One producer and `in_flight` consumers around a queue of prepared calls; None is the end for one consumer."""

    describer: Describer
    ledger: Ledger
    ask: Ask
    n_calls: int
    queue: asyncio.Queue[Prepared | None] = field(init=False)
    ticks: Iterator[int] = field(init=False)
    under_way: set[str] = field(default_factory=set)
    """Keys that are being asked; the same image may be in a collection twice."""

    def __post_init__(self) -> None:
        self.queue = asyncio.Queue(self.describer.in_flight * self.describer.batch_size)
        self.ticks = track(range(self.n_calls), "describe", self.n_calls, "call")
        next(self.ticks)  # starts the clock

    async def prepare(self, tasks: Iterator[list[Call]], pool: Executor, workers: int) -> None:
        """Hand tasks to the workers, a few in advance, and queue what they prepared."""
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Future[list[Prepared]]] = set()
        for calls in tasks:
            if not calls:
                await asyncio.sleep(0)
                continue
            waiting.add(loop.run_in_executor(pool, prepare_calls, self.describer.look, calls))
            if len(waiting) >= workers * TASKS_A_WORKER:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                await self._enqueue(done)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            await self._enqueue(done)
        for _ in range(self.describer.in_flight):
            await self.queue.put(None)

    async def _enqueue(self, done: set[asyncio.Future[list[Prepared]]]) -> None:
        try:
            found = [future.result() for future in done]
        except BrokenProcessPool as error:
            raise DescriberError(
                "a process that prepares pictures was killed, perhaps for want of memory; give the same command "
                "again with fewer --describe-workers"
            ) from error
        for prepared in chain.from_iterable(found):
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
                    attempts[outcome.key] += 1
                    lost = waiting[outcome.key].error is not None
                    if outcome.state == "ok" or lost or attempts[outcome.key] >= MAXIMUM_ATTEMPTS:
                        del waiting[outcome.key]
        finally:
            self.under_way -= attempts.keys()

    async def _attempt(self, prepared: list[Prepared]) -> list[Outcome]:
        """Ask calls once; those whose image cannot be read have failed without asking."""
        keys = [p.call.key for p in prepared]
        measurements = {key: value for p in prepared for key, value in (p.measurements or {}).items()}
        self.ledger.begin((p.call.identity for p in prepared), measurements)
        readable = [p for p in prepared if p.error is None]
        started = time.perf_counter()
        try:
            questions = [Question(p.call.key, p.looks, p.call.species) for p in readable]
            answers = await self.ask(questions) if questions else []
        except BaseException:  # stopped or interrupted: the calls are not to blame
            self.ledger.release(keys)
            raise
        seconds = (time.perf_counter() - started) / max(len(readable), 1)
        found = [_outcome(p.call.key, a, seconds) for p, a in zip(readable, answers, strict=True)]
        return found + [Outcome(key=p.call.key, state="failed", error=p.error) for p in prepared if p.error is not None]


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
