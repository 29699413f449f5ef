"""Names of latents for a run: kept in RUN/names.json, from where the step `dataset` takes them; and suggestions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sae_traits.describers.model import ModelDescriber
from sae_traits.errors import ConfigError
from sae_traits.runs.context import Context
from sae_traits.runs.names import given_names, hash_of_published_sae
from sae_traits.traits.latent_names import LatentNames, named_traits
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.suggested_names import N_STRONGEST, Suggestions, suggest_names
from sae_traits.traits.table import read_latents, read_traits


@dataclass(frozen=True)
class Named:
    """What naming came to."""

    file: Path
    n_latents: int
    """With a name, of all files so far."""
    n_traits: int
    n_parts: int
    """Traits whose part is a name."""

    def lines(self) -> list[str]:
        return [
            f"{self.file}: {self.n_latents:,} latents have names; they are the part of {self.n_parts:,} of "
            f"{self.n_traits:,} traits",
            f"`sae-traits atlas {self.file.parent}` shows them",
        ]


def name_latents(context: Context, file: Path) -> Named:
    """Keep the names of a file with the run, over those that it has already.

    Raises:
        ConfigError: the file cannot be read, its names are of another SAE or of latents that it does not have, or the
            regions of the run have no latents.
    """
    dictionary, sae = context.dictionary, context.dictionary_name
    if dictionary is None or sae is None:
        raise ConfigError(
            f"the regions of {context.folder.path} are of --regions {context.config.regions.kind}, which has no latents"
        )
    given = LatentNames.read(file)
    if not given.are_of(sae, dictionary.weights_hash(), hash_of_published_sae):
        raise ConfigError(
            f"the names in {file} are of the SAE {given.sae}, not of that of {context.folder.path} (sha256:"
            f"{dictionary.weights_hash()}), in which the same numbers stand for other things"
        )
    if unknown := [latent for latent in given.names if latent >= dictionary.config.n_latents]:
        raise ConfigError(f"{file} names latent {unknown[0]}; the SAE has 0 to {dictionary.config.n_latents - 1}")
    names = {latent: name for latent, name in {**given_names(context), **given.names}.items() if name}
    LatentNames(f"local@sha256:{dictionary.weights_hash()}", names).save(context.folder.latent_names)
    n_traits, n_parts = _count(context, names)
    return Named(context.folder.latent_names, len(names), n_traits, n_parts)


def _count(context: Context, names: Mapping[int, str]) -> tuple[int, int]:
    """How many traits there are, and how many of them have a name for their part."""
    sources = [trait.description.part_source for trait in named_traits(read_traits(context.folder.traits), names)]
    return len(sources), sources.count("named")


@dataclass(frozen=True)
class Suggested:
    """What asking for names came to."""

    file: Path
    suggestions: Suggestions

    def lines(self) -> list[str]:
        found = self.suggestions
        return [
            f"{len(found.names):,} of {found.n_asked:,} latents have a suggested name; {found.n_without_part:,} show no"
            f" one part, {found.n_background:,} show background, {found.n_open:,} have no answer",
            f"{self.file}: nothing is named by it. `sae-traits atlas` shows the suggestions, to be accepted one by one;"
            " or mend the file and give it to `sae-traits name`",
        ]


def suggest_latent_names(context: Context, *, n_latents: int) -> Suggested:
    """Let the describer of a run propose names of latents without one, kept in RUN/suggestions.json.

    Raises:
        ConfigError: the regions have no latents, or the describer names no parts of them.
    """
    dictionary, folder = context.dictionary, context.folder
    describer = context.describer
    if dictionary is None:
        raise ConfigError(f"--regions {context.config.regions.kind} has no latents to name")
    if not isinstance(describer, ModelDescriber):
        raise ConfigError(
            f"the describer {describer.name} does not know parts; ask a model: --describer server --describer-model …"
        )
    if describer.config.prompt == "whole":
        raise ConfigError("names are about regions, and --prompt whole shows none; choose --prompt region")
    context.steps.check(reading=["annotate"])
    latents = read_latents(folder.chosen_latents)
    with Ledger(folder.ledger(context.config.regions.kind, "naming")) as ledger:
        suggestions = suggest_names(
            read_traits(folder.traits),
            context.collection,
            describer.for_latents(N_STRONGEST),
            ledger,
            named={one.latent for one in latents if one.name} | {n for n, name in given_names(context).items() if name},
            n_latents=n_latents,
            workers=context.config.describer.workers,
        )
    LatentNames(f"local@sha256:{dictionary.weights_hash()}", suggestions.names).save(folder.suggested_names)
    return Suggested(folder.suggested_names, suggestions)
