"""The answers of models: what they must look like, and how they are read from what a model wrote.

Where a server enforces the JSON schema an answer is the JSON object and nothing else. Where it does not, the object is
looked for in the text; as a last resort lines of the form `colour: brown` are read. Whatever was read is validated.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from sae_traits.schema import Attribute, Description

MAX_TEXT = 400
"""Characters; a sentence on one region is some hundred, and a model that rambles is cut off far above."""
MAX_ATTRIBUTES = 16
_NOTHING = frozenset({"", "none", "null", "n/a", "na", "unknown", "not visible", "unclear"})
_SPELLINGS = {"color": "colour", "markings": "marking", "shapes": "shape", "sizes": "size", "colours": "colour"}
_ATTRIBUTE_NAMES = frozenset({"shape", "size", "colour", "texture", "marking", "pattern"})
_LINE = re.compile(r"^[\s*#>-]*([A-Za-z_ ]{2,30}?)[\s*]*:[\s*]*(.+?)[\s*]*$")
_OBJECT = re.compile(r"\{")

Line = Annotated[str, StringConstraints(strip_whitespace=True)]
# Names and docstrings of the next two classes are part of the JSON schema, and so of every key of the ledger.


class AnswerError(ValueError):
    """An answer cannot be used; the message is the reason, for the ledger."""


class SaidAttribute(BaseModel):
    """One thing seen."""

    model_config = ConfigDict(extra="forbid")
    name: Line
    value: Line


class RegionAnswer(BaseModel):
    """What a model is asked to answer; also the JSON schema that a server holds it to.

    The decision on background stands first, so that what follows is written in its light.
    """

    model_config = ConfigDict(extra="forbid")
    is_background: bool
    part: Line | None
    attributes: list[SaidAttribute]
    text: Line


def answer_schema() -> dict[str, Any]:
    """The JSON schema of an answer."""
    return RegionAnswer.model_json_schema()


def schema_hash(schema: dict[str, Any]) -> str:
    """First 16 hexadecimal digits of the sha256 of a JSON schema."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]


def read_answer(text: str) -> Description:
    """The description in what a model wrote.

    Raises:
        AnswerError: there is no answer in it, or one that says nothing or too much.
    """
    answer = _parse(text)
    words = " ".join(answer.text.split())
    if not words and not answer.is_background:
        raise AnswerError("the sentence is empty")
    if len(words) > MAX_TEXT:
        raise AnswerError(f"the sentence has {len(words)} characters, more than {MAX_TEXT}")
    attributes = tuple(
        Attribute(_spell(a.name), " ".join(a.value.split()))
        for a in answer.attributes
        if a.name and a.value.lower() not in _NOTHING
    )
    if len(attributes) > MAX_ATTRIBUTES:
        raise AnswerError(f"there are {len(attributes)} attributes, more than {MAX_ATTRIBUTES}")
    part = None if answer.part is None or answer.part.lower() in _NOTHING else " ".join(answer.part.split())
    return Description(text=words, part=part, attributes=attributes, is_background=answer.is_background)


def _parse(text: str) -> RegionAnswer:
    reason = "there is no JSON object in the answer"
    for value in _json_objects(text):
        try:
            return RegionAnswer.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            reason = f"the JSON object does not fit the schema: {where}: {first['msg']}"
    if (lines := _read_lines(text)) is not None:
        return lines
    raise AnswerError(reason)


def _json_objects(text: str) -> list[dict[str, Any]]:
    """Every outermost JSON object in a text, in order; what stands around them, such as code fences, is passed over."""
    decoder = json.JSONDecoder()
    objects, end = [], 0
    for brace in _OBJECT.finditer(text):
        if brace.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, brace.start())
        except (ValueError, RecursionError):
            continue
        objects.append(value)
    return objects


def _read_lines(text: str) -> RegionAnswer | None:
    """An answer in lines of `name: value`, as small models write them; None unless background and text are among them.

    The names are those of the JSON object (background may be called so, and text description or sentence); shape,
    size, colour, texture, marking and pattern are attributes; other lines are passed over.
    """
    fields: dict[str, str] = {}
    attributes = []
    for line in text.splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        name, value = _spell(match[1]), match[2].strip("\"' ,")
        if name in _ATTRIBUTE_NAMES:
            attributes.append(SaidAttribute(name=name, value=value))
        else:
            fields.setdefault(name, value)
    background = fields.get("is_background", fields.get("background", "")).lower().rstrip(".")
    sentence = fields.get("text", fields.get("description", fields.get("sentence")))
    if sentence is None or background not in {"yes", "no", "true", "false"}:
        return None
    return RegionAnswer(
        is_background=background in {"yes", "true"}, part=fields.get("part"), attributes=attributes, text=sentence
    )


def _spell(name: str) -> str:
    """An attribute's name as the dataset spells it."""
    name = " ".join(name.lower().split())
    return _SPELLINGS.get(name, name)
