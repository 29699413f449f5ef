"""The answers of models: what they must look like, and how they are read from what a model wrote.

Where a server enforces the JSON schema an answer is the JSON object and nothing else. Where it does not, the object is
looked for in what stands after the model's thinking, of several that fit the last one; as a last resort lines of the
form `colour: brown` are read. Whatever was read is validated.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from unicodedata import category

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from sae_traits.errors import without_secrets
from sae_traits.schema import Attribute, Description

MAX_TEXT = 400
"""Characters; a sentence on one region is some hundred, and a model that rambles is cut off far above."""
MAX_ATTRIBUTES = 16
_NOTHING = frozenset({"", "none", "null", "n/a", "na", "unknown", "not visible", "unclear"})
_SPELLINGS = {"color": "colour", "markings": "marking", "shapes": "shape", "sizes": "size", "colours": "colour"}
_ATTRIBUTE_NAMES = frozenset({"shape", "size", "colour", "texture", "marking", "pattern"})
_LINE = re.compile(r"^[\s*#>-]*([A-Za-z_ ]{2,30}?)[\s*]*:[\s*]*(.+?)[\s*]*$")
_OBJECT = re.compile(r"\{")
_STRING_OR_BRACE = re.compile(r'"(?:\\.|[^"\\])*"|[{}]', re.DOTALL)
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', re.DOTALL)
_NAMES = "(?:[a-z]+[:_])?(?:think|thinking|thought|thoughts|reason|reasoning|reflection|scratchpad|analysis)"
"""Of some models with a word before it: seed:think, mm:think, longcat_think."""
_OPENING = re.compile(
    rf"<{_NAMES}(?:\s[^<>]*)?>|<\|(?:begin_of_|start_of_|start_)?{_NAMES}\|>|\[{_NAMES}\]|◁{_NAMES}▷|<unused94>"
    r"|<\|channel>\s*thought",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"</{_NAMES}\s*>|<\|(?:/|end_of_|end_){_NAMES}\|>|\[/{_NAMES}\]|◁/{_NAMES}▷|<unused95>|<channel\|>",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_CHANNEL_NAMES_ALONE = re.compile(r"\A\s*analysis(?:.*)assistant\s*final", re.DOTALL)
"""Where a server left out the marks of channels and kept their names."""
_ESCAPE_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_JOINERS = "\u200c\u200d"
"""Invisible, but some scripts are not spelt without them."""

Line = Annotated[str, StringConstraints(strip_whitespace=True)]
_Said = TypeVar("_Said", bound=BaseModel)
# Names and docstrings of the next three classes are part of the JSON schema, and so of every key of the ledger.


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


class CaptionAnswer(BaseModel):
    """What a model is asked to answer about a whole picture."""

    model_config = ConfigDict(extra="forbid")
    is_background: bool
    caption: Line


def schema_hash(schema: dict[str, Any]) -> str:
    """First 16 hexadecimal digits of the sha256 of a JSON schema."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]


def read_answer(text: str) -> Description:
    """The description in what a model wrote; an AnswerError where there is none, or it says nothing or too much."""
    answer = _parse(text, RegionAnswer, _read_lines)
    words = plain_line(answer.text)
    if _says_nothing(words) and not answer.is_background:
        raise AnswerError(f"the sentence is empty{words and f' ({words})'}")
    if len(words) > MAX_TEXT:
        raise AnswerError(f"the sentence has {len(words)} characters, more than {MAX_TEXT}")
    named = ((_spell(plain_line(a.name)), plain_line(a.value)) for a in answer.attributes)
    attributes = tuple(Attribute(name, value) for name, value in named if name and value.lower() not in _NOTHING)
    if len(attributes) > MAX_ATTRIBUTES:
        raise AnswerError(f"there are {len(attributes)} attributes, more than {MAX_ATTRIBUTES}")
    part = plain_line(answer.part or "")
    part = None if part.lower() in _NOTHING else part
    return Description(text=words, part=part, attributes=attributes, is_background=answer.is_background)


def read_caption(text: str) -> Description:
    """The caption in what a model wrote; an AnswerError where there is none. How long it may be is not judged here."""
    answer = _parse(text, CaptionAnswer)
    words = plain_line(answer.caption)
    if _says_nothing(words) and not answer.is_background:
        raise AnswerError(f"the caption is empty{words and f' ({words})'}")
    return Description(text=words, is_background=answer.is_background)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form of a describer's answers: the schema that a server holds them to, and what reads them."""

    schema: dict[str, Any]
    read: Callable[[str], Description]
    """Raises an AnswerError where an answer cannot be used."""


OF_REGIONS = AnswerForm(RegionAnswer.model_json_schema(), read_answer)
OF_CAPTIONS = AnswerForm(CaptionAnswer.model_json_schema(), read_caption)


def plain_line(text: str) -> str:
    """Put a text on one line, without secrets and what a reader cannot see: control, escape and bidi characters."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    kept = (" " if c.isspace() else c for c in text if c.isspace() or c in _JOINERS or category(c)[0] != "C")
    return without_secrets(" ".join("".join(kept).split()))


def _says_nothing(words: str) -> bool:
    """Whether what should be a sentence is a word such as `N/A`, or has no letter."""
    return words.lower().strip(" .") in _NOTHING or not any(map(str.isalnum, words))


def after_thinking(text: str) -> str:
    """What a model wrote after it had thought, by its own marks or channels; an AnswerError where it only thought."""
    channels = list(_CHANNEL.finditer(text))
    if channels:
        final = [channel for channel in channels if channel[1] == "final"]
        rest = re.split(r"<\|(?:end|return|start)\|>", text[final[-1].end() :])[0] if final else ""
    else:
        rest = _CHANNEL_NAMES_ALONE.sub("", text)
        while (closing := _CLOSING.search(rest)) is not None:
            opening = next(iter(_OPENING.finditer(rest, 0, closing.start())), None)
            rest = (rest[: opening.start()] if opening else "") + rest[closing.end() :]
        if (opening := _OPENING.search(rest)) is not None:
            rest = rest[: opening.start()]
    if text.strip() and not rest.strip():
        raise AnswerError("the model thought, and there is no JSON object in what follows; raise --max-tokens")
    return rest


def _parse(text: str, form: type[_Said], read_lines: Callable[[str], _Said | None] = lambda text: None) -> _Said:
    """The answer of a form in a text; `read_lines` is the last resort, where no JSON object fits."""
    try:
        return form.model_validate_json(text)
    except ValidationError:
        text = _unquoted(after_thinking(text))
    reason = ""
    for readable in (text, _TRAILING_COMMA.sub(lambda match: match[1] or "", text)):
        objects, broken = _json_objects(readable)
        for value in reversed(objects):
            for inner in (inner for inner in reversed(value.values()) if isinstance(inner, dict)):
                with suppress(ValidationError):  # {"answer": {…}}
                    return form.model_validate(inner)
            try:
                return form.model_validate(value)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(step) for step in first["loc"])
                reason = reason or f"the JSON object does not fit the schema: {where}: {first['msg']}"
        # What stands within a broken object does not say what is wrong with it.
        reason = f"there is no JSON object in the answer (a broken one: {broken})" if broken else reason
    if (lines := read_lines(text)) is not None:
        return lines
    raise AnswerError(reason or "there is no JSON object in the answer")


def _unquoted(text: str) -> str:
    """The text in a JSON string that is all of the text, as models write that encode twice; else the text."""
    try:
        value = json.loads(text, strict=False) if text.strip().startswith('"') else text
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def _json_objects(text: str) -> tuple[list[dict[str, Any]], str]:
    """Every JSON object in a text, in order, and what is wrong with a broken one that no whole one follows."""
    decoder = json.JSONDecoder(strict=False)  # a sentence may run over several lines
    objects, broken = [], ""
    end = end_of_broken = 0
    for brace in _OBJECT.finditer(text):
        start = brace.start()
        if start < end:
            continue
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            if start >= end_of_broken:
                broken = f"{error.msg} at character {error.pos - start + 1} of it"
                end_of_broken = _end_of_object(text, start)
        except ValueError:  # Python's own limit
            broken, end_of_broken = "it has a number of thousands of digits", _end_of_object(text, start)
        except RecursionError:
            continue
        else:
            objects.append(value)
            if start >= end_of_broken:
                broken = ""
    return objects, broken


def _end_of_object(text: str, start: int) -> int:
    """Behind the brace that closes the one at `start`, by counting; the end of the text where none does."""
    depth = 0
    for match in _STRING_OR_BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.end()
    return len(text)


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
