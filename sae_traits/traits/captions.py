"""Captions of whole images: a call per image, through the ledger, and what cannot be relied on kept apart.

What is asked, how often, and how answers are kept is the same as for regions. A caption with a flag is quarantined: it
stays in the ledger and in a table beside the captions, and is not released.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal, get_args

from sae_traits.describers import Describer
from sae_traits.describers.answers import MAX_TEXT
from sae_traits.describers.captions import Guidance
from sae_traits.describers.model import CUT_OFF
from sae_traits.io import write_csv
from sae_traits.schema import Caption, Collection, ImageRecord
from sae_traits.traits.asking import Pictures, answer_calls
from sae_traits.traits.calls import Call, Member, hashed_mask, identity_of
from sae_traits.traits.consistency import excerpt
from sae_traits.traits.ledger import Ledger, LedgerEntry
from sae_traits.traits.regions import whole_image
from sae_traits.traits.table import write_captions

MAX_WORDS = 30
"""The prompt asks for 20; a caption of more words than this is too long."""
Flag = Literal["cut_off", "too_long", "wrong_species", "no_examples", "background", "unusable", "no_answer"]
FLAGS: dict[Flag, str] = {
    "cut_off": "the answer was cut off",
    "too_long": f"the caption has more than {MAX_WORDS} words or {MAX_TEXT} characters",
    "wrong_species": "the caption names another species of the collection or the species table",
    "no_examples": "there are no examples for the class, so nobody was asked",
    "background": "the describer saw no organism",
    "unusable": "the answer could not be used",
    "no_answer": "the call brought no answer",
}
"""Why a caption is quarantined, in words."""
assert tuple(FLAGS) == get_args(Flag)
IMAGES_PER_LOOKUP = 500
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*\.?")


@dataclass(frozen=True, kw_only=True)
class Captioning:
    """What came of captioning a collection; counts of images."""

    n_captions: int
    """Released; all others that were asked about have a flag."""
    n_open: int
    """The same command asks about them next time."""
    flags: dict[Flag, int]
    """Images with each flag; one may have two."""
    n_quarantined: int
    """Images with a flag."""
    n_without_context: int
    """Images of a named species on which the species table has no text."""


@dataclass(frozen=True)
class CaptionPlan:
    """Which images get a caption, and what is told with them."""

    collection: Collection
    """Images whose labels are not to be used have none."""
    guidance: Guidance
    describer: Describer
    use_masks: bool = False

    def call(self, record: ImageRecord) -> Call | None:
        """The call about an image; None where its class has no examples."""
        if self.guidance.lacks_examples(record.taxon):
            return None
        describer, told = self.describer, self.guidance.told(record.taxon)
        mask = hashed_mask(self.collection, record) if self.use_masks and describer.reads_masks else None
        region = whole_image((record.width, record.height))
        member = Member.of(record.image_id, self.collection, record, region, mask=mask)
        asked = {"species": member.species, "told": told, "image": member.sha256, "mask": member.mask_sha256}
        identity = identity_of(describer, record.image_id, **asked)
        return Call(identity, (member,), told)

    def tasks(self) -> Iterator[list[Call]]:
        """Yield the calls in the order of the images, each by itself."""
        calls = (self.call(record) for record in self.collection.images)
        return ([call] for call in calls if call is not None)


def ask_for_captions(plan: CaptionPlan, ledger: Ledger, *, workers: int, pictures: Pictures | None = None) -> None:
    """Ask the describer about every image that the ledger has no answer for; errors as of `answer_calls`.

    Raises:
        CollectionError: none of the images is there any more.
    """
    ledger.drop_damaged()
    # Planned twice, once to count them: the open calls of a large collection do not fit into memory.
    if n_open := sum(1 for _ in _open_tasks(plan, ledger)):
        plan.collection.check_images_are_there()
        tasks = _open_tasks(plan, ledger)
        asyncio.run(answer_calls(tasks, n_open, plan.describer, ledger, workers=workers, pictures=pictures))


def _open_tasks(plan: CaptionPlan, ledger: Ledger) -> Iterator[list[Call]]:
    tasks = plan.tasks()
    while some := list(islice(tasks, IMAGES_PER_LOOKUP)):
        is_open = ledger.open_calls(call.key for (call,) in some)
        yield from (task for task in some if task[0].key in is_open)


def export_captions(plan: CaptionPlan, ledger: Ledger, *, captions_file: Path, quarantine_file: Path) -> Captioning:
    """Write the captions without a flag, and the others with theirs, in the order of the images.

    The same plan and ledger give the same bytes, in whatever order the answers came.
    """
    counts: Counter[str] = Counter()
    flags: Counter[Flag] = Counter()
    quarantined: list[tuple[str, str, str, str, str]] = []
    names = Names.of(plan)

    def captions() -> Iterator[Caption]:
        for row, (record, call, entry) in enumerate(_asked(plan, ledger)):
            context = plan.guidance.contexts.of(record.taxon)
            counts["without_context"] += record.taxon.species is not None and context is None
            counts["open"] += call is not None and (entry is None or entry.is_open)
            if call is not None and (entry is None or entry.state == "pending"):
                continue
            found = flags_of(entry, names, record.taxon.species)
            if found:
                flags.update(found)
                said = "" if entry is None else (entry.description or {}).get("text", entry.raw)
                reason = (entry.error if entry is not None else None) or "; ".join(FLAGS[flag] for flag in found)
                names_of_image = record.image_id, record.taxon.species or ""
                quarantined.append((*names_of_image, ", ".join(found), reason, excerpt(said)))
                continue
            assert entry is not None
            assert entry.description is not None
            yield Caption(
                image=row,
                text=entry.description["text"],
                context_page=None if context is None else context.page or context.species,
                describer=entry.describer,
                describer_model=entry.model,
                prompt=entry.prompt,
            )

    n_captions = write_captions(captions_file, captions())
    write_csv(quarantine_file, ["image_id", "species", "flags", "reason", "said"], quarantined)
    return Captioning(
        n_captions=n_captions,
        n_open=counts["open"],
        flags={flag: flags[flag] for flag in FLAGS},
        n_quarantined=len(quarantined),
        n_without_context=counts["without_context"] if plan.guidance.contexts.rows else 0,
    )


def _asked(plan: CaptionPlan, ledger: Ledger) -> Iterator[tuple[ImageRecord, Call | None, LedgerEntry | None]]:
    """Yield every image in order, with its call and what came of it where there are any."""
    images = iter(plan.collection.images)
    while some := list(islice(images, IMAGES_PER_LOOKUP)):
        calls = [plan.call(record) for record in some]
        entries = ledger.entries({call.key for call in calls if call is not None})
        for record, call in zip(some, calls, strict=True):
            yield record, call, None if call is None else entries.get(call.key)


def flags_of(entry: LedgerEntry | None, names: Names, species: str | None) -> list[Flag]:
    """Why a caption cannot be released; none where it can. Without an entry its class had no examples."""
    if entry is None:
        return ["no_examples"]
    if entry.state != "ok":
        is_cut_off = entry.state == "invalid" and (entry.error or "").startswith(CUT_OFF)
        return ["cut_off" if is_cut_off else "unusable" if entry.state == "invalid" else "no_answer"]
    description = entry.description or {}
    if description["is_background"]:
        return ["background"]
    found: list[Flag] = []
    if len(description["text"].split()) > MAX_WORDS or len(description["text"]) > MAX_TEXT:
        found.append("too_long")
    if names.others_in(description["text"], species):
        found.append("wrong_species")
    return found


@dataclass(frozen=True)
class Names:
    """The binomials of all species that are known, to be found in captions."""

    whole: Set[str]
    """In small letters: `apis mellifera`."""
    abbreviated: Set[str]
    """The same with the genus as one letter: `a. mellifera`."""

    @classmethod
    def of(cls, plan: CaptionPlan) -> Names:
        """Those of a collection and of its species table."""
        species = {record.taxon.species for record in plan.collection.images} | plan.guidance.contexts.rows.keys()
        known = {_plain(name) for name in species if name is not None}
        return cls(frozenset(known), frozenset(map(_abbreviated, known)))

    def others_in(self, text: str, species: str | None) -> bool:
        """Whether a text has the name of a known species that is not the given one; an abbreviation that fits this
        one is taken for it."""
        own = _plain(species or "")
        words = [match[0].lower() for match in _WORD.finditer(text)]
        pairs = {f"{first} {second.rstrip('.')}" for first, second in pairwise(words)}
        return bool((pairs & self.whole) - {own} or (pairs & self.abbreviated) - {_abbreviated(own)})


def _plain(species: str) -> str:
    """`apis mellifera` of `Apis mellifera`, and `magnolia soulangeana` of a hybrid."""
    return " ".join(match[0] for match in _WORD.finditer(species.lower()))


def _abbreviated(plain: str) -> str:
    genus, _, epithet = plain.partition(" ")
    return f"{genus[:1]}. {epithet}"
