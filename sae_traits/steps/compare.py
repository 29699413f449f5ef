"""Two species of an annotated run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.evaluation.compared_species import MAX_LINES, ComparedSpecies, compare_species
from sae_traits.evaluation.evidence import StoredTraits
from sae_traits.evaluation.on_organism import score_regions, shares_of_latents
from sae_traits.io import whole_file
from sae_traits.runs.context import Context
from sae_traits.traits.chosen import latents_on_background
from sae_traits.traits.codes import Codes
from sae_traits.traits.contact_sheet import draw_sheet
from sae_traits.traits.table import read_latents


def compare(context: Context, first: str, second: str) -> ComparedSpecies:
    """What each of two species has and the other lacks.

    Args:
        first, second: names, or parts of names that only one species has.

    Raises:
        ConfigError: there is no such species, or the regions have no latents.
        StoreError: the run is not annotated.
    """
    if not context.config.regions.has_latents:
        raise ConfigError(f"regions of --regions {context.config.regions.kind} have no latents to compare species by")
    context.steps.fingerprint("annotate")
    images = context.collection.images
    names = sorted({name for record in images if (name := record.taxon.species) is not None})
    species = _species_named(first, names), _species_named(second, names)
    if species[0] == species[1]:
        raise ConfigError(f"{first} and {second} are one species, {species[0]}; name two")
    with context.reading("encode", "annotate"):
        latents = read_latents(context.folder.chosen_latents)
        traits = StoredTraits(context.folder.traits)
        of_both = (one for one in traits if images[one.candidate.image].taxon.species in species)
        codes = Codes.open(context.folder.codes)
        scored = score_regions(context.collection, of_both, context.features.info)
        on_organism = shares_of_latents(context.collection, scored)
        on_background = [drop.latent for drop in latents_on_background(codes.latent_background)]
        return compare_species(
            context.collection, traits, latents, context.firing_shares, species, on_organism, on_background
        )


def draw_compared(context: Context, compared: ComparedSpecies, file: Path) -> None:
    """Draw one region of each latent that a terminal is shown, on its image, as a PNG."""
    rows = [
        (species, row)
        for species, found in zip(compared.species, compared.telling, strict=True)
        for row in found[:MAX_LINES]
    ]
    wanted = {row.trait_id for _, row in rows}
    traits = {trait.trait_id: trait for trait in StoredTraits(context.folder.traits) if trait.trait_id in wanted}
    shown = [
        (
            context.collection.images[traits[row.trait_id].candidate.image],
            traits[row.trait_id].region,
            f"{species}, latent {row.latent}: {row.verdict}\n{row.training}, other {row.training_other}\n{row.text}",
        )
        for species, row in rows
    ]
    if not shown:
        raise ConfigError("nothing tells these two species apart, so there is nothing to draw")
    with whole_file(file) as stream:
        draw_sheet(shown, context.open_picture, n_columns=5, side=320).save(stream, format="PNG")


def _species_named(name: str, names: Sequence[str]) -> str:
    """The species of this name, whatever its case, with _ for spaces, too, or the only one whose name holds it."""
    wanted = " ".join(name.replace("_", " ").split()).casefold()
    same = [species for species in names if species.casefold() == wanted]
    found = same or [species for species in names if wanted and wanted in species.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name} stands for {', '.join(found)}; say which")
    words = {word: species for species in names for word in (*species.casefold().split(), species.casefold())}
    near = get_close_matches(wanted, words, n=1)
    hint = f"did you mean {words[near[0]]}?" if near else f"there are {', '.join(names[:20])}"
    raise ConfigError(f"the run has no species {name}; {hint}")
