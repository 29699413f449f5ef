"""The describer `server`: a model behind any OpenAI-compatible server, such as `vllm serve`.

The key is read from the environment variable OPENAI_API_KEY by the client, and kept nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from sae_traits.config.describer import Server, without_password
from sae_traits.describers.base import Answer, Ask, Question
from sae_traits.describers.model import ModelDescriber, sound_text
from sae_traits.describers.patience import Breaker, Patience, Trouble
from sae_traits.describers.structured_output_probe import probe_messages, probe_schema, was_enforced
from sae_traits.errors import DescriberError, one_line, without_secrets
from sae_traits.io import retry_after
from sae_traits.logging import say

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

N_PROBES = 3
"""How often the probe is sent: one answer that fits proves the schema, one that does not may have been bad luck."""
WITHOUT_KEY = "none"
"""Sent where OPENAI_API_KEY is not set; servers of one's own do not look at it."""
REPLACEABLE = ("max_tokens", "temperature")
"""Parameters that some models refuse: OpenAI's newer ones take max_completion_tokens, and their own temperature."""


@dataclass(frozen=True, kw_only=True)
class ServerDescriber(ModelDescriber):
    """A model behind an OpenAI-compatible server."""

    name: ClassVar = "server"
    batch_size: ClassVar = 1
    config: Server

    @property
    def in_flight(self) -> int:
        return self.config.in_flight

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """Connect, and prove with the probe that the model answers and whether the schema is enforced.

        Raises:
            DescriberError: the server cannot be reached, refuses the key, or does not serve the model.
        """
        from openai import AsyncOpenAI, Timeout

        config = self.config
        # httpx or httpx2, as openai is older or newer.
        http = import_module(Timeout.__init__.__module__.partition(".")[0])
        try:
            # Trying again is done here, where errors are counted over all calls.
            unopened = AsyncOpenAI(base_url=config.base_url, api_key=_key(), timeout=config.call_timeout, max_retries=0)
        except (ImportError, ValueError, http.InvalidURL) as error:
            raise DescriberError(
                f"the proxy of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: {one_line(error)}"
            ) from error
        async with unopened as client:
            session = _Session(self, client, Breaker(config.max_consecutive_errors))
            await session.prove_schema()
            yield self.doubting(session.ask)


def _key() -> str:
    """The key of the environment; a DescriberError where no request can be sent with it."""
    key = os.environ.get("OPENAI_API_KEY", "").strip() or WITHOUT_KEY
    if not (key.isascii() and key.isprintable()):
        raise DescriberError("OPENAI_API_KEY has a line break or a letter that no key has; set it again")
    return key


class _NoAnswerError(Exception):
    """A request was given up; the message is the reason."""


class _RefusedError(_NoAnswerError):
    """The server says that the request itself is wrong."""


@dataclass
class _Session:
    """A connection to a server, with what is known about it."""

    describer: ServerDescriber
    client: AsyncOpenAI
    breaker: Breaker
    enforces_schema: bool = False
    refused: set[str] = field(default_factory=set)
    """Of the REPLACEABLE parameters, those that the server said it does not take."""
    has_answered: bool = False
    """Then the key is right, and the address."""
    random: Random = field(default_factory=Random)

    async def prove_schema(self) -> None:
        """Send the probe; without an enforced schema, say so once."""
        cut_off = ""
        for _ in range(N_PROBES):
            try:
                reply = await self._complete(probe_messages(), "structured_output_probe", probe_schema())
            except _RefusedError as error:
                await self._prove_chat(error)
                break
            except _NoAnswerError as error:
                raise DescriberError(
                    f"{self._where} does not answer: {error}; start the server, or say where it is with --base-url"
                ) from error
            if was_enforced(reply.text):
                self.enforces_schema = True
                return
            if reply.is_cut_off:  # a model that thinks first may not have come to its answer
                cut_off = f" (cut off after {self.describer.config.max_tokens} tokens; --max-tokens allows more)"
        say(
            f"{self._where} does not enforce the JSON schema of answers{cut_off}: they are read from its text, and "
            "asked for again where they do not fit; a server that enforces it, such as vLLM's, wastes none"
        )

    async def _prove_chat(self, refusal: _RefusedError) -> None:
        """After a refused probe: send it without a schema, which some servers do not take."""
        try:
            await self._complete(probe_messages(), "structured_output_probe", None)
        except _NoAnswerError as error:
            raise DescriberError(
                f"{self._where} refuses a chat with a picture: {refusal}; choose a model that takes pictures"
            ) from error

    async def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to questions; one each time, since many are in flight."""
        return [await self._answer(question) for question in questions]

    async def _answer(self, question: Question) -> Answer:
        schema = self.describer.form.schema if self.enforces_schema else None
        try:
            reply = await self._complete(self.describer.messages(question), "answer", schema, key=question.key)
        except _NoAnswerError as error:
            return Answer(description=None, raw="", error=str(error), failed=True)
        if (reason := reply.refusal) is not None:
            return Answer(description=None, raw=without_secrets(reply.text), usage=reply.counted, error=_short(reason))
        thought = reply.choices[0].message.thought
        if thought.strip() and not reply.text.strip():
            reason = (
                "the answer is empty, and its reasoning is not: it was cut off, or the server takes the answer for "
                "reasoning (vLLM: --reasoning-parser); raise --max-tokens, or see to the server"
            )
            return Answer(description=None, raw=without_secrets(thought), usage=reply.counted, error=reason)
        if not reply.text.strip() and not reply.is_cut_off:
            reason = f"the answer is empty, and ended as {reply.choices[0].finish_reason!r}; see to the server"
            return Answer(description=None, raw="", usage=reply.counted, error=_short(reason))
        return self.describer.interpret(reply.text, is_cut_off=reply.is_cut_off, usage=reply.counted)

    async def _complete(
        self, messages: list[dict[str, Any]], name: str, schema: dict[str, Any] | None, key: str | None = None
    ) -> _Reply:
        """Send one request, again and again where the server has trouble, with growing pauses."""
        patience = Patience(self.breaker, self.random)
        strict = {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
        while True:
            try:
                reply = await self._send(messages, strict if schema is not None else None, key)
                self.breaker.succeeded()
                self.has_answered = True
                return reply
            except Trouble as trouble:
                if (seconds := patience.pause_after(trouble)) is None:
                    raise _NoAnswerError(f"{trouble.reason} (given up after {patience.n_errors} errors)") from trouble
            await asyncio.sleep(seconds)

    async def _send(self, messages: list[dict[str, Any]], response_format: Any, key: str | None) -> _Reply:
        """One request, and once more without each parameter that the server refuses."""
        import openai

        sampling = self._sampling()
        create: Any = self.client.chat.completions.create
        try:
            completion = await create(
                model=self.describer.config.model,
                messages=messages,
                **sampling,
                response_format=openai.omit if response_format is None else response_format,
                extra_headers=None if key is None else {"X-Client-Request-Id": key},
            )
        except openai.APIStatusError as error:
            if (parameter := _refused_parameter(error, sampling)) is not None:
                if parameter == "temperature" and parameter not in self.refused:
                    say(f"{self._where} takes no --temperature: its answers are drawn with its own")
                self.refused.add(parameter)
                return await self._send(messages, response_format, key)
            seconds = retry_after(error.response.headers)
            raise self._error_of(error.status_code, _reason_of(error), seconds) from error
        except openai.APIError as error:  # no connection, a time-out, a reply that breaks off
            raise Trouble(_short(error.message)) from error
        except ValueError as error:
            raise Trouble(f"the reply is not JSON: {_short(str(error))}") from error
        try:
            reply = _Reply.model_validate(completion, from_attributes=True)
        except ValidationError as error:
            # Some servers, and services in front of them, say what is wrong in a reply of success.
            reason, code = _words_of_error(completion)
            if reason and not isinstance(completion, str):
                raise self._error_of(code, reason) from error
            page = f": {reason}" if reason else ""
            raise Trouble(f"the reply is not a chat completion{page}") from error
        if reply.choices[0].error is not None:
            reason, code = _words_of_error(reply.choices[0])
            raise self._error_of(code, reason or "an error without words")
        return reply

    def _sampling(self) -> dict[str, Any]:
        """How the model is to write, in parameters that the server has not refused."""
        config = self.describer.config
        sampling: dict[str, Any] = {} if "temperature" in self.refused else {"temperature": config.temperature}
        tokens = "max_completion_tokens" if "max_tokens" in self.refused else "max_tokens"
        return sampling | {tokens: config.max_tokens}

    def _error_of(self, status: int | None, reason: str, seconds: float | None = None) -> Exception:
        """What an error means: a wrong key or model concerns all calls, a bad request this one, the rest passes."""
        if status == 401 or (status == 403 and not self.has_answered):
            return DescriberError(f"{self._where} refuses the key; set OPENAI_API_KEY ({reason})")
        if status == 404:
            return DescriberError(
                f"{self._where} is not there; see --describer-model and --base-url, which ends in /v1 ({reason})"
            )
        if status is not None and 400 <= status < 500 and status not in (408, 409, 425, 429):
            self.breaker.failed()
            self.breaker.check(reason)
            return _RefusedError(reason)
        return Trouble(reason, status == 429 or seconds is not None, seconds or 0.0)

    @property
    def _where(self) -> str:
        return f"{self.describer.config.model} at {without_password(self.describer.config.base_url)}"


def _refused_parameter(error: APIStatusError, sent: dict[str, Any]) -> str | None:
    """The REPLACEABLE parameter that a reply says it does not support, if it was sent."""
    message = _reason_of(error).lower()
    if error.status_code != 400 or "support" not in message:
        return None
    return next((name for name in REPLACEABLE if name in sent and name in (error.param or message)), None)


def _reason_of(error: APIStatusError) -> str:
    """Status and words of an error; the client itself keeps only words that stand where OpenAI has them."""
    words, _ = _words_of_error(error.body)
    return f"{error.status_code} - {words}" if words else str(error.status_code)


def _short(message: str) -> str:
    """A message on one line, and not a whole page of a proxy."""
    return one_line(sound_text(message), max_length=300)


def _words_of_error(reply: Any) -> tuple[str, int | None]:
    """What a reply says in the place of an answer, and the code that goes with it; nothing where it says nothing."""
    if isinstance(reply, list):  # as Gemini's servers send it
        reply = reply[0] if reply else None
    if isinstance(reply, str):
        return _short(reply), None
    values = reply if isinstance(reply, dict) else {name: getattr(reply, name, None) for name in _ERROR_FIELDS}
    for value in map(values.get, _ERROR_FIELDS):
        if isinstance(value, dict):
            code = value.get("code", value.get("status"))
            status = int(str(code)) if re.fullmatch(r"[45]\d\d", str(code)) else None
            return _short(str(value.get("message") or value)), status
        if value:
            return _short(str(value)), None
    return "", None


def _text_of(content: Any) -> Any:
    """Content as one text: of content in parts those that are text, without the model's thinking."""
    if isinstance(content, list):
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in _TEXT_PARTS]
        content = "".join(text for text in texts if isinstance(text, str))
    if isinstance(content, dict):  # the answer itself, read already
        content = json.dumps(content)
    return sound_text(content) if isinstance(content, str) else content


SoundText = Annotated[str | None, BeforeValidator(_text_of)]
_TEXT_PARTS = ("text", "output_text")
_ERROR_FIELDS = ("error", "errors", "detail", "message")
_CUT_OFF = ("length", "max_tokens")
"""Reasons of a cut-off answer: OpenAI's, and that of others, in capital letters or not."""


def _if_it_fits(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """What is not needed: None where it is not as it should be."""
    try:
        return validate(value)
    except ValidationError:
        return None


class _Message(BaseModel):
    """What the model said, or that it would not."""

    content: SoundText = None
    refusal: SoundText = None
    reasoning_content: SoundText = None
    reasoning: SoundText = None

    @property
    def thought(self) -> str:
        return self.reasoning_content or self.reasoning or ""


class _Choice(BaseModel):
    """One answer and why it ends there."""

    message: _Message
    finish_reason: str | None = None
    error: Any = None


class _Usage(BaseModel):
    """What the request cost."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    """A chat completion. The openai client reads replies without checking them: nothing in them can be relied on."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Annotated[_Usage | None, WrapValidator(_if_it_fits)] = None

    @property
    def text(self) -> str:
        """What the model said; the reasoning where that is empty, and the reasoning nothing but a JSON object."""
        message = self.choices[0].message
        if message.content and message.content.strip():
            return message.content
        thought = message.thought.strip()
        return thought if thought.startswith("{") and thought.endswith("}") else message.content or ""

    @property
    def is_cut_off(self) -> bool:
        return (self.choices[0].finish_reason or "").lower() in _CUT_OFF

    @property
    def refusal(self) -> str | None:
        """Why there is no answer although the request was in order."""
        reason = (self.choices[0].message.refusal or "").strip()
        if reason:  # some servers send an empty one with every answer
            return f"the model refuses to answer: {reason}"
        if self.choices[0].finish_reason == "content_filter":
            return "the answer was withheld by the server's content filter"
        return None

    @property
    def counted(self) -> dict[str, int]:
        """What the request cost, for the ledger; empty where nothing was counted."""
        return {} if self.usage is None else self.usage.model_dump(exclude_none=True)
