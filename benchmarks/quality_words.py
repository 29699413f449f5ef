"""Words that tell species apart, and verdicts: do they hold of individuals that they were not read from?

The individuals of each species are dealt into two halves. Words and verdicts are read from one half as a report reads
them from all, the shares of firing apart, which are those of the run, and looked for in the other half: at the same
latent, where five individuals of the other half have a region of it. A mean over deals.

    python benchmarks/quality_words.py RUN ...
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tables import markdown_table

from sae_traits.evaluation.species_order import DescribedLatent, best_first
from sae_traits.evaluation.species_tallies import (
    MIN_INDIVIDUALS,
    MOST,
    SharedAttribute,
    compare,
    individuals_by_species,
    tally_traits,
)
from sae_traits.evaluation.telling_words import SaidOfSpecies
from sae_traits.runs.folder import RunFolder
from sae_traits.schema import ChosenLatent, Collection, Trait
from sae_traits.traits.codes import Codes
from sae_traits.traits.firing_shares import FiringShares, firing_shares
from sae_traits.traits.table import read_latents, read_traits

N_DEALS = 6


@dataclass(frozen=True)
class Read:
    """What was read from some individuals."""

    latents: dict[tuple[str, str], DescribedLatent]
    """Of a species, by its name."""
    said: SaidOfSpecies

    def of_word(self, key: tuple[str, str], word: SharedAttribute) -> SharedAttribute:
        """The same word of the same latent, by these individuals."""
        one = self.latents[key]
        share = len(one.tally.values.get(word.name, {}).get(word.value, ())) / one.n
        (here,) = self.said.beside(key[0], one.relatives).mark((replace(word, share=share),), one.n)
        return here


@dataclass(frozen=True)
class Run:
    """What a report is made from."""

    collection: Collection
    traits: list[Trait]
    latents: list[ChosenLatent]
    firing: FiringShares

    @classmethod
    def open(cls, folder: RunFolder) -> Run:
        """That of an annotated run."""
        collection, codes = Collection.load(folder.images), Codes.open(folder.codes)
        latents = read_latents(folder.chosen_latents)
        return cls(collection, list(read_traits(folder.traits)), latents, firing_shares(codes, collection))

    def read_from(self, individuals: set[str] | None = None) -> Read:
        """What is said of each latent of a species, and its verdict, by the regions of some individuals, or of all."""
        images = self.collection.images
        traits = [
            trait
            for trait in self.traits
            if individuals is None or images[trait.candidate.image].individual_id in individuals
        ]
        tallies = tally_traits(self.collection, traits, self.latents)
        taxa = {record.taxon.species: record.taxon for record in images}
        said, judged = SaidOfSpecies(tallies, individuals_by_species(images)[1]), {}
        for species, of_species in tallies.items():
            found = []
            for name, tally in of_species.items():
                if tally.choice is None:
                    raise SystemExit("regions of an SAE are needed: others have no latents")
                of = compare(tally.choice, taxa[species], self.firing)
                found.append(
                    DescribedLatent(
                        name=name,
                        tally=tally,
                        contrast=tally.contrast,
                        held_out=of.shares_held_out,
                        relatives=of.relatives,
                    )
                )
            judged |= {(species, one.name): one for one, _ in best_first(found, said, species)}
        return Read(judged, said)

    def deals(self) -> Iterator[tuple[set[str], set[str]]]:
        """Halves of the individuals of each species."""
        for seed in range(N_DEALS):
            rng, halves = np.random.default_rng(seed), (set[str](), set[str]())
            for _, individuals in sorted(individuals_by_species(self.collection.images)[0].items()):
                dealt = rng.permutation(sorted(individuals)).tolist()
                halves[0].update(dealt[: len(dealt) // 2])
                halves[1].update(dealt[len(dealt) // 2 :])
            yield halves


def untold(one: DescribedLatent) -> bool:
    """Whether it would be trusted if a word told it apart."""
    return one.verdict.reasons == ("no word says how it differs",)


def shares(values: Sequence[bool]) -> str:
    """How many, and how many of these."""
    return f"{np.mean(values):.3f} of {len(values) / N_DEALS:.0f}" if values else "none"


def rows_of(name: str, run: Run) -> tuple[list[str], list[list[str]]]:
    """The row of a run, and a row per attribute of the words that tell."""
    of_all = run.read_from().latents.values()
    n_trusted, n_untold = sum(one.verdict.word == "trust" for one in of_all), sum(map(untold, of_all))
    trusted: dict[bool, list[bool]] = defaultdict(list)
    words: dict[tuple[bool, str], list[SharedAttribute]] = defaultdict(list)
    for first, second in run.deals():
        here, there = run.read_from(first), run.read_from(second)
        for key, one in here.latents.items():
            if key not in there.latents or there.latents[key].n < MIN_INDIVIDUALS:
                continue
            for word in one.shared:
                words[word.is_telling, word.name].append(there.of_word(key, word))
            if one.verdict.word == "trust" or untold(one):
                trusted[untold(one)].append(there.latents[key].verdict.word == "trust")
    telling, other = (
        [word for (tells, _), of in words.items() if tells is kind for word in of] for kind in (True, False)
    )
    row = [name, str(n_trusted), str(n_untold), shares(trusted[False]), shares(trusted[True])]
    row += [shares([word.is_telling for word in of]) for of in (telling, other)]
    attributes = sorted((attribute, of) for (tells, attribute), of in words.items() if tells)
    return row, [
        [name, attribute, shares([word.is_telling for word in of]), shares([word.share > MOST for word in of])]
        for attribute, of in attributes
    ]


def main() -> None:
    """Print Markdown tables of some runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run with regions of an SAE")
    found = [rows_of(path.name, Run.open(RunFolder(path))) for path in parser.parse_args().runs]
    columns = [
        "run",
        "latents to trust",
        "but for a word",
        "trusted by half: again",
        "untold by half: trusted by the other",
    ]
    columns += ["words that tell: again", "others: tell by the other half"]
    print(markdown_table(columns, [row for row, _ in found]))
    columns = ["run", "words that tell", "tell again", "said of most again"]
    print("\n" + markdown_table(columns, [row for _, rows in found for row in rows]))


if __name__ == "__main__":
    main()
