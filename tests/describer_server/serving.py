"""An OpenAI-compatible server of chat completions that misbehaves as it is told, in a process of its own.

`python serving.py --settings '{"faults": {"malformed": 0.05}, "latency": 2}'` prints one line of JSON with its address.
Which request meets which fault depends on its body and on how often that body came, so a test can be repeated.
`GET /count`, `/statistics` and `/requests` say what came; `POST /settings` changes Settings while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, Literal

Fault = Literal[
    "error", "busy", "truncated", "malformed", "garbage", "html", "empty", "hollow", "refused", "filtered", "surrogate",
    "dropped", "stalled", "forbidden",
]  # fmt: skip
"""A 500; a 429 with Retry-After; an answer cut off by max_tokens; one without any JSON; a body that is no JSON; a web
page with success; a completion without choices, and with a choice without a message; a refusal; an answer withheld by
a content filter; one that is no Unicode; a connection that is closed without a reply; a reply that comes too late; a
403 that concerns one picture."""
COLOURS = ("black", "brown", "orange", "yellow", "white", "blue")


@dataclass(frozen=True)
class Settings:
    """How the server behaves."""

    latency: float = 0.0
    """Seconds before each reply."""
    faults: dict[Fault, float] = field(default_factory=dict)
    """Probability of each."""
    retry_after: float = 0.2
    """Seconds that a 429 asks for."""
    stall: float = 30.0
    """Seconds that a stalled reply takes."""
    schema: Literal["enforced", "ignored", "refused"] = "enforced"
    """What becomes of `response_format`; refused: a 400."""
    refused_parameters: list[str] = field(default_factory=list)
    """Parameters that get a 400, as OpenAI's newer models give one for max_tokens and temperature."""
    down: bool = False
    """Every request gets a 503 without a Retry-After."""
    reply: dict[str, Any] | list[Any] | None = None
    """What every request but the probe gets instead of an answer."""
    status: int = 200
    """With which `reply` comes."""
    key: str | None = None
    """The only key that is let in."""


class DescriberServer:
    """The behaviour, and the record of what came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.outcomes: dict[str, list[str]] = defaultdict(list)
        """By hash of the body: what each request got; `ok` is a whole and valid answer."""
        self.client_ids: dict[str, list[str]] = defaultdict(list)
        """The same by the header X-Client-Request-Id."""
        self.times: dict[str, list[float]] = defaultdict(list)
        self.parameters: set[str] = set()
        """Of all requests that were not refused for one."""
        self.n_requests = self.n_probes = 0
        self.in_flight = self.most_in_flight = 0

    async def complete(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """The reply to a chat request: status, headers and body; None where the connection is to be dropped."""
        settings = self.settings
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._complete(settings, headers, body)
        finally:
            self.in_flight -= 1

    async def _complete(
        self, settings: Settings, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes] | None:
        request = json.loads(body)
        schema = request.get("response_format", {}).get("json_schema", {}).get("schema")
        is_probe = "x-client-request-id" not in headers
        name = hashlib.sha256(body).hexdigest()
        fault = None if is_probe else self._fault(name, len(self.outcomes[name]))
        if (refusal := _refusal(settings, headers, request)) is not None:
            return refusal
        self.parameters |= request.keys()
        if is_probe:
            self.n_probes += 1
        else:
            self.n_requests += 1
            self.outcomes[name].append(fault or "ok")
            self.client_ids[headers["x-client-request-id"]].append(fault or "ok")
            self.times[name].append(time.monotonic())
        await asyncio.sleep(settings.stall if fault == "stalled" else settings.latency)
        if fault == "dropped":
            return None
        if fault == "error":
            return _error(500, "something broke")
        if fault == "forbidden":
            return _error(403, "your input was flagged by moderation")
        if settings.reply is not None and not is_probe:
            return settings.status, {}, json.dumps(settings.reply).encode()
        if fault == "busy":
            return _error(429, "too many requests", {"Retry-After": str(settings.retry_after)})
        if fault in ("garbage", "html"):
            return 200, {"Content-Type": "text/html"} if fault == "html" else {}, b"<html>Bad Gateway</html>"
        if schema is not None and settings.schema == "enforced":
            content = json.dumps(_instance(schema, schema, random.Random(name)))
        else:
            content = "It is orange all over." if is_probe else _chatty(name)
        return 200, {}, json.dumps(_spoilt(_completion(request["model"], content), fault)).encode()

    def _fault(self, name: str, n_before: int) -> Fault | None:
        draw = random.Random(f"{name} {n_before}").random()
        for fault, probability in self.settings.faults.items():
            if draw < probability:
                return fault
            draw -= probability
        return None

    def statistics(self) -> dict[str, Any]:
        """What came so far."""
        return {
            "n_requests": self.n_requests,
            "n_bodies": len(self.outcomes),
            "n_probes": self.n_probes,
            "parameters": sorted(self.parameters),
            "most_in_flight": self.most_in_flight,
            "outcomes": Counter(chain.from_iterable(self.outcomes.values())),
            "again_after_ok": sum(len(o) - 1 - o.index("ok") for o in self.outcomes.values() if "ok" in o),
            "soonest_after_busy": min(
                (
                    times[i + 1] - times[i]
                    for name, times in self.times.items()
                    for i, outcome in enumerate(self.outcomes[name][:-1])
                    if outcome == "busy"
                ),
                default=None,
            ),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests until the client closes it."""
        try:
            # A client goes away between two requests or in the middle of one; that ends the connection, and no more.
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while (reply := await self._next_reply(reader)) is not None:
                    status, headers, body = reply
                    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | headers
                    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                    writer.write(f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body)
                    await writer.drain()
        finally:
            writer.transport.abort()

    async def _next_reply(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes] | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        _, path, _ = first.split(" ")
        if path == "/v1/chat/completions":
            return await self.complete(headers, body)
        if path == "/settings":
            self.settings = replace(self.settings, **json.loads(body))
            return 200, {}, b"{}"
        if path == "/count":
            return 200, {}, json.dumps(self.n_requests).encode()
        if path == "/requests":
            return 200, {}, json.dumps(self.client_ids).encode()
        if path == "/statistics":
            return 200, {}, json.dumps(self.statistics()).encode()
        return _error(404, f"there is nothing at {path}")


def _refusal(
    settings: Settings, headers: dict[str, str], request: dict[str, Any]
) -> tuple[int, dict[str, str], bytes] | None:
    """The reply to a request that is not let in, whatever it asks."""
    if settings.key is not None and headers.get("authorization") != f"Bearer {settings.key}":
        return _error(401, f"wrong key: {headers.get('authorization')}")  # some servers do repeat it
    if settings.down:
        return _error(503, "out of order")
    if "response_format" in request and settings.schema == "refused":
        return _error(400, "response_format is not supported")
    for name in settings.refused_parameters:
        if name in request:
            return _error(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name)
    return None


def _error(
    status: int, message: str, headers: dict[str, str] | None = None, param: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    error = {"message": message, "type": "test", "param": param}
    return status, headers or {}, json.dumps({"error": error}).encode()


def _spoilt(completion: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
    """A completion with what a fault makes of it."""
    choice = completion["choices"][0]
    content = choice["message"]["content"]
    if fault == "malformed":
        choice["message"]["content"] = "I am sorry, I cannot see a picture."
    if fault == "surrogate":
        choice["message"]["content"] = f"\ud83d {content[:-1]}"
    if fault == "truncated":
        choice |= {"message": {"role": "assistant", "content": content[: len(content) // 2]}, "finish_reason": "length"}
    if fault == "refused":
        choice["message"] |= {"content": None, "refusal": "I cannot help with that."}
    if fault == "filtered":
        choice |= {"message": {"role": "assistant", "content": ""}, "finish_reason": "content_filter"}
    if fault == "hollow":
        del choice["message"]
    return completion | ({"choices": []} if fault == "empty" else {})


def _completion(model: str, content: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 700, "completion_tokens": 60, "total_tokens": 760},
    }


def _chatty(name: str) -> str:
    """An answer as models write it when nothing holds them to a schema."""
    colour = random.Random(name).choice(COLOURS)
    answer = {
        "is_background": False,
        "part": "wing",
        "attributes": [{"name": "color", "value": colour}],
        "text": f"A {colour} wing {{with a brace}}.",
    }
    return f"Sure! Here is the description:\n```json\n{json.dumps(answer, indent=1)}\n```\nI hope this helps."


def _instance(schema: dict[str, Any], root: dict[str, Any], draw: random.Random) -> Any:
    """A value that fits a JSON schema, as constrained decoding would write one."""
    if "$ref" in schema:
        return _instance(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, draw)
    if "anyOf" in schema:
        return _instance(schema["anyOf"][0], root, draw)
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if schema["type"] == "object":
        return {name: _instance(field, root, draw) for name, field in schema["properties"].items()}
    if schema["type"] == "array":
        return [_instance(schema["items"], root, draw) for _ in range(2)]
    if schema["type"] == "boolean":
        return draw.random() < 0.1
    return f"{draw.choice(COLOURS)} {draw.randrange(1000)}"


async def run(settings: Settings, port: int) -> None:
    """Serve until killed; the address is the first line of stdout."""
    behaviour = DescriberServer(settings)
    server = await asyncio.start_server(behaviour.serve, "127.0.0.1", port, limit=2**20)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--settings", default="{}", help=f"JSON with {', '.join(f.name for f in fields(Settings))}")
    arguments = parser.parse_args()
    try:
        asyncio.run(run(Settings(**json.loads(arguments.settings)), arguments.port))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
