"""The colours that a field guide gives ten butterflies, against those that `measured` names on the chosen regions.

The photographs are the Leeds Butterfly dataset; the guide's text comes with it (eNature.com). From each description the
main colours were written down before this was run: those of grounds, bands, bars, patches, margins and washes, above
and below; not those of spots, dots, veins, eyespots and bodies. Compared are plain colour words (`traits.colours`).

- Hits and misses: a guide's colour is a hit where it is a colour of a region in at least a tenth of the species'
  images.
- Share of the regions whose main colour is one of the guide's; intervals over images.
- Control: the same regions against the guides of other species, dealt at random so that no species keeps its own.

    SAE_TRAITS_SHARED=… python benchmarks/leeds_colours.py --folder leeds-run
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compare_regions import make_run
from numpy.typing import NDArray
from tables import describe_machine, markdown_table

from sae_traits.describers.colours import color_family
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.evaluation.statistics import bootstrap_interval
from sae_traits.runs.context import Context
from sae_traits.schema import Collection, Trait
from sae_traits.steps import run_steps
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_traits

GUIDE: dict[str, dict[str, tuple[str, ...]]] = {
    "Danaus plexippus": {"burnt-orange": ("orange",), "black margins": ("black",)},
    "Heliconius charithonia": {"Jet-black above": ("black",), "banded with lemon-yellow": ("yellow",)},
    "Heliconius erato": {
        "Black above": ("black",),
        "broad crimson patch": ("red",),
        "narrow yellow line": ("yellow",),
        "red is pinkish": ("pink",),
    },
    "Junonia coenia": {
        "tawny-brown": ("brown",),
        "dark brown": ("dark brown",),
        "2 orange bars": ("orange",),
        "white band": ("white",),
        "rose-brown to tan": ("brown",),
    },
    "Lycaena phlaeas": {
        "bright copper": ("orange",),
        "brass-colored": ("yellow",),
        "HW dark brown": ("dark brown",),
        "mostly grayish": ("grey",),
        "orange band": ("orange",),
    },
    "Nymphalis antiopa": {
        "brownish-maroon": ("brown", "red"),
        "cream-yellow band": ("white", "yellow"),
        "ash-black": ("black",),
    },
    "Papilio cresphontes": {
        "Dark brownish-black": ("dark brown", "black"),
        "broad bands of yellow spots": ("yellow",),
        "orange patch": ("orange",),
        "yellow below": ("yellow",),
    },
    "Pieris rapae": {
        "Milk-white above": ("white",),
        "charcoal FW tips": ("grey",),
        "mustard-yellow": ("yellow",),
    },
    "Vanessa atalanta": {
        "Above, black": ("black",),
        "orange-red to vermilion bars": ("orange", "red"),
        "mottled black, brown, and blue": ("black", "brown", "blue"),
        "pink bar": ("pink",),
    },
    "Vanessa cardui": {
        "salmon-orange": ("orange",),
        "black blotches": ("black",),
        "rose-pink": ("pink",),
        "olive background": ("green",),
        "white bar": ("white",),
    },
}
"""Species -> words of its description -> the plain colour words that hold. Cream counts as white, tan as brown, olive
as green, maroon and crimson as red, charcoal as grey."""
HIT = 0.1
"""Share of a species' images."""
OFTEN = 0.05
"""Share of a species' regions from which on a colour outside the guide is worth a word."""
N_DEALS = 2000


@dataclass(frozen=True)
class Named:
    """The colours of one region, as plain words."""

    record: int
    species: str
    colors: tuple[str, ...]
    """The one that covers most first."""


def guide_colors(species: str) -> set[str]:
    """The plain colour words that the guide has for a species."""
    return {color for colors in GUIDE[species].values() for color in colors}


def check_quotes(shared: Path) -> None:
    """Stop where the words of GUIDE are not those of the descriptions that came with the photographs."""
    with (shared / "data/leeds_butterfly/reference_descriptions.csv").open(newline="", encoding="utf-8") as file:
        texts = {row["species"]: row["description"] for row in csv.DictReader(file)}
    wrong = [f"{name}: {words}" for name, quotes in GUIDE.items() for words in quotes if words not in texts[name]]
    if wrong:
        sys.exit(f"the guide does not say {'; '.join(wrong)}")


def name_colors(context: Context, folder: Path, *, use_masks: bool) -> list[Named]:
    """Describe the regions of all images with `measured`; the colours that it names."""
    run_steps(context, ["encode"])
    plan, collection = context.plan, context.collection
    folder.mkdir(parents=True, exist_ok=True)
    traits_file = folder / "traits.parquet"
    with Ledger(folder / "ledger.sqlite") as ledger:
        describe_candidates(plan, MeasuredDescriber(), ledger, workers=2, use_masks=use_masks)
        export_traits(plan, ledger, traits_file=traits_file, latents_file=folder / "latents.parquet")
    return [_named(trait, collection) for trait in read_traits(traits_file)]


def _named(trait: Trait, collection: Collection) -> Named:
    said = tuple(color_family(one.value) for one in trait.description.attributes if one.name == "colour")
    row = trait.candidate.image
    return Named(row, collection.images[row].species, said)


def species_row(species: str, named: Sequence[Named], guides: Sequence[str]) -> list[str]:
    """Hits, misses and other colours of one species, and its share in its own and in the other guides."""
    own = [one for one in named if one.species == species]
    guide = guide_colors(species)
    records: defaultdict[str, set[int]] = defaultdict(set)
    for one in own:
        for color in one.colors:
            records[color].add(one.record)
    n_images = len({one.record for one in own})
    shares = {color: len(records[color]) / n_images for color in sorted(guide)}
    others = Counter(one.colors[0] for one in own if one.colors[0] not in guide)
    elsewhere = [np.mean([one.colors[0] in guide_colors(other) for one in own]) for other in guides if other != species]
    return [
        f"*{species}*",
        _listed({color: share for color, share in shares.items() if share >= HIT}),
        _listed({color: share for color, share in shares.items() if share < HIT}),
        _listed({color: n / len(own) for color, n in others.most_common() if n / len(own) >= OFTEN}),
        str(bootstrap_interval([one.colors[0] in guide for one in own], groups=[one.record for one in own])),
        f"{np.mean(elsewhere):.3f}",
    ]


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{color} {100 * share:.0f} %" for color, share in shares.items()) or "–"


def deals(n: int) -> Iterator[NDArray[np.intp]]:
    """Random orders of n guides in which none is at its own place."""
    generator = np.random.default_rng(0)
    for _ in range(N_DEALS):
        order = generator.permutation(n)
        while (order == np.arange(n)).any():
            order = generator.permutation(n)
        yield order


def overall_row(name: str, named: Sequence[Named]) -> list[str]:
    """Share of all regions in their own guide, and in guides dealt at random."""
    species = sorted(GUIDE)
    fits = np.zeros((len(species), len(species)))  # [species, guide]: regions of the species in that guide
    for one in named:
        fits[species.index(one.species)] += [one.colors[0] in guide_colors(guide) for guide in species]
    dealt = np.array([fits[np.arange(len(species)), order].sum() for order in deals(len(species))]) / len(named)
    observed = bootstrap_interval(
        [one.colors[0] in guide_colors(one.species) for one in named], groups=[one.record for one in named]
    )
    low, high = np.quantile(dealt, [0.025, 0.975])
    p_value = (1 + int((dealt >= observed.mean).sum())) / (1 + N_DEALS)
    return [name, f"{len(named)}", str(observed), f"{dealt.mean():.3f} [{low:.3f}, {high:.3f}]", f"{p_value:.4f}"]


def main() -> None:
    """Make the run, name colours with and without masks, and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the run, and goes on with what is there")
    arguments = parser.parse_args()
    shared = os.environ.get("SAE_TRAITS_SHARED")
    if not shared:
        sys.exit("SAE_TRAITS_SHARED must name the folder with data/leeds_butterfly and models/mobilenet_v2_inat_insect")
    check_quotes(Path(shared))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        run = make_run(Path(shared), folder)
        named = {
            "all pixels of the region (default)": name_colors(run, folder / "colours", use_masks=False),
            "its pixels on the animal (--use-masks)": name_colors(run, folder / "colours-on-animal", use_masks=True),
        }
    species = ["species", "hits", "misses", "named, not in the guide", "regions in its guide", "in the other guides"]
    overall = ["colours of", "regions", "in the species' own guide", "in a guide dealt at random", "p"]
    default, *_ = named.values()
    print(describe_machine())
    print()
    print(markdown_table(species, [species_row(name, default, sorted(GUIDE)) for name in sorted(GUIDE)]))
    print()
    print(markdown_table(overall, [overall_row(*one) for one in named.items()]))


if __name__ == "__main__":
    main()
