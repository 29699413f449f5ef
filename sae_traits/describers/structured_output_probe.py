"""The canary: one question at the start that shows whether a server holds answers to a JSON schema.

Servers that do not know `response_format`, or no longer know how it was written, answer with success and ignore it.
So the canary asks for plain words and for a schema that plain words cannot fit: an answer that fits was enforced. Its
picture also shows that the model takes pictures at all.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

WORDS = "What colour is this picture? Answer in one plain English sentence of at least five words."
_SIDE = 64


class CanaryAnswer(BaseModel):
    """What the schema asks of the canary."""

    model_config = ConfigDict(extra="forbid")
    canary: Literal["sings", "sleeps"]


def canary_messages() -> list[dict[str, Any]]:
    """A chat with one small orange picture."""
    file = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (230, 159, 0)).save(file, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    content = [{"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": content}]


def canary_schema() -> dict[str, Any]:
    """The JSON schema that the plain words cannot fit."""
    return CanaryAnswer.model_json_schema()


def was_enforced(raw: str) -> bool:
    """Whether an answer to the canary fits its schema."""
    try:
        CanaryAnswer.model_validate(json.loads(raw))
    except (ValueError, ValidationError):
        return False
    return True
