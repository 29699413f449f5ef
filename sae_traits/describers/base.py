"""What a describer is: anything that looks at a region of an image and says what it sees.

A describer has two halves, because pictures are prepared in worker processes and answers are waited for in one event
loop. Its `look` runs in a worker process and makes of a region what the describer needs of it: for a model the
pictures that it is shown, for `measured` the finished answer. What `open` gives runs in the event loop and turns one
look, or the looks at several images, into an answer.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sae_traits.schema import Description, Measurement, Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back from one call of a describer."""

    description: Description | None
    """None when the call failed or its answer could not be understood."""
    raw: str
    """The answer as it came, for the ledger."""
    usage: dict[str, int] = field(default_factory=dict)
    """What the call cost, for example prompt_tokens; empty where nothing is counted."""
    error: str | None = None
    """Why there is no description."""
    failed: bool = False
    """No answer came at all; otherwise, without a description, one came that cannot be used."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call: the looks at one region of one image, or of several images of a species."""

    key: str
    """The call's key in the ledger; a server's log can show it."""
    looks: tuple[Any, ...]
    species: str | None
    told: str = ""
    """What else the describer is told, in words that go before the pictures."""


Look = Callable[[NDArray[np.uint8], Region, Measurement, NDArray[np.bool_] | None], Any]
"""Makes of an upright RGB image `[height, width, 3]` and a region in its pixels what the describer needs of them; of
the animal's mask `[height, width]`, too, where masks are used."""
Withhold = Callable[[Description, str], Description]
"""Says a description without the attributes of some names, its sentence included."""
Ask = Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]
"""Answers questions, in their order. Raises DescriberError when it is pointless to go on asking."""


@dataclass(frozen=True, slots=True)
class TokenEstimate:
    """What a call is expected to cost, in tokens."""

    prompt: int
    answer: int


class Describer(Protocol):
    """Describes regions. What identifies it goes into the ledger's keys and into every row.

    Attributes:
        name: kind of describer, for example `measured`.
        model: model and revision, as model@revision.
        prompt: version and hash of the prompt, or of the rules where there is no prompt.
        settings: what else determines an answer, as plain values for the ledger's keys: schema, sampling, pictures.
        names_species: whether the describer is told the species, so that it determines an answer.
        reads_masks: whether an answer depends on where the animal is: on its mask, where masks are used, or its place.
        images_per_description: images of a species that one answer is about, at most.
        batch_size: questions that are asked together.
        in_flight: batches that are waited for at the same time.
        look: what worker processes do; small, can be pickled, and needs no torch.
        withhold: says a description without the attributes of a name; None where a sentence is not made of attributes.
    """

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def names_species(self) -> bool: ...
    @property
    def reads_masks(self) -> bool: ...
    @property
    def images_per_description(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def look(self) -> Look: ...
    @property
    def withhold(self) -> Withhold | None: ...

    def open(self) -> AbstractAsyncContextManager[Ask]:
        """Connect or load the model, and prove that it works; a DescriberError where it cannot answer."""
        ...

    def estimate_tokens(self, images: Sequence[tuple[tuple[int, int], Region]], told: str = "") -> TokenEstimate:
        """What a call about regions of images of (width, height) pixels is expected to cost, with what else is told."""
        ...
