"""RUN/review: the sheets of a run, which say what each item is, and what raters answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sae_traits.errors import ConfigError, StoreError
from sae_traits.evaluation.review.ratings import Rating, Ratings
from sae_traits.evaluation.review.scores import Answered
from sae_traits.evaluation.review.sheets import Sheet
from sae_traits.io import hash_of_file, read_sealed, sealed_json, write_text

_NAME = re.compile(r"sheet-(\d+)-[0-9a-f]+\.json")


class Reviews:
    """The folder RUN/review."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ratings = folder / "ratings.json"

    @property
    def sheets(self) -> list[Sheet]:
        """All sheets, in the order in which they were made."""
        return [Sheet.load(path) for _, path in self._files()]

    @property
    def next_number(self) -> int:
        """That of a new sheet; none is given twice, also where a sheet was deleted."""
        return max((number for number, _ in self._files()), default=0) + 1

    def _files(self) -> list[tuple[int, Path]]:
        """The number and the file of each sheet, in their order."""
        paths = self.folder.glob("*.json")
        return sorted((int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name)))

    def add(self, sheet: Sheet) -> Path:
        """Keep a sheet, and say in which file."""
        path = self.folder / f"{sheet.name}.json"
        sheet.save(path)
        return path

    def rate(self, given: Sequence[Ratings]) -> None:
        """Keep ratings; what a rater said of the same sheet before is replaced.

        Raises:
            ConfigError: they are of no sheet of this run, or of items that it does not have.
        """
        n_items = {sheet.name: len(sheet.items) for sheet in self.sheets}
        kept = self._read()
        for one in given:
            if one.sheet not in n_items:
                raise ConfigError(
                    f"the ratings of {one.rater} are of {one.sheet}, which is none of {self.folder} "
                    f"({', '.join(n_items) or 'there is none'})"
                )
            if unknown := [number for number in one.by_item if not 1 <= number <= n_items[one.sheet]]:
                raise ConfigError(f"{one.rater} rated item {unknown[0]}; {one.sheet} has 1 to {n_items[one.sheet]}")
            kept.setdefault(one.sheet, {})[one.rater] = {
                str(number): asdict(rating) for number, rating in sorted(one.by_item.items())
            }
        write_text(self._ratings, sealed_json(kept))

    @property
    def digest(self) -> str | None:
        """Hash of what was answered; None where nothing was."""
        return hash_of_file(self._ratings) if self._ratings.is_file() else None

    def answered(self) -> list[Answered]:
        """All items of all sheets with what each rater said of them."""
        kept = self._read()
        return [
            (
                sheet.name,
                item,
                {
                    rater: Rating(**said[str(number)])
                    for rater, said in kept.get(sheet.name, {}).items()
                    if str(number) in said
                },
            )
            for sheet in (self.sheets if kept else ())
            for number, item in enumerate(sheet.items, start=1)
        ]

    def _read(self) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """Read what was answered: sheet -> rater -> number of the item -> rating."""
        if not self._ratings.is_file():
            return {}
        values = read_sealed(self._ratings)
        if values is None:
            raise StoreError(f"{self._ratings} is damaged; delete it, and import the files of the raters again")
        return values
