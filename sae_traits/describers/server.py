"""The describer `server`: a model behind any OpenAI-compatible server, such as `vllm serve`.

The key is read from the environment variable OPENAI_API_KEY by the client, and kept nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sae_traits.describers import Answer, Ask, Question
from sae_traits.describers.answers import answer_schema
from sae_traits.describers.model import ModelDescriber, sound_text
from sae_traits.describers.patience import Breaker, Patience, Trouble, retry_after
from sae_traits.describers.reply import Reply
from sae_traits.describers.structured_output_probe import canary_messages, canary_schema, was_enforced
from sae_traits.errors import DescriberError
from sae_traits.logging import say

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

CANARIES = 3
"""How often the canary is asked: one answer that fits proves the schema, one that does not may have been bad luck."""
WITHOUT_KEY = "none"
"""Sent where OPENAI_API_KEY is not set; servers of one's own do not look at it."""
REPLACEABLE = ("max_tokens", "temperature")
"""Parameters that some models refuse: OpenAI's newer ones take max_completion_tokens, and their own temperature."""


@dataclass(frozen=True, kw_only=True)
class Server(ModelDescriber):
    """A model behind an OpenAI-compatible server."""

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


class _ParameterError(Exception):
    """The server refuses one of the REPLACEABLE parameters; the message is its name."""


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
    refused: set[str] = field(default_factory=set)
    """Of the REPLACEABLE parameters, those that the server said it does not take."""
    random: Random = field(default_factory=Random)

    async def prove_schema(self) -> None:
        """Ask the canary; without an enforced schema, say so once."""
        cut_off = ""
        for _ in range(CANARIES):
            try:
                reply = await self._complete(canary_messages(), "canary", canary_schema())
            except _RefusedError as error:
                await self._prove_chat(error)
                break
            except _NoAnswerError as error:
                raise DescriberError(
                    f"{self._where} does not answer: {error}; start the server, or say where it is with --base-url"
                ) from error
            if was_enforced(reply.said):
                self.enforces_schema = True
                return
            if reply.is_cut_off:  # a model that thinks first may not have come to its answer
                cut_off = f" (cut off after {self.describer.config.max_tokens} tokens; --max-tokens allows more)"
        say(
            f"{self._where} does not enforce the JSON schema of answers{cut_off}: they are read from its text, and "
            "asked for again where they do not fit; a server that enforces it, such as vLLM's, wastes none"
        )

    async def _prove_chat(self, refusal: _RefusedError) -> None:
        """After a refused canary: ask it without a schema, which some servers do not take."""
        try:
            await self._complete(canary_messages(), "canary", None)
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
            reply = await self._complete(self.describer.messages(question), "answer", schema, key=question.key)
        except _NoAnswerError as error:
            return Answer(description=None, raw="", error=str(error), failed=True)
        if reply.refusal is not None:
            return Answer(description=None, raw=reply.said, usage=reply.counted, error=_one_line(reply.refusal))
        return self.describer.interpret(reply.said, is_cut_off=reply.is_cut_off, usage=reply.counted)

    async def _complete(
        self,
        messages: list[dict[str, Any]],
        schema_name: str,
        schema: dict[str, Any] | None,
        key: str | None = None,
    ) -> Reply:
        """Send one request, again and again where the server has trouble, with growing pauses.

        Raises:
            _NoAnswerError: it was given up.
            DescriberError: the breaker opened, or the server refuses the key or the model.
        """
        patience = Patience(self.breaker, self.random)
        while True:
            try:
                reply = await self._send(messages, _response_format(schema_name, schema), key)
                self.breaker.succeeded()
                return reply
            except _ParameterError as error:
                self._do_without(str(error))
                continue
            except _TroubleError as error:
                trouble = error.trouble
            if (seconds := patience.pause_after(trouble)) is None:
                raise _NoAnswerError(f"{trouble.reason} (given up after {patience.n_errors} errors)")
            await asyncio.sleep(seconds)

    async def _send(self, messages: list[dict[str, Any]], response_format: Any, key: str | None) -> Reply:
        """One request.

        Raises:
            _TroubleError: it may be sent again.
            _ParameterError: it may be sent again without this parameter.
            _RefusedError: it is wrong itself, and would be refused again.
            DescriberError: the server refuses the key or the model, whatever the request.
        """
        import openai

        sampling = self._sampling()
        create: Any = self.client.chat.completions.create
        try:
            found = await create(
                model=self.describer.model_name,
                messages=messages,
                **sampling,
                response_format=openai.omit if response_format is None else response_format,
                extra_headers=None if key is None else {"X-Client-Request-Id": key},
            )
        except openai.APIStatusError as error:
            if (refused := _refused_parameter(error, sampling)) is not None:
                raise _ParameterError(refused) from error
            raise self._status_error(error) from error
        except openai.APIError as error:  # no connection, a time-out, a reply that breaks off
            raise _TroubleError(Trouble(self._without_key(error.message))) from error
        except ValueError as error:
            raise _TroubleError(Trouble(f"the reply is not JSON: {_one_line(str(error))}")) from error
        try:
            return Reply.model_validate(found, from_attributes=True)
        except ValidationError as error:
            raise _TroubleError(Trouble("the reply is not a chat completion")) from error

    def _do_without(self, parameter: str) -> None:
        """Remember for all later requests that the server does not take a parameter."""
        if parameter == "temperature" and parameter not in self.refused:
            say(f"{self._where} takes no --temperature: its answers are drawn with its own")
        self.refused.add(parameter)

    def _sampling(self) -> dict[str, Any]:
        """How the model is to write, in parameters that the server has not refused."""
        config = self.describer.config
        sampling: dict[str, Any] = {} if "temperature" in self.refused else {"temperature": config.temperature}
        tokens = "max_completion_tokens" if "max_tokens" in self.refused else "max_tokens"
        return sampling | {tokens: config.max_tokens}

    def _status_error(self, error: APIStatusError) -> Exception:
        """What a reply other than success means: a wrong key or model concerns all calls, a bad request this one."""
        status, reason = error.status_code, self._without_key(error.message).removeprefix("Error code: ")
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
        address = re.sub(r"//[^/@]*@", "//…@", self.describer.config.base_url)  # there may be a password in it
        return f"{self.describer.model_name} at {address}"

    def _without_key(self, message: str) -> str:
        """A server's message on one line; some repeat the key that they refuse, and messages go into the ledger."""
        key = self.client.api_key
        return _one_line(message if key == WITHOUT_KEY else message.replace(key, "…"))


def _refused_parameter(error: APIStatusError, sent: dict[str, Any]) -> str | None:
    """The REPLACEABLE parameter that a reply says it does not support, if it was sent."""
    message = error.message.lower()
    if error.status_code != 400 or "support" not in message:
        return None
    return next((name for name in REPLACEABLE if name in sent and name in (error.param or message)), None)


def _response_format(name: str, schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def _one_line(message: str) -> str:
    """A message on one line, and not a whole page of a proxy."""
    return sound_text(" ".join(message.split())[:300])
