"""Does a describer look at the region? The same picture with another region asks another question.

Of a sample of traits, each is asked about again, through the same describer and a ledger of its own: with the same
region, which says how much answers differ by themselves; with the region of another image (`swapped`); and with a
region of the same size in a corner of the image (`blank`). A faithful describer changes its answer to the last two, or
says background.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from sae_traits.describers import Describer
from sae_traits.describers.base import Withhold
from sae_traits.errors import ConfigError
from sae_traits.schema import Collection, Description, ImageRecord, Region, Trait
from sae_traits.traits.asking import answer_calls
from sae_traits.traits.calls import Call, planned_calls
from sae_traits.traits.consistency import EXAMPLES, Example, excerpt, facets
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.withheld import COLOUR

RegionKind = Literal["same", "swapped", "blank"]
KINDS: tuple[RegionKind, ...] = ("same", "swapped", "blank")
MAX_SHAPE_RATIO = 1.25
"""Images are of one shape when their aspect ratios differ by at most this factor: a region keeps its form in both."""
MAX_OVERLAP = 0.1
"""Two regions are apart when their boxes overlap by at most this (intersection over union)."""
MAX_BLANK = 0.4
"""Share of the image's sides that a blank box has at most, so that it stays in its corner."""
_DESCRIPTION = TypeAdapter(Description)

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class SecondCall:
    """A trait, and the call that asks about its picture again, with a region of some kind."""

    kind: RegionKind
    trait: Trait
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class FaithfulnessScore:
    """How the answers about a kind of region differ from the original ones."""

    kind: RegionKind
    n_asked: int
    n_answered: int
    """With a valid answer; the other figures are about these."""
    n_changed: int
    """The part, an attribute, or the sentence where neither is named, is not as it was; background counts, too."""
    n_background: int
    kept: float | None
    """Share of what was named in either answer (part, attributes) that is in both, the mean; background keeps none."""
    unchanged: tuple[Example, ...]
    """Answers that stayed the same: the original sentence and the new one."""

    @property
    def changed_share(self) -> float | None:
        """Of those with a valid answer; background counts as changed."""
        return self.n_changed / self.n_answered if self.n_answered else None

    @property
    def background_share(self) -> float | None:
        """Of those with a valid answer."""
        return self.n_background / self.n_answered if self.n_answered else None


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """The scores of all kinds."""

    n_traits: int
    """Traits in the sample."""
    n_open: int
    """Calls that the same command asks next time: those not asked yet, or not often enough."""
    scores: tuple[FaithfulnessScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for results.json, with the shares."""
        values = asdict(self)
        for row, score in zip(values["scores"], self.scores, strict=True):
            row |= {"changed_share": score.changed_share, "background_share": score.background_share}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Faithfulness:
        return _FAITHFULNESS.validate_python(values)

    def lines(self) -> list[str]:
        """Say the scores on a terminal, a line per kind of region."""
        return [
            f"{self.n_traits:,} traits were asked about again",
            *(
                f"{score.kind:<8} {score.n_answered:,} of {score.n_asked:,} answered; "
                f"{_percent(score.changed_share)} changed, or background; {_percent(score.background_share)} "
                f"background; {_percent(score.kept)} of what was named is kept"
                for score in self.scores
            ),
        ]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


_FAITHFULNESS = TypeAdapter(Faithfulness)


def check_faithfulness(
    traits: Iterable[Trait],
    collection: Collection,
    describer: Describer,
    ledger: Ledger,
    *,
    n_traits: int,
    seed: int,
    workers: int,
    use_masks: bool = False,
) -> Faithfulness:
    """Ask about a sample of traits again, as far as the ledger has no answer to that, and score the answers.

    Args:
        traits: as `read_traits` gives them; only the sample is kept.
        describer: who made the traits; those of others are left out.
        ledger: of these calls alone: in the run's ledger they would count as its own.

    Raises:
        CollectionError: none of the images is there any more.
        ConfigError: the describer's answers are about several images, or it made none of the traits.
        DescriberError: the describer cannot answer from the start.
    """
    ledger.drop_damaged()
    planned = second_calls(traits, collection, describer, n_traits=n_traits, seed=seed, use_masks=use_masks)
    is_open = ledger.open_calls(second.call.key for second in planned)
    calls = {second.call.key: second.call for second in planned if second.call.key in is_open}
    if calls:
        collection.check_images_are_there()
        tasks = ([call] for call in calls.values())
        asyncio.run(answer_calls(tasks, len(calls), describer, ledger, workers=workers))
    return score_faithfulness(planned, ledger, describer.withhold)


def second_calls(
    traits: Iterable[Trait],
    collection: Collection,
    describer: Describer,
    *,
    n_traits: int,
    seed: int,
    use_masks: bool = False,
) -> list[SecondCall]:
    """The calls about a random sample of traits; the same for the same seed.

    A trait has no swapped region when no other of the sample has a region that lies elsewhere in an image of about
    the same shape, and no blank one when the image's regions reach into all corners.

    Raises:
        ConfigError: the describer's answers are about several images, or it made none of the traits.
    """
    if describer.images_per_description > 1:
        raise ConfigError("faithfulness compares answers about one image; annotate with --images-per-description 1")
    if n_traits < 1:
        raise ConfigError(f"a sample has at least one trait, not {n_traits}")
    if seed < 0:
        raise ConfigError(f"the seed of a sample is 0 or more, not {seed}")
    made_by = describer.name, describer.model, describer.prompt
    made = (trait for trait in traits if (trait.describer, trait.describer_model, trait.prompt) == made_by)
    sample = _sample(made, n_traits, np.random.default_rng(seed))
    if not sample:
        raise ConfigError(
            f"none of the traits was made by {' with '.join(made_by[:2])} and the prompt {describer.prompt}; use the "
            "describer that the run was annotated with"
        )
    calls = []
    for number, (trait, boxes) in enumerate(sample):
        record = collection.images[trait.candidate.image]
        others = (other for other, _ in [*sample[number + 1 :], *sample[:number]])
        regions: dict[RegionKind, Region | None] = {
            "same": trait.region,
            "swapped": _swapped(trait, record, others, collection),
            "blank": _blank(trait.region, boxes, (record.width, record.height)),
        }
        for kind, region in regions.items():
            if region is not None:
                candidates = [(record, [(trait.candidate, region)])]
                planned = planned_calls(candidates, collection, describer, use_masks=use_masks)
                calls.append(SecondCall(kind, trait, next(planned)[0]))
    return calls


def score_faithfulness(calls: Sequence[SecondCall], ledger: Ledger, withhold: Withhold | None) -> Faithfulness:
    """Compare the answers that the ledger has with the original ones.

    Args:
        withhold: of the describer; colours that were withheld from an original answer are not compared.
    """
    entries = ledger.entries([second.call.key for second in calls])
    answers: dict[RegionKind, list[tuple[Trait, Description]]] = defaultdict(list)
    for second in calls:
        entry = entries.get(second.call.key)
        if entry is not None and entry.state == "ok":
            answer, before = _DESCRIPTION.validate_python(entry.description), second.trait.description
            if withhold is not None and not any(attribute.name == COLOUR for attribute in before.attributes):
                answer = withhold(answer, COLOUR)
            answers[second.kind].append((second.trait, answer))
    n_asked = {kind: sum(second.kind == kind for second in calls) for kind in KINDS}
    return Faithfulness(
        n_traits=len({second.trait.trait_id for second in calls}),
        n_open=len(ledger.open_calls(second.call.key for second in calls)),
        scores=tuple(_score(kind, n_asked[kind], answers[kind]) for kind in KINDS),
    )


def _score(kind: RegionKind, n_asked: int, answers: list[tuple[Trait, Description]]) -> FaithfulnessScore:
    kept = [_kept(trait.description, answer) for trait, answer in answers]
    unchanged = [
        Example((trait.trait_id,), "before and after", excerpt(f"{trait.description.text} / {answer.text}"))
        for (trait, answer), share in zip(answers, kept, strict=True)
        if share == 1
    ]
    return FaithfulnessScore(
        kind=kind,
        n_asked=n_asked,
        n_answered=len(answers),
        n_changed=len(answers) - len(unchanged),
        n_background=sum(answer.is_background for _, answer in answers),
        kept=float(np.mean(kept)) if kept else None,
        unchanged=tuple(unchanged[:EXAMPLES]),
    )


def _kept(before: Description, after: Description) -> float:
    """Share of what either answer names that both name; of answers that name nothing, whether the sentence is the same.

    Sentences are not compared otherwise: the same thing can be said in other words.
    """
    if after.is_background:
        return 0.0
    first, second = ({(k, v) for k, values in facets(d).items() for v in values} for d in (before, after))
    if not first | second:
        return float(before.text == after.text)
    return len(first & second) / len(first | second)


def _sample(traits: Iterable[Trait], n: int, random: np.random.Generator) -> list[tuple[Trait, list[Box]]]:
    """Up to n traits of a stream, each as likely as another, with the boxes of all traits of its image."""
    kept: list[tuple[Trait, list[Box]]] = []
    for n_seen, (trait, boxes) in enumerate(_with_boxes(traits), start=1):
        if len(kept) < n:
            kept.append((trait, boxes))
        elif (place := int(random.integers(n_seen))) < n:
            kept[place] = trait, boxes
    return kept


def _with_boxes(traits: Iterable[Trait]) -> Iterator[tuple[Trait, list[Box]]]:
    for _, group in groupby(traits, key=lambda trait: trait.candidate.image):
        of_image = list(group)
        boxes = [trait.region.box for trait in of_image]
        yield from ((trait, boxes) for trait in of_image)


def _swapped(trait: Trait, record: ImageRecord, others: Iterable[Trait], collection: Collection) -> Region | None:
    """The region of the first of others that fits, of another individual, at the same relative place of the image.

    It is placed on the animal of the trait's own region, the only one that is known of the image.
    """
    for other in others:
        source = collection.images[other.candidate.image]
        ratio = (record.width * source.height) / (record.height * source.width)
        if source.individual_id == record.individual_id or not 1 / MAX_SHAPE_RATIO <= ratio <= MAX_SHAPE_RATIO:
            continue
        region = _scaled(other.region, (record.width / source.width, record.height / source.height))
        if _overlap(region.box, trait.region.box) <= MAX_OVERLAP:
            return replace(region, animal=trait.region.animal)
    return None


def _scaled(region: Region, scale: tuple[float, float]) -> Region:
    """A region on an image that is so many times as wide and as high, to a thousandth of a pixel."""
    x, y, width, height = (round(value * scale[i % 2], 3) for i, value in enumerate(region.box))
    rings = (tuple(round(value * scale[i % 2], 3) for i, value in enumerate(ring)) for ring in region.polygons)
    return replace(region, box=(x, y, width, height), polygons=tuple(rings))


def _blank(region: Region, boxes: Sequence[Box], size: tuple[int, int]) -> Region | None:
    """A rectangle of the region's size in the corner farthest from all boxes; None where each corner meets one."""
    width, height = (min(side, MAX_BLANK * whole) for side, whole in zip(region.box[2:], size, strict=True))
    width, height = round(width, 3), round(height, 3)
    corners = [(x, y, width, height) for y in (0.0, size[1] - height) for x in (0.0, size[0] - width)]
    free = [corner for corner in corners if not any(_overlap(corner, box) for box in boxes)]
    if not free:
        return None
    x, y, width, height = max(free, key=lambda corner: min(_distance(corner, box) for box in boxes))
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    share = width * height / (size[0] * size[1])
    return Region(box=(x, y, width, height), polygons=(ring,), patches=(), area_fraction=share)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common) if common else 0.0


def _distance(a: Box, b: Box) -> float:
    """Between the centres of two boxes, in pixels."""
    return float(np.hypot(a[0] + a[2] / 2 - b[0] - b[2] / 2, a[1] + a[3] / 2 - b[1] - b[3] / 2))
