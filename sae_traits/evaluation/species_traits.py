"""What was found of each species, for a reader of the report: its most frequent traits, and what is said of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from sae_traits.describers.excerpts import literal
from sae_traits.schema import Collection, Trait

TRAITS_SHOWN = 3
SPECIES_SHOWN = 100
LEAST_SHARE = 0.5
"""An attribute is named when at least this share of a latent's regions has the same value."""


def species_lines(collection: Collection, traits: Iterable[Trait]) -> list[str]:
    """A table in Markdown: of every species the latents with most images, the larger effect first where equal.

    Args:
        collection: the images.
        traits: of all splits. Those of images without a species are left out.
    """
    found: dict[str, dict[str, list[Trait]]] = defaultdict(lambda: defaultdict(list))
    for trait in traits:
        if (species := collection.images[trait.candidate.image].taxon.species) is not None:
            found[species][trait.candidate.name].append(trait)
    if not found:
        return ["No image has a species."]
    sizes = Counter(record.taxon.species for record in collection.images)
    lines = [
        "| species | region picked by | images | what is said of most of them | effect | significant |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for species in sorted(found)[:SPECIES_SHOWN]:
        ranked = sorted(found[species].items(), key=lambda one: (-len(one[1]), -one[1][0].candidate.effect, one[0]))
        for name, members in ranked[:TRAITS_SHOWN]:
            candidate = members[0].candidate
            effect = f"{candidate.effect:.1f}" if candidate.contrast else ""
            picked = f"latent {name}" if candidate.latent is not None and candidate.region_source == "sae" else name
            lines.append(
                f"| {literal(species)} | {picked} | {len(members)} of {sizes[species]} | {_said(members)} | {effect} | "
                f"{'yes' if candidate.significant else 'no'} |"
            )
    if len(found) > SPECIES_SHOWN:
        lines += ["", f"The first {SPECIES_SHOWN} of {len(found):,} species."]
    lines += ["", "All species and attributes as a table: `sae-traits export RUN FOLDER --to matrix`."]
    return lines


def _said(traits: Sequence[Trait]) -> str:
    """The part and the attributes that most of some regions share, each with its share; or that there is none."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for trait in traits:
        if trait.description.part:
            said["part"][trait.description.part] += 1
        for attribute in {(one.name, one.value) for one in trait.description.attributes}:
            said[attribute[0]][attribute[1]] += 1
    common = [
        (-number / len(traits), name, value)
        for name, values in said.items()
        for value, number in sorted(values.items(), key=lambda one: (-one[1], one[0]))[:1]
        if number / len(traits) >= LEAST_SHARE
    ]
    if not common:
        return "no attribute is shared by half of them"
    return ", ".join(f"{literal(name)} {literal(value)} ({-share:.0%})" for share, name, value in sorted(common))
