"""The section `describer`: who describes the regions."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from sae_traits.config.options import check, check_at_least, check_positive, option
from sae_traits.errors import ConfigError, one_line


@dataclass(frozen=True, kw_only=True)
class DescriberConfig:
    """What all describers have in common."""

    workers: int = option(
        2, "Processes that measure regions and prepare their pictures.", flag="describer-workers", is_local=True
    )
    use_masks: bool = option(
        False,
        "Use the collection's masks to measure on the animal's pixels alone, and where on the animal a region lies; "
        "otherwise masks only score the regions.",
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "workers")


@dataclass(frozen=True, kw_only=True)
class RuleDescriberConfig(DescriberConfig):
    """What all describers without a model have in common: they are told no names, cost no money and little time."""

    names_species: ClassVar = False
    seconds_per_call: ClassVar[float] = 0.01
    """On one core."""
    prompt_price: ClassVar[float] = 0.0
    answer_price: ClassVar[float] = 0.0


@dataclass(frozen=True, kw_only=True)
class Measured(RuleDescriberConfig):
    """Colour, shape and texture read off the pixels; needs no model."""

    kind: Literal["measured"] = "measured"


@dataclass(frozen=True, kw_only=True)
class ModelDescriberConfig(DescriberConfig):
    """What all describers that ask a vision-language model have in common."""

    model: str = option(
        help="Model that describes: a local folder or a Hub id.",
        flag="describer-model",
        metavar="MODEL",
        is_path=True,
    )
    revision: str | None = option(
        None,
        "Branch, tag or commit of that model; for a server, what it runs.",
        flag="describer-revision",
        metavar="REVISION",
    )
    show: Literal["overlay", "crop", "both"] = option(
        "overlay", "What the model sees: the image with the region outlined, the region with its surroundings, or both."
    )
    prompt: Literal["region", "whole"] = option(
        "region", "region: describe the region; whole: the baseline, an image without any outline."
    )
    images_per_description: int = option(
        1, "Show this many individuals of a species in one call, and ask what they have in common at a latent."
    )
    name_species: bool = option(False, "Tell the model the species; what it then says may not be what it sees.")
    temperature: float = option(0.01, "Sampling temperature of the model; the paper used 0.01.")
    max_tokens: int = option(256, "Longest answer, in tokens; a longer one is cut off, and left out.")
    in_flight: int = option(64, "Calls under way at the same time.", is_local=True)
    max_consecutive_unusable: int = option(
        30,
        "Stop after this many answers in a row that cannot be used: cut off, refused, or not as asked for.",
        is_local=True,
    )
    seconds_per_call: float = option(2.0, "For --estimate: how long a call takes.", is_local=True)
    prompt_price: float = option(0.0, "For --estimate and the cards: price of a million prompt tokens.", is_local=True)
    answer_price: float = option(0.0, "For --estimate and the cards: price of a million answer tokens.", is_local=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "in_flight", "images_per_description", "max_tokens", "max_consecutive_unusable")
        check_at_least(0, self, "temperature", "prompt_price", "answer_price")
        check_positive(self, "seconds_per_call")
        check(
            self.images_per_description == 1 or self.prompt == "region",
            "--images-per-description needs --prompt region",
        )

    @property
    def names_species(self) -> bool:
        """Whether the describer is told the species."""
        return self.name_species


@dataclass(frozen=True, kw_only=True)
class Server(ModelDescriberConfig):
    """A model behind an OpenAI-compatible server, such as vLLM's."""

    kind: Literal["server"] = "server"
    model: str = option(
        help="Model that describes, by the name that the server gives it.", flag="describer-model", metavar="MODEL"
    )
    base_url: str = option(
        "http://localhost:8000/v1",
        "Address of the server; its key is read from the environment (OPENAI_API_KEY).",
        metavar="URL",
        is_local=True,
    )
    call_timeout: float = option(120.0, "Seconds after which a call to the server counts as failed.", is_local=True)
    max_consecutive_errors: int = option(
        20, "Stop where a call fails for good after this many errors of the server in a row.", is_local=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(1, self, "max_consecutive_errors")
        check_positive(self, "call_timeout")
        shown = re.sub(r".*@", "…@", self.base_url)  # of what is no address nobody knows where a password ends
        check(
            _is_web_address(self.base_url),
            f"--base-url is the address of a server, such as http://localhost:8000/v1, not {shown!r}",
        )


def without_password(address: str) -> str:
    """An address without the name and the password that may be in it, which may hold an @ itself."""
    return re.sub(r"//[^/?#]*@", "//…@", address)


def _is_web_address(text: str) -> bool:
    """Whether a text is an http or https address with a host, and a port that is a number."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not re.search(r"\s", text)
        )
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class VLLM(ModelDescriberConfig):
    """vLLM in this process."""

    DECIDED: ClassVar = ("model", "revision", "seed", "limit_mm_per_prompt", "hf_token")
    """Options of the engine that follow from others; the token is HF_TOKEN."""

    kind: Literal["vllm"] = "vllm"
    options: tuple[str, ...] = option(
        (),
        "Option of vLLM's engine, such as tensor_parallel_size=4, max_model_len=8192 or dtype=bfloat16; may be given "
        "several times.",
        flag="vllm-option",
        metavar="NAME=VALUE",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.options:
            name, equals, _ = text.partition("=")
            check(bool(name and equals), f"--vllm-option is NAME=VALUE, not {text!r}")
            check(name not in self.DECIDED, f"--vllm-option {name} is decided by other options of the describer")
        _ = self.engine_options

    @property
    def engine_options(self) -> dict[str, Any]:
        """The options by name; a value is a number, a truth value, null, a list, a mapping or text, as in YAML."""
        pairs = (text.partition("=")[::2] for text in self.options)
        return {name: _engine_value(name, value) for name, value in pairs}


def _engine_value(name: str, text: str) -> Any:
    """Read the value of an option of vLLM's engine; what JSON has no word for, such as a date, is text."""
    import yaml

    from sae_traits.config.yaml_files import load_yaml

    try:
        value = load_yaml(text, name)
        json.dumps(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--vllm-option {name} cannot be read, as in YAML: {one_line(error)}") from error
    except (TypeError, ValueError):
        return text
    return value


@dataclass(frozen=True, kw_only=True)
class Transformers(ModelDescriberConfig):
    """A LLaVA-type model of transformers in this process."""

    kind: Literal["transformers"] = "transformers"
    device: str = option(
        "auto",
        "Where a model of transformers runs: auto, cpu, cuda, cuda:1 or mps.",
        flag="describer-device",
        metavar="DEVICE",
        is_local=True,
    )


Describer = Measured | Server | VLLM | Transformers
