"""How good a run's descriptions are, as far as that shows without a truth: figures and examples.

Two things are read, each once and a row at a time: the ledger, for what came of the calls, and the traits, for what
the descriptions say.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from sae_traits.describers import Describer
from sae_traits.schema import Collection, Description, Taxon, Trait
from sae_traits.traits.consistency import (
    EXAMPLES,
    ConsistencyCounter,
    Contradictions,
    Example,
    FacetAgreement,
    excerpt,
)
from sae_traits.traits.faithfulness import Faithfulness
from sae_traits.traits.ledger import Ledger, LedgerEntry, State
from sae_traits.traits.shared_sentences import SentenceCounter, SharedSentences

MAX_REASONS = 50
"""Different reasons that are counted one by one; later ones are `another reason`."""
_NUMBER = re.compile(r"\d+(\.\d+)?")
_TAXA_KEPT = 1024


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why answers could not be used, or did not come; numbers in it are replaced by N."""

    state: State
    reason: str
    n_calls: int


@dataclass(frozen=True, kw_only=True)
class CallQuality:
    """What came of the calls of a describer, its model and its prompt."""

    n_calls: int
    n_attempts: int
    """How often they were sent, all together."""
    n_ok: int
    n_background: int
    """Of those that are ok: the region was said to be background."""
    n_invalid: int
    """The last answer could not be used."""
    n_failed: int
    """The last attempt brought no answer."""
    n_pending: int
    """Not answered yet."""
    reasons: tuple[Reason, ...]
    """The most frequent first."""
    background: tuple[Example, ...]
    invalid: tuple[Example, ...]
    failed: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Descriptions that hold the name of the species they describe, so that a class text made of them gives it away."""

    n_traits: int
    n_genus: int
    """The name of the genus is in the sentence, the part or an attribute, as a word."""
    n_epithet: int
    """The rest of the species' name is; it may be an ordinary word."""
    n_any: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The figures, and examples of each failure."""

    calls: CallQuality
    n_unlabelled: int
    """Traits of images whose species nobody has said; the figures below are about the others."""
    leakage: Leakage
    shared: SharedSentences
    """Of all species' descriptions."""
    contradictions: tuple[Contradictions, ...]
    agreement: tuple[FacetAgreement, ...]
    faithfulness: Faithfulness | None = None
    """Of a sample asked about again, where that was done."""


def assess_quality(
    traits: Iterable[Trait],
    ledger: Ledger,
    collection: Collection,
    describer: Describer,
    faithfulness: Faithfulness | None = None,
) -> Quality:
    """The quality of the traits of a run.

    Args:
        traits: as `read_traits` gives them; not kept.
        describer: who made them; calls of others, which a ledger may hold too, are left out.
    """
    consistency = ConsistencyCounter(collection.images)
    sentences = SentenceCounter()
    leaks: Counter[str] = Counter()
    examples: list[Example] = []
    n_traits = n_unlabelled = 0
    for trait in traits:
        record = collection.images[trait.candidate.image]
        if record.taxon.species is None:
            n_unlabelled += 1
            continue
        n_traits += 1
        consistency.add(trait, record)
        sentences.add(trait.description.text, record.species)
        if names := leaked_names(trait.description, record.taxon):
            leaks.update({*names, "any"})
            if len(examples) < EXAMPLES:
                reason = f"{' and '.join(names)} of {record.species}"
                examples.append(Example((trait.trait_id,), reason, excerpt(trait.description.text)))
    leakage = Leakage(
        n_traits=n_traits,
        n_genus=leaks["genus"],
        n_epithet=leaks["epithet"],
        n_any=leaks["any"],
        examples=tuple(examples),
    )
    made_by = describer.name, describer.model, describer.prompt
    entries = (entry for entry in ledger if (entry.describer, entry.model, entry.prompt) == made_by)
    return Quality(
        calls=_assess_calls(entries, collection),
        n_unlabelled=n_unlabelled,
        leakage=leakage,
        shared=sentences.count(),
        contradictions=consistency.contradictions(),
        agreement=consistency.agreement(),
        faithfulness=faithfulness,
    )


def leaked_names(description: Description, taxon: Taxon) -> tuple[str, ...]:
    """Which of the taxon's names stand in a description as words, whatever their case: genus, epithet."""
    text = " \n ".join([description.text, description.part or "", *(a.value for a in description.attributes)])
    return tuple(name for name, pattern in _name_patterns(taxon).items() if pattern.search(text))


@lru_cache(maxsize=_TAXA_KEPT)
def _name_patterns(taxon: Taxon) -> dict[str, re.Pattern[str]]:
    words = [word.strip("×") for word in (taxon.species or "").split()]
    words = [word for word in words if word]
    genus = taxon.genus.strip("× ") if taxon.genus else next(iter(words), "")
    names = {"genus": genus, "epithet": " ".join(words[1:])}
    return {kind: re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE) for kind, name in names.items() if name}


def _assess_calls(entries: Iterable[LedgerEntry], collection: Collection) -> CallQuality:
    counts: Counter[str] = Counter()
    reasons: Counter[tuple[State, str]] = Counter()
    examples: dict[str, list[Example]] = defaultdict(list)
    image = re.compile(re.escape(str(collection.root)) + r"/.*?\.\w+(?=: )")
    for entry in entries:
        counts["calls"] += 1
        counts["attempts"] += entry.attempts
        counts[entry.state] += 1
        description = entry.description or {}
        if entry.state == "pending" or (entry.state == "ok" and not description["is_background"]):
            continue
        if entry.state == "ok":
            kind, reason, answer = "background", "a valid answer", description["text"]
        else:
            kind, reason, answer = entry.state, image.sub("the image", entry.error or "no reason was kept"), entry.raw
            counted = entry.state, _NUMBER.sub("N", reason)
            is_new = counted not in reasons and len(reasons) >= MAX_REASONS
            reasons[(entry.state, "another reason") if is_new else counted] += 1
        counts[kind] += kind == "background"
        if len(examples[kind]) < EXAMPLES:
            examples[kind].append(Example((entry.trait_id,), reason, excerpt(answer)))
    return CallQuality(
        n_calls=counts["calls"],
        n_attempts=counts["attempts"],
        n_ok=counts["ok"],
        n_background=counts["background"],
        n_invalid=counts["invalid"],
        n_failed=counts["failed"],
        n_pending=counts["pending"],
        reasons=tuple(Reason(state=s, reason=r, n_calls=n) for (s, r), n in reasons.most_common()),
        background=tuple(examples["background"]),
        invalid=tuple(examples["invalid"]),
        failed=tuple(examples["failed"]),
    )
