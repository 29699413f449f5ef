"""The structured-output probe: one question at the start that shows whether answers are held to a JSON schema.

Servers that do not know `response_format`, or no longer know how it was written, answer with success and ignore it.
So the probe asks for plain words and for a schema that plain words cannot fit: an answer that fits was enforced. Its
picture also shows that the model takes pictures at all.
"""

from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from sae_traits.describers.view import encode_picture

WORDS = "What colour is this picture? Answer in one plain English sentence of at least five words."
_SIDE = 64


class ProbeAnswer(BaseModel):
    """What the schema asks of the model."""

    model_config = ConfigDict(extra="forbid")
    structured_output: Literal["works", "holds"]


def probe_messages() -> list[dict[str, Any]]:
    """A chat with one small orange picture."""
    url = encode_picture(Image.new("RGB", (_SIDE, _SIDE), (230, 159, 0)))
    content = [{"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": content}]


def probe_schema() -> dict[str, Any]:
    """The JSON schema that the plain words cannot fit."""
    return ProbeAnswer.model_json_schema()


def was_enforced(raw: str) -> bool:
    """Whether an answer to the probe fits its schema."""
    try:
        ProbeAnswer.model_validate_json(raw)
    except ValidationError:
        return False
    return True
