"""The species that the demo's CLIP learns from: random looks, none of which a species of the demo has.

What is held out, exactly: the two parts of a body plan that tell its species apart are its main part (elytra,
forewings, abdomen) and its second part (pronotum, hindwings, thorax). A look of the demo is (a) the main part with its
colour and its pattern, or (b) the colours of main and second part together. No species for training shares a look with
any species of the demo, yet every colour, pattern and shape of every part occurs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sae_traits.testbench.drawn.world import PALETTE, WORLD, Appearance, BodyPlan, DrawnSpecies

MAIN_AND_SECOND: dict[BodyPlan, tuple[str, str]] = {
    "beetle": ("elytra", "pronotum"),
    "moth": ("forewings", "hindwings"),
    "bee": ("abdomen", "thorax"),
}
"""Body plan -> the parts that tell its species apart."""
PATTERNS = ("plain", "banded", "spotted")
SHAPES = ("rounded", "elongated")
MARKS_DISTANCE = 110
"""Marks differ from the colour below them by at least this distance in sRGB, as in the demo: they can be seen."""

Look = tuple[str, ...]
"""One of the things that are held out; see the module docstring."""

_OUR_NAMES = frozenset(word.lower() for s in WORLD for word in (s.genus.name, s.epithet, s.genus.family, s.genus.order))
_ONSETS = [
    *"bcdfghlmnprstvz",
    *("br", "cr", "ch", "dr", "fl", "gr", "gl", "ph", "pl", "pr", "qu", "sc", "sp", "st", "str", "th", "tr", "x"),
]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "ae", "au", "ia", "io"]
_CODAS = ["", "", "", "", "l", "n", "r", "s", "m", "x"]
_ENDINGS = {
    "order": ["optera"],
    "family": ["idae"],
    "genus": ["a", "us", "ia", "ella", "is", "ops", "ura", "odes", "era", "alpa", "ota"],
    "species": ["a", "us", "ata", "ensis", "ella", "oides", "ina", "osa", "alis", "icola", "ulata", "ifera", "is"],
}


def looks(species: DrawnSpecies) -> frozenset[Look]:
    """The looks of a species, as held out."""
    main, second = MAIN_AND_SECOND[species.genus.plan]
    first, other = species.parts[main], species.parts[second]
    return frozenset({(main, first.colour, first.pattern), (main, first.colour, second, other.colour)})


HELD_OUT: frozenset[Look] = frozenset(look for species in WORLD for look in looks(species))
"""The looks of the demo's species."""


def training_species(rng: np.random.Generator) -> DrawnSpecies:
    """A species with a random look that is not held out, and with invented names.

    What is alike in a family (head, legs, antennae, wings of bees) is as in the demo's families.
    """
    while True:
        pattern_of_family = WORLD[rng.integers(len(WORLD))]
        main, second = MAIN_AND_SECOND[pattern_of_family.genus.plan]
        parts = pattern_of_family.parts | {main: _main_part(rng), second: Appearance(_colour(rng))}
        if "body" in parts:
            parts |= {"body": Appearance(_colour(rng))}
        genus = replace(
            pattern_of_family.genus,
            name=invented_name(rng, "genus"),
            limb_length=float(rng.uniform(0.75, 1.35)),
            girth=float(rng.uniform(0.88, 1.25)),
        )
        species = DrawnSpecies(genus, invented_name(rng, "species"), float(rng.uniform(7, 26)), parts)
        if not looks(species) & HELD_OUT:
            return species


def invented_name(rng: np.random.Generator, rank: str) -> str:
    """A word that looks like the name of an order, a family, a genus or (without its genus) a species.

    Never a name of the demo's; the rank `species` gives the epithet.
    """
    while True:
        stem = "".join(
            str(rng.choice(letters)) for _ in range(rng.integers(1, 4)) for letters in (_ONSETS, _VOWELS, _CODAS)
        )
        name = stem.rstrip("aeiou") + str(rng.choice(_ENDINGS[rank]))
        if name not in _OUR_NAMES:
            return name if rank == "species" else name.capitalize()


def _main_part(rng: np.random.Generator) -> Appearance:
    colour, pattern = _colour(rng), PATTERNS[rng.integers(len(PATTERNS))]
    base = np.array(PALETTE[colour])
    marks = [name for name, rgb in PALETTE.items() if np.linalg.norm(base - rgb) >= MARKS_DISTANCE]
    return Appearance(colour, pattern, marks[rng.integers(len(marks))], SHAPES[rng.integers(len(SHAPES))])


def _colour(rng: np.random.Generator) -> str:
    names = list(PALETTE)
    return names[rng.integers(len(names))]
