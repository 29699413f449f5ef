"""How good a run's descriptions are, as far as that shows without a truth: a report with figures and examples.

Two things are read, each once and a row at a time: the ledger, for what came of the calls, and the traits, for what
the descriptions say.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from sae_traits.describers import Describer
from sae_traits.describers.excerpts import EXAMPLES, Example, example_lines, excerpt, literal, percent
from sae_traits.schema import Collection, Description, Taxon, Trait
from sae_traits.traits.consistency import (
    CONTRADICTORY,
    ConsistencyCounter,
    Contradictions,
    FacetAgreement,
)
from sae_traits.traits.faithfulness import Faithfulness
from sae_traits.traits.ledger import Ledger, LedgerEntry, State

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

    @property
    def background_share(self) -> float | None:
        """Of the calls that are ok."""
        return _share(self.n_background, self.n_ok)

    @property
    def invalid_share(self) -> float | None:
        """Of the calls that brought an answer at last."""
        return _share(self.n_invalid, self.n_ok + self.n_invalid)

    @property
    def failed_share(self) -> float | None:
        """Of the calls that are finished or failed."""
        return _share(self.n_failed, self.n_calls - self.n_pending)


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

    @property
    def share(self) -> float | None:
        """Of the traits."""
        return _share(self.n_any, self.n_traits)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The figures, and examples of each failure."""

    calls: CallQuality
    n_unlabelled: int
    """Traits of images whose species nobody has said; the figures below are about the others."""
    leakage: Leakage
    contradictions: tuple[Contradictions, ...]
    agreement: tuple[FacetAgreement, ...]
    faithfulness: Faithfulness | None = None
    """Of a sample asked about again, where that was done."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for results.json, with the shares."""
        values = asdict(self)
        values["calls"] |= {name: getattr(self.calls, name) for name in _SHARES_OF_CALLS}
        values["leakage"]["share"] = self.leakage.share
        values["faithfulness"] = None if self.faithfulness is None else self.faithfulness.to_dict()
        return values

    def lines(self) -> list[str]:
        """The report in Markdown, without a heading."""
        lines = [*self._call_lines(), *self._unlabelled_lines()]
        if self.leakage.n_traits or not self.n_unlabelled:
            lines += [*self._leakage_lines(), *self._contradiction_lines(), *self._agreement_lines()]
        return lines if self.faithfulness is None else [*lines, "", *self.faithfulness.lines()]

    def _call_lines(self) -> list[str]:
        calls = self.calls
        rows = [
            ("background, of the valid answers", calls.n_background, calls.background_share),
            ("invalid, of the answers", calls.n_invalid, calls.invalid_share),
            ("failed, of the calls", calls.n_failed, calls.failed_share),
        ]
        lines = [
            f"{calls.n_calls:,} calls, sent {calls.n_attempts:,} times; {calls.n_pending:,} are not answered yet.",
            "",
            "| what came of the calls | calls | share |",
            "| --- | --- | --- |",
            *(f"| {what} | {n:,} | {percent(share)} |" for what, n, share in rows),
        ]
        if calls.reasons:
            lines += ["", "| why | state | calls |", "| --- | --- | --- |"]
            lines += [f"| {literal(excerpt(r.reason))} | {r.state} | {r.n_calls:,} |" for r in calls.reasons]
        lines += example_lines("Called background", calls.background)
        lines += example_lines("Invalid", calls.invalid)
        return lines + example_lines("Failed", calls.failed)

    def _unlabelled_lines(self) -> list[str]:
        if not self.n_unlabelled:
            return []
        return [
            "",
            f"{self.n_unlabelled:,} descriptions are of photographs without a label. Whether they hold the name of the "
            "species, contradict each other within it, or agree, is not known of these, and left out.",
        ]

    def _leakage_lines(self) -> list[str]:
        leakage = self.leakage
        return [
            "",
            f"The species' own name is in {leakage.n_any:,} of {leakage.n_traits:,} descriptions "
            f"({percent(leakage.share)}): the genus in {leakage.n_genus:,}, the rest of the name, which may be an "
            f"ordinary word, in {leakage.n_epithet:,}.",
            *example_lines("With the name", leakage.examples),
        ]

    def _contradiction_lines(self) -> list[str]:
        lines = [
            "",
            f"A species contradicts itself at a latent when more than {CONTRADICTORY:.0%} of its pairs of individuals "
            "exclude each other: colours of different families, or small against large.",
            "",
            "| attribute | species and latents | of them contradictory | share |",
            "| --- | --- | --- | --- |",
        ]
        for row in self.contradictions:
            share = percent(_share(row.n_contradictory, row.n_groups))
            lines.append(f"| {row.facet} | {row.n_groups:,} | {row.n_contradictory:,} | {share} |")
        return lines + example_lines("Contradictory", [case for row in self.contradictions for case in row.examples])

    def _agreement_lines(self) -> list[str]:
        if not self.agreement:
            return ["", "No two individuals of a species were described at the same latent, so agreement is not known."]
        lines = [
            "",
            "Agreement: share of the pairs of a species' individuals that got the same value at the same latent, the "
            "mean over species; beside it the share for any two traits.",
            "",
            "| attribute | same species and latent | any two | species | pairs |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in self.agreement:
            figures = f"{row.share:.3f} | {row.chance:.3f} | {len(row.by_species):,} | {row.n_pairs:,}"
            lines.append(f"| {row.facet} | {figures} |")
        return lines


_SHARES_OF_CALLS = ("background_share", "invalid_share", "failed_share")


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
        ledger: of the same run.
        collection: that the traits' images belong to.
        describer: who made them; calls of others, which a ledger may hold too, are left out.
        faithfulness: of the same traits, if some were asked about again.
    """
    consistency = ConsistencyCounter(collection.images)
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


def _share(n: int, of: int) -> float | None:
    return n / of if of else None
