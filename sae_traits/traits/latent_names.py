"""What people call latents: read from what an atlas exported or from a CSV file, and put into traits.

An expert who says once "latent 550: abdomen" has named every region of it. The numbers mean something in one SAE only,
so names go with the hash of its weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sae_traits.errors import CollectionError, ConfigError, one_line
from sae_traits.images.columns import find_columns
from sae_traits.images.table_files import TABLE_SUFFIXES, open_table
from sae_traits.io import json_text, write_text
from sae_traits.schema import ChosenLatent, Trait

FORMAT = "sae-traits names"
MAX_LETTERS = 80
_HASH = "sha256:"


@dataclass(frozen=True)
class LatentNames:
    """Names of latents of one SAE."""

    sae: str | None
    """As repository@revision or with the hash of its weights; None where the file does not say."""
    names: Mapping[int, str]
    """By latent; an empty one takes a name back."""

    @classmethod
    def read(cls, path: Path) -> LatentNames:
        """Read a JSON file that an atlas or `save` wrote, or a table with the columns latent and name (and sae).

        Raises:
            ConfigError: it is neither.
        """
        try:
            if path.suffix.lower() in TABLE_SUFFIXES:
                return _from_table(path)
            return _from_json(path.read_text(encoding="utf-8-sig"))
        except (CollectionError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"cannot read names from {path} ({one_line(error)}); give the file that an atlas exported, or a table "
                "(CSV) with the columns latent and name"
            ) from error

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        names = {str(latent): name for latent, name in sorted(self.names.items()) if name}
        write_text(path, json_text({"format": FORMAT, "sae": self.sae, "names": names}))

    def are_of(self, sae: str, weights_hash: str, hash_of: Callable[[str, str], str]) -> bool:
        """Whether the names are of an SAE, by the hash of its weights.

        Args:
            sae: how the dataset of the SAE names it.
            hash_of: hash of the weights of the SAE in a repository on the Hub, at a revision.
        """
        if self.sae is None or self.sae == sae:
            return True
        repository, _, revision = self.sae.rpartition("@")
        if revision.startswith(_HASH):
            return revision == _HASH + weights_hash
        return "/" in repository and hash_of(repository, revision) == weights_hash


def named_traits(traits: Iterable[Trait], names: Mapping[int, str]) -> Iterator[Trait]:
    """Yield traits with the name of their latent as part, where the describer said none, and where the part is from."""
    for trait in traits:
        description, latent = trait.description, trait.candidate.latent
        if description.part is not None:
            yield replace(trait, description=replace(description, part_source="describer"))
        elif latent is not None and (name := names.get(latent)):
            text = sentence_with_part(name, description.text)
            yield replace(trait, description=replace(description, text=text, part=name, part_source="named"))
        else:
            yield trait


def named_latents(latents: Iterable[ChosenLatent], names: Mapping[int, str]) -> list[ChosenLatent]:
    return [replace(one, name=names.get(one.latent) or None) for one in latents]


def sentence_with_part(part: str, text: str) -> str:
    """A sentence that begins with the part: `Abdomen: black with yellow bands`."""
    second = text[1:2]
    begins_with_a_word = second == " " or second.islower()  # and not with an abbreviation
    rest = text[:1].lower() + text[1:] if begins_with_a_word else text
    return f"{part[:1].upper()}{part[1:]}: {rest}"


def _from_json(text: str) -> LatentNames:
    values = json.loads(text)
    if values.get("format") != FORMAT:
        raise ValueError(f"its format is {values.get('format')!r}, not {FORMAT!r}")
    return LatentNames(values["sae"] or None, dict(_checked(values["names"].items())))


def _from_table(path: Path) -> LatentNames:
    header, rows_of = open_table(path, header_has=("latent",))
    columns = find_columns(header, {what: (what,) for what in ("latent", "name", "sae")})
    if lacking := {"latent", "name"} - columns.keys():
        raise ValueError(f"it has no column {' and no column '.join(sorted(lacking))}")
    rows = list(rows_of(columns))
    saes = {row.get("sae") for row in rows}
    if len(saes) > 1:
        raise ValueError(f"it names several SAEs: {', '.join(sorted(map(str, saes)))}")
    return LatentNames(saes.pop() if saes else None, dict(_checked((row["latent"], row["name"] or "") for row in rows)))


def _checked(names: Iterable[tuple[Any, Any]]) -> Iterator[tuple[int, str]]:
    for number, name in names:
        latent = int(number)
        if latent < 0 or not isinstance(name, str):
            raise ValueError(f"latent {number} is named {name!r}")
        name = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
        if len(name) > MAX_LETTERS:
            raise ValueError(f"the name of latent {latent} has more than {MAX_LETTERS} letters")
        yield latent, name
