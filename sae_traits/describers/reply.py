"""What is read of a server's reply to a chat, whatever else is in it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from sae_traits.describers.model import sound_text


def _sound(value: Any) -> Any:
    return sound_text(value) if isinstance(value, str) else value


class Message(BaseModel):
    """What the model said, or that it would not."""

    content: Annotated[str | None, BeforeValidator(_sound)] = None
    refusal: Annotated[str | None, BeforeValidator(_sound)] = None


class Choice(BaseModel):
    """One answer and why it ends there."""

    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    """What the request cost."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Reply(BaseModel):
    """A chat completion. The openai client reads replies without checking them: nothing in them can be relied on."""

    choices: Annotated[list[Choice], Field(min_length=1)]
    usage: Usage | None = None

    @property
    def said(self) -> str:
        """What the model said."""
        return self.choices[0].message.content or ""

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer ends because it became too long."""
        return self.choices[0].finish_reason == "length"

    @property
    def refusal(self) -> str | None:
        """Why there is no answer although the request was in order."""
        if (reason := self.choices[0].message.refusal) is not None:
            return f"the model refuses to answer: {reason}"
        if self.choices[0].finish_reason == "content_filter":
            return "the answer was withheld by the server's content filter"
        return None

    @property
    def counted(self) -> dict[str, int]:
        """What the request cost, for the ledger; empty where nothing was counted."""
        return {} if self.usage is None else self.usage.model_dump(exclude_none=True)
