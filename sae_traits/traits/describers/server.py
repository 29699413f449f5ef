"""The describer `server`: a model behind any OpenAI-compatible server, such as `vllm serve`.

The key is read from the environment variable OPENAI_API_KEY by the client, and kept nowhere else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from sae_traits.errors import DescriberError
from sae_traits.progress import say
from sae_traits.traits.answers import answer_schema
from sae_traits.traits.describers import Answer, Ask, Question
from sae_traits.traits.describers.canary import MAX_TOKENS, canary_messages, canary_schema, was_enforced
from sae_traits.traits.describers.model import ModelDescriber
from sae_traits.traits.describers.patience import Breaker, Patience, Trouble, retry_after

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI
    from openai.types.chat import ChatCompletion

CANARIES = 3
"""How often the canary is asked: one answer that fits proves the schema, one that does not may have been bad luck."""
WITHOUT_KEY = "none"
"""Sent where OPENAI_API_KEY is not set; servers of one's own do not look at it."""


@dataclass(frozen=True, kw_only=True)
class Server(ModelDescriber):
    """A model behind an OpenAI-compatible server."""

    name = "server"
    batch_size = 1

    @property
    def in_flight(self) -> int:
        """Calls that are waited for at the same time."""
        return self.config.in_flight

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """Connect, and prove with the canary that the model answers and whether the schema is enforced.

        Raises:
            DescriberError: the server cannot be reached, refuses the key, or does not serve the model.
        """
        from openai import AsyncOpenAI

        key = os.environ.get("OPENAI_API_KEY") or WITHOUT_KEY
        # Trying again is done here, where errors are counted over all calls.
        client = AsyncOpenAI(
            base_url=self.config.base_url, api_key=key, timeout=self.config.call_timeout, max_retries=0
        )
        async with client:
            session = _Session(self, client, Breaker(self.config.stop_after_errors))
            await session.prove_schema()
            yield session.ask


class _NoAnswerError(Exception):
    """A request was given up; the message is the reason."""


class _RefusedError(_NoAnswerError):
    """The server says that the request itself is wrong."""


class _TroubleError(Exception):
    """A request came to nothing, and may be sent again."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble


@dataclass
class _Session:
    """A connection to a server, with what is known about it."""

    describer: Server
    client: AsyncOpenAI
    breaker: Breaker
    enforces_schema: bool = False
    random: Random = field(default_factory=Random)

    async def prove_schema(self) -> None:
        """Ask the canary; without an enforced schema, say so once."""
        for _ in range(CANARIES):
            try:
                found = await self._complete(canary_messages(), "canary", canary_schema(), MAX_TOKENS)
            except _RefusedError as error:
                await self._prove_chat(error)
                break
            except _NoAnswerError as error:
                raise DescriberError(f"{self._where} does not answer: {error}") from error
            if was_enforced(found.choices[0].message.content or ""):
                self.enforces_schema = True
                return
        say(
            f"{self._where} does not enforce the JSON schema of answers: they are read from its text, and asked for "
            "again where they do not fit; a server that enforces it, such as vLLM's, wastes none"
        )

    async def _prove_chat(self, refusal: _RefusedError) -> None:
        """After a refused canary: ask it without a schema, which some servers do not take."""
        try:
            await self._complete(canary_messages(), "canary", None, MAX_TOKENS)
        except _NoAnswerError as error:
            raise DescriberError(
                f"{self._where} refuses a chat with a picture: {refusal}; choose a model that takes pictures"
            ) from error

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to questions; one each time, since many are in flight.

        Raises:
            DescriberError: the server is out of order, or refuses the key or the model.
        """
        return [await self._answer(question) for question in questions]

    async def _answer(self, question: Question) -> Answer:
        schema = answer_schema() if self.enforces_schema else None
        try:
            found = await self._complete(
                self.describer.messages(question), "answer", schema, self.describer.config.max_tokens, key=question.key
            )
        except _NoAnswerError as error:
            return Answer(description=None, raw="", error=str(error), failed=True)
        choice = found.choices[0]
        usage = {}
        if found.usage is not None:
            usage = {"prompt_tokens": found.usage.prompt_tokens, "completion_tokens": found.usage.completion_tokens}
        raw = choice.message.content or choice.message.refusal or ""
        return self.describer.interpret(raw, is_cut_off=choice.finish_reason == "length", usage=usage)

    async def _complete(
        self,
        messages: list[dict[str, Any]],
        schema_name: str,
        schema: dict[str, Any] | None,
        max_tokens: int,
        key: str | None = None,
    ) -> ChatCompletion:
        """Send one request, again and again where the server has trouble, with growing pauses.

        Raises:
            _NoAnswerError: it was given up.
            DescriberError: the breaker opened, or the server refuses the key or the model.
        """
        patience = Patience(self.breaker, self.random)
        while True:
            try:
                found = await self._send(messages, _response_format(schema_name, schema), max_tokens, key)
                self.breaker.succeeded()
                return found
            except _TroubleError as error:
                trouble = error.trouble
            if (seconds := patience.pause_after(trouble)) is None:
                raise _NoAnswerError(f"{trouble.reason} (given up after {patience.n_errors} errors)")
            await asyncio.sleep(seconds)

    async def _send(
        self, messages: list[dict[str, Any]], response_format: Any, max_tokens: int, key: str | None
    ) -> ChatCompletion:
        """One request.

        Raises:
            _TroubleError: it may be sent again.
            _RefusedError: it is wrong itself, and would be refused again.
            DescriberError: the server refuses the key or the model, whatever the request.
        """
        import openai
        from openai.types.chat import ChatCompletion

        try:
            found = await self.client.chat.completions.create(
                model=self.describer.model_name,
                messages=messages,  # pyright: ignore[reportArgumentType]
                temperature=self.describer.config.temperature,
                max_tokens=max_tokens,
                response_format=openai.omit if response_format is None else response_format,
                extra_headers=None if key is None else {"X-Client-Request-Id": key},
            )
        except openai.APIStatusError as error:
            raise self._status_error(error) from error
        except openai.APIError as error:  # no connection, a time-out, a reply that breaks off
            raise _TroubleError(Trouble(_one_line(error.message))) from error
        except ValueError as error:
            raise _TroubleError(Trouble(f"the reply is not JSON: {_one_line(str(error))}")) from error
        if not isinstance(found, ChatCompletion) or not found.choices:
            raise _TroubleError(Trouble("the reply is not a chat completion"))
        return found

    def _status_error(self, error: APIStatusError) -> Exception:
        """What a reply other than success means: a wrong key or model concerns all calls, a bad request this one."""
        status, reason = error.status_code, _one_line(error.message).removeprefix("Error code: ")
        if status in (401, 403):
            return DescriberError(f"{self._where} refuses the key; set OPENAI_API_KEY ({reason})")
        if status == 404:
            return DescriberError(
                f"{self._where} is not there; see --describer-model and --base-url, which ends in /v1 ({reason})"
            )
        if status < 500 and status not in (408, 409, 425, 429):
            self.breaker.failed(reason)
            return _RefusedError(reason)
        seconds = retry_after(error.response.headers)
        return _TroubleError(Trouble(reason, status == 429 or seconds is not None, seconds or 0.0))

    @property
    def _where(self) -> str:
        return f"{self.describer.model_name} at {self.describer.config.base_url}"


def _response_format(name: str, schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def _one_line(message: str) -> str:
    """A message on one line, and not a whole page of a proxy."""
    return " ".join(message.split())[:300]
