"""What can go wrong, as a tree. Every message says what happened, where, and what to do next.

SaeTraitsError
├── ConfigError        an option or a configuration file cannot be used
├── CollectionError    the images or their labels cannot be used
│   └── ImageError     one image cannot be used (the rest goes on)
├── BackboneError      the vision model or its layer cannot be used
├── StoreError         a file of a run is missing, truncated or of another run
├── CheckpointError    an SAE cannot be read, or does not fit its backbone
├── DescriberError     a describer cannot answer
└── ReleaseError       a dataset or model repository cannot be written or published
"""

import os

SECRETS = ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Variables of the environment whose values are never shown, logged or stored."""
MIN_SECRET = 8
"""Characters; what is shorter, such as `none`, keeps nobody out, and may stand in any text."""


class SaeTraitsError(Exception):
    """Base of all errors that sae-traits raises on purpose; the command line prints them as one line."""


class ConfigError(SaeTraitsError):
    """An option or a configuration file cannot be used."""


class CollectionError(SaeTraitsError):
    """The images or their labels cannot be used."""


class ImageError(CollectionError):
    """One image cannot be used; the message is the reason, without the path."""


class BackboneError(SaeTraitsError):
    """The vision model or its layer cannot be used."""


class StoreError(SaeTraitsError):
    """A file of a run is missing, truncated or belongs to another run."""


class CheckpointError(SaeTraitsError):
    """An SAE cannot be read, or does not fit its backbone."""


class DescriberError(SaeTraitsError):
    """A describer cannot answer."""


class ReleaseError(SaeTraitsError):
    """A dataset or model repository cannot be written or published."""


def secrets(*more: str | None) -> list[str]:
    """The values of SECRETS, and others, that keep somebody out; the longest first, which may contain the others."""
    values = {(value or "").strip() for value in (*map(os.environ.get, SECRETS), *more)}
    return sorted((value for value in values if len(value) >= MIN_SECRET), key=len, reverse=True)


def without_secrets(text: str) -> str:
    """Replace the value of each of SECRETS in a text by `…`: servers repeat keys that they refuse, and others too."""
    for value in secrets():
        text = text.replace(value, "…")
    return text


def one_line(error: Exception | str, *, max_length: int = 500) -> str:
    """The message of an error of another library, which may run over many lines, on one, and of bounded length."""
    # Of a message of huggingface_hub only what happened; what follows is advice about its own functions.
    what_happened = str(error).partition("An error happened while trying to locate the files on the Hub")[0]
    line = " ".join("".join(c if c.isprintable() else " " for c in without_secrets(what_happened)).split())
    if len(line) > max_length:
        line = line[: max_length - 1] + "…"
    return line or type(error).__name__
