"""What raters answered: read from what the page of an atlas exported, or from the CSV file of a sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sae_traits.errors import CollectionError, ConfigError, one_line
from sae_traits.evaluation.review.rubric import RUBRIC
from sae_traits.images.columns import find_columns
from sae_traits.images.table_files import TABLE_SUFFIXES, open_table

FORMAT = "sae-traits review"
COLUMNS = ("sheet", "item", "picture", "sentence", "verdict", "score", "rater")
"""Of the CSV file of a sheet."""
_READ = ("sheet", "item", "verdict", "score", "rater")
Verdict = Literal["accepted", "rejected"]
_VERDICTS: dict[str, Verdict] = {
    **dict.fromkeys(("accepted", "accept", "a", "yes"), "accepted"),
    **dict.fromkeys(("rejected", "reject", "r", "no"), "rejected"),
}


@dataclass(frozen=True, slots=True)
class Rating:
    """What a rater said of an item; either may be missing."""

    verdict: Verdict | None
    score: int | None


@dataclass(frozen=True)
class Ratings:
    """All that one rater said of one sheet."""

    sheet: str
    rater: str
    by_item: Mapping[int, Rating]
    """By the number of the item, from 1."""

    @classmethod
    def read(cls, path: Path) -> Ratings:
        """Read a JSON file that an atlas exported, or the table of a sheet that was filled in.

        In a table the rater is who stands in the column `rater`, or else the file is called after.

        Raises:
            ConfigError: it is neither, or holds an answer that does not exist, or none at all.
        """
        try:
            if path.suffix.lower() in TABLE_SUFFIXES:
                return _from_table(path)
            return _from_json(path.read_text(encoding="utf-8-sig"))
        except (CollectionError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"cannot read ratings from {path} ({one_line(error)}); give the file that the review page exported, or "
                "the filled-in sheet.csv"
            ) from error


def _from_json(text: str) -> Ratings:
    values = json.loads(text)
    if values.get("format") != FORMAT:
        raise ValueError(f"its format is {values.get('format')!r}, not {FORMAT!r}")
    answers = {int(number): (one.get("verdict"), one.get("score")) for number, one in values["ratings"].items()}
    return _ratings(values["sheet"], values["rater"], answers)


def _from_table(path: Path) -> Ratings:
    header, rows_of = open_table(path, header_has=("sheet",))
    columns = find_columns(header, {what: (what,) for what in _READ})
    if lacking := [name for name in _READ if name not in columns]:
        raise ValueError(f"it has no column {' and no column '.join(lacking)}")
    rows = list(rows_of(columns))
    sheets, raters = ({row[name] for row in rows if row[name]} for name in ("sheet", "rater"))
    if len(sheets) != 1 or len(raters) > 1:
        raise ValueError(f"it is of {len(sheets)} sheets and {len(raters)} raters; a file is of one each")
    answers: dict[int, tuple[str, str | None]] = {}
    for row in rows:
        number, answer = int(row["item"] or ""), ((row["verdict"] or "").lower(), row["score"])
        if answers.setdefault(number, answer) != answer:
            raise ValueError(f"item {number} has two rows with different answers")
    return _ratings(str(sheets.pop()), str(raters.pop()) if raters else path.stem, answers)


def _ratings(sheet: str, rater: str, answers: Mapping[int, tuple[Any, Any]]) -> Ratings:
    rater = " ".join(rater.split())
    if not rater:
        raise ValueError("it does not say who rated")
    by_item = {}
    for number, (verdict, score) in answers.items():
        if verdict and verdict not in _VERDICTS:
            raise ValueError(f"item {number} is {verdict!r}, and not accepted or rejected")
        rating = Rating(_VERDICTS[verdict] if verdict else None, _score(number, score))
        if rating != Rating(None, None):
            by_item[number] = rating
    if not by_item:
        raise ValueError("nothing is answered in it")
    return Ratings(sheet, rater, by_item)


def _score(number: int, written: Any) -> int | None:
    """The score of an item, which spreadsheets may write as 4.0; a ValueError where it is none of the rubric."""
    if written in (None, ""):
        return None
    score = float(written) if isinstance(written, str) else written
    if isinstance(score, bool) or score not in RUBRIC:
        raise ValueError(f"item {number} has the score {written}, and not one of 1 to 5")
    return int(score)
