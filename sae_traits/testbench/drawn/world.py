"""The invented genera and species, what each of them looks like, and which of its traits tell it from its relatives.

Nothing here says anything about real organisms. Traits are stated per part: its colour, its pattern and, where the body
plan has two of them, its shape. Legs and antennae look alike within a family: they are thinner than a patch, so that a
difference in them could not be found again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sae_traits.errors import CollectionError, one_line

BodyPlan = Literal["beetle", "moth", "bee"]
ATTRIBUTES = ("colour", "pattern", "shape")
TRUTH_FILE = "truth.json"
NOTE = "Drawn images of invented species: a test bench and a demo. It says nothing about real organisms."

PALETTE: dict[str, tuple[int, int, int]] = {
    "black": (32, 31, 34),
    "white": (242, 240, 232),
    "grey": (140, 141, 143),
    "brown": (146, 94, 52),
    "dark brown": (80, 48, 27),
    "red": (196, 34, 38),
    "orange": (238, 130, 28),
    "yellow": (242, 212, 52),
    "green": (58, 142, 62),
    "blue": (44, 88, 188),
    "purple": (116, 58, 150),
    "pink": (238, 142, 178),
}
"""The colours of the drawn world, in sRGB."""

PARTS = (
    *("background", "antennae", "legs", "head", "pronotum", "elytra"),
    *("forewings", "hindwings", "body", "thorax", "abdomen", "wings"),
)
"""Values of the part label maps: the index into this list."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a part looks like."""

    colour: str
    pattern: Literal["plain", "banded", "spotted"] = "plain"
    marks: str = "black"
    """Colour of the bands or spots."""
    shape: Literal["rounded", "elongated"] | None = None
    """None where the body plan knows one shape only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Genus:
    """A body plan and its proportions."""

    name: str
    family: str
    order: str
    plan: BodyPlan
    limb_length: float
    """Length of antennae and legs, 1 the usual."""
    girth: float
    """Width of pronotum, body or thorax, 1 the usual."""


@dataclass(frozen=True, slots=True)
class DrawnSpecies:
    """A species of the drawn world."""

    genus: Genus
    epithet: str
    unit_mm: float
    """Millimetres of a body unit: about the length of a beetle or a bee; a moth's wings span some 1.4."""
    parts: dict[str, Appearance]

    @property
    def binomial(self) -> str:
        return f"{self.genus.name} {self.epithet}"

    def traits(self) -> Iterator[tuple[str, str, str]]:
        """Every (part, attribute, value) of the species."""
        for part, appearance in self.parts.items():
            for attribute in ATTRIBUTES:
                if (value := getattr(appearance, attribute)) is not None:
                    yield part, attribute, value


@dataclass(frozen=True, slots=True)
class TrueTrait:
    """One trait of a species, as drawn."""

    part: str
    attribute: str
    value: str
    diagnostic: bool
    """No congener has this value; for a species alone in its genus: no other species of its family."""


@dataclass(frozen=True, slots=True)
class TrueSpecies:
    """What is true of a species."""

    species: str
    genus: str
    family: str
    order: str
    alone_in_genus: bool
    traits: tuple[TrueTrait, ...]

    @property
    def diagnostic(self) -> tuple[TrueTrait, ...]:
        return tuple(trait for trait in self.traits if trait.diagnostic)

    def value(self, part: str, attribute: str) -> str | None:
        """The true value of an attribute of a part, None where there is none."""
        return next((t.value for t in self.traits if (t.part, t.attribute) == (part, attribute)), None)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a drawn collection: for scoring only, no step of the pipeline reads it."""

    parts: tuple[str, ...]
    """Names of the values of the part label maps; 0 is the background."""
    species: tuple[TrueSpecies, ...]

    def of(self, species: str) -> TrueSpecies:
        """What is true of a species, by its binomial; a CollectionError where there is no such species."""
        for true in self.species:
            if true.species == species:
                return true
        raise CollectionError(f"{species} is no species of this drawn collection; was its {TRUTH_FILE} replaced?")

    def save(self, folder: Path) -> None:
        """Write truth.json into the collection's folder."""
        values = {"note": NOTE, "palette": PALETTE} | asdict(self)
        (folder / TRUTH_FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Read the truth.json of a drawn collection; a CollectionError where it holds none, or it cannot be read."""
        path = folder / TRUTH_FILE
        if not path.is_file():
            raise CollectionError(f"{folder} has no {TRUTH_FILE}: only drawn collections can be scored against a truth")
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except ValidationError as error:
            raise CollectionError(f"{path} cannot be read ({one_line(error)}); draw the collection again") from error


def true_world(world: tuple[DrawnSpecies, ...]) -> Truth:
    """The truth of a world: every species' traits, and which of them are diagnostic."""
    return Truth(PARTS, tuple(_true_species(species, world) for species in world))


def _true_species(species: DrawnSpecies, world: tuple[DrawnSpecies, ...]) -> TrueSpecies:
    """A trait is diagnostic when no congener has it; for a species alone in its genus, no species of its family."""
    genus = species.genus
    congeners = [other for other in world if other.genus.name == genus.name and other is not species]
    relatives = congeners or [o for o in world if o.genus.family == genus.family and o is not species]
    shared = {trait for other in relatives for trait in other.traits()}
    return TrueSpecies(
        species=species.binomial,
        genus=genus.name,
        family=genus.family,
        order=genus.order,
        alone_in_genus=not congeners,
        traits=tuple(TrueTrait(*trait, diagnostic=trait not in shared) for trait in species.traits()),
    )


def _beetle(genus: Genus, epithet: str, unit_mm: float, elytra: Appearance, pronotum: str) -> DrawnSpecies:
    black = Appearance("black")
    parts = {"elytra": elytra, "pronotum": Appearance(pronotum)}
    parts |= dict.fromkeys(("head", "abdomen", "legs", "antennae"), black)
    return DrawnSpecies(genus, epithet, unit_mm, parts)


def _moth(genus: Genus, epithet: str, unit_mm: float, forewings: Appearance, hindwings: str, body: str) -> DrawnSpecies:
    parts = {"forewings": forewings, "hindwings": Appearance(hindwings), "body": Appearance(body)}
    return DrawnSpecies(genus, epithet, unit_mm, parts | {"antennae": Appearance("dark brown")})


def _bee(genus: Genus, epithet: str, unit_mm: float, abdomen: Appearance, thorax: str) -> DrawnSpecies:
    brown = Appearance("dark brown")
    parts = {"abdomen": abdomen, "thorax": Appearance(thorax), "wings": Appearance("grey")}
    parts |= dict.fromkeys(("head", "legs", "antennae"), brown)
    return DrawnSpecies(genus, epithet, unit_mm, parts)


def _genus(name: str, plan: BodyPlan, limb_length: float, girth: float) -> Genus:
    family, order = {
        "beetle": ("Fictacaridae", "Fictoptera"),
        "moth": ("Pictavelidae", "Pictoptera"),
        "bee": ("Apificidae", "Pictoptera"),
    }[plan]
    return Genus(name=name, family=family, order=order, plan=plan, limb_length=limb_length, girth=girth)


_FICTACARA = _genus("Fictacara", "beetle", limb_length=1.0, girth=1.0)
_MOCALPA = _genus("Mocalpa", "beetle", limb_length=1.35, girth=0.88)
_FERUSILLA = _genus("Ferusilla", "beetle", limb_length=0.8, girth=1.15)
_PICTAVELA = _genus("Pictavela", "moth", limb_length=1.0, girth=0.95)
_NOCTUROLA = _genus("Nocturola", "moth", limb_length=0.75, girth=1.25)
_UMBRISOLA = _genus("Umbrisola", "moth", limb_length=1.3, girth=1.1)
_APIFEX = _genus("Apifex", "bee", limb_length=1.0, girth=1.0)
_SOLAPISTA = _genus("Solapista", "bee", limb_length=1.2, girth=1.1)

WORLD: tuple[DrawnSpecies, ...] = (
    _beetle(_FICTACARA, "ignita", 11, Appearance("red", shape="elongated"), "white"),
    _beetle(_FICTACARA, "zonata", 13, Appearance("yellow", "banded", "black", "elongated"), "black"),
    _beetle(_FICTACARA, "sphaerica", 9, Appearance("green", shape="rounded"), "black"),
    _beetle(_MOCALPA, "lineolata", 18, Appearance("brown", "banded", "yellow", "elongated"), "dark brown"),
    _beetle(_MOCALPA, "adspersa", 16, Appearance("brown", "spotted", "white", "elongated"), "purple"),
    _beetle(_FERUSILLA, "monticola", 7, Appearance("blue", shape="rounded"), "orange"),
    _moth(_PICTAVELA, "aurantia", 20, Appearance("orange", shape="rounded"), "white", "brown"),
    _moth(_PICTAVELA, "fasciata", 22, Appearance("grey", "banded", "black", "rounded"), "red", "brown"),
    _moth(_PICTAVELA, "caerulans", 21, Appearance("grey", shape="elongated"), "blue", "brown"),
    _moth(_NOCTUROLA, "ocellata", 26, Appearance("brown", "spotted", "white", "rounded"), "pink", "dark brown"),
    _moth(_NOCTUROLA, "undulata", 24, Appearance("brown", "banded", "white", "rounded"), "yellow", "dark brown"),
    _moth(_UMBRISOLA, "sylvestris", 17, Appearance("green", shape="elongated"), "purple", "white"),
    _bee(_APIFEX, "cingulata", 12, Appearance("yellow", "banded", "black", "rounded"), "brown"),
    _bee(_APIFEX, "longula", 15, Appearance("orange", shape="elongated"), "brown"),
    _bee(_APIFEX, "obscura", 11, Appearance("black", shape="rounded"), "yellow"),
    _bee(_SOLAPISTA, "mirabilis", 14, Appearance("blue", "spotted", "white", "rounded"), "red"),
)
"""Sixteen species: three genera of three, two of two, three of one; three families in two orders."""
