"""What an annotation will cost, before it is begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from sae_traits.config.describer import Describer as DescriberConfig
from sae_traits.config.describer import RuleDescriberConfig
from sae_traits.describers import Describer, TokenEstimate
from sae_traits.describers.model import ANSWER_TOKENS, CHARACTERS_A_TOKEN, PIXELS_A_TOKEN
from sae_traits.logging import duration
from sae_traits.schema import ImageRecord
from sae_traits.traits.annotate import TASKS_PER_LOOKUP
from sae_traits.traits.calls import Call, Sharing, planned_calls
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.plan import Plan
from sae_traits.traits.regions import whole_image

_Size = tuple[int, int]
"""Width and height of an image in pixels."""


@dataclass(frozen=True, kw_only=True)
class AnnotationEstimate:
    """What is left to ask, and what that costs; nothing was asked to know it."""

    n_calls: int
    """Number of calls in all."""
    n_finished: int
    """Of these, the calls that the ledger has an answer to, or that were asked often enough."""
    prompt_tokens: int
    """Of the calls that are left, as the answer tokens."""
    answer_tokens: int
    seconds_per_call: float
    at_a_time: int
    """Calls that are waited for at the same time."""
    prompt_price: float
    """Of a million tokens."""
    answer_price: float

    @property
    def n_open(self) -> int:
        return self.n_calls - self.n_finished

    @property
    def hours(self) -> float:
        """Until all calls are answered once."""
        return self.n_open * self.seconds_per_call / self.at_a_time / 3600

    @property
    def money(self) -> float:
        """In the currency of the prices."""
        return (self.prompt_tokens * self.prompt_price + self.answer_tokens * self.answer_price) / 1e6

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        time = duration(3600 * self.hours)
        lines = [
            f"calls       {self.n_open:,} to ask; {self.n_finished:,} of {self.n_calls:,} are finished",
            f"time        {time} at {self.seconds_per_call:g} s per call, {self.at_a_time} at a time",
        ]
        if self.prompt_tokens:
            lines += [
                f"tokens      {self.prompt_tokens:,} for prompts and pictures, {self.answer_tokens:,} for answers",
                f"            assumed: {CHARACTERS_A_TOKEN} characters or {PIXELS_A_TOKEN} pixels per token, "
                f"{ANSWER_TOKENS} tokens per answer, each call asked once",
            ]
        if self.money:
            prices = f"{self.prompt_price:g} and {self.answer_price:g} per million tokens"
            lines.append(f"money       {self.money:,.2f} at {prices}")
        return lines


def estimate_annotation(
    plan: Plan, describer: Describer, ledger: Ledger, config: DescriberConfig
) -> AnnotationEstimate:
    """Count the calls of a plan and what those cost that the ledger has no answer to."""
    tasks = planned_calls(
        plan.candidates(), plan.collection, describer, use_masks=config.use_masks, outlines=plan.outlines
    )
    return estimate_calls(tasks, describer, ledger, config)


def estimate_calls(
    tasks: Iterator[list[Call]], describer: Describer, ledger: Ledger, config: DescriberConfig
) -> AnnotationEstimate:
    """Count calls and what those cost that the ledger has no answer to."""
    n_calls = n_open = prompt_tokens = answer_tokens = 0
    while some := [call for calls in islice(tasks, TASKS_PER_LOOKUP) for call in calls]:
        n_calls += len(some)
        is_open = ledger.open_calls(call.key for call in some)
        for call in some:
            if call.key in is_open:
                n_open += 1
                tokens = describer.estimate_tokens([(m.source, m.region) for m in call.members], call.told)
                prompt_tokens += tokens.prompt
                answer_tokens += tokens.answer
    tokens = TokenEstimate(prompt_tokens, answer_tokens)
    return _estimate(describer, config, n_calls=n_calls, n_finished=n_calls - n_open, tokens=tokens)


def bound_annotation(
    records: Iterable[ImageRecord], describer: Describer, config: DescriberConfig, *, traits_per_image: int
) -> AnnotationEstimate:
    """What describing so many regions of every image would cost, where it is not known yet which there are.

    Images of a species and split share calls, as far as the describer is shown several, as if the same latents were
    chosen for all of them. A region is taken to be as large as its image.
    """
    calls = Counter(_sizes_together(records, describer.images_per_description))
    prompt_tokens = answer_tokens = 0
    for sizes, n in calls.items():
        tokens = describer.estimate_tokens([(size, whole_image(size)) for size in sizes])
        prompt_tokens += n * traits_per_image * tokens.prompt
        answer_tokens += n * traits_per_image * tokens.answer
    tokens = TokenEstimate(prompt_tokens, answer_tokens)
    return _estimate(describer, config, n_calls=calls.total() * traits_per_image, n_finished=0, tokens=tokens)


def _sizes_together(records: Iterable[ImageRecord], images_per_description: int) -> Iterator[tuple[_Size, ...]]:
    """The sizes of the images that each call would show."""
    sharing: Sharing[_Size] = Sharing(images_per_description)
    for record in records:
        size = record.width, record.height
        if (species := record.taxon.species) is None:
            yield (size,)
        elif sizes := sharing.add((species, record.split), record.individual_id, size):
            yield tuple(sizes)
    yield from map(tuple, sharing.rest())


def _estimate(
    describer: Describer, config: DescriberConfig, *, n_calls: int, n_finished: int, tokens: TokenEstimate
) -> AnnotationEstimate:
    """The cost of calls; `tokens` are those of all that are left."""
    in_flight = describer.in_flight * describer.batch_size
    return AnnotationEstimate(
        n_calls=n_calls,
        n_finished=n_finished,
        prompt_tokens=tokens.prompt,
        answer_tokens=tokens.answer,
        seconds_per_call=config.seconds_per_call,
        # Without a model those who measure answer.
        at_a_time=config.workers if isinstance(config, RuleDescriberConfig) else in_flight,
        prompt_price=config.prompt_price,
        answer_price=config.answer_price,
    )
