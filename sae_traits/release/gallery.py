"""The gallery of a model card: the strongest regions of some latents, in photographs of the training split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sae_traits.evaluation.species_order import DescribedLatent
from sae_traits.evaluation.species_tallies import Tally
from sae_traits.release.facts import LatentPicture, Rights
from sae_traits.schema import ChosenLatent, Collection, Trait
from sae_traits.traits.contact_sheet import OpenPicture, draw_sheet

N_LATENTS = 6
N_PHOTOGRAPHS = 4
"""Per latent: one row of a contact sheet."""
PICTURE = "figures/latent-*.jpg"
"""What the pictures are called in the folder of an SAE."""
_QUALITY = 85


def latents_to_show(tallies: Mapping[str, Mapping[str, Tally]]) -> list[ChosenLatent]:
    """The latents with the best evidence, at most one per species, so that a gallery shows different organisms.

    In the order of `DescribedLatent.order`: those with regions in few individuals come late.

    Args:
        tallies: species -> latent -> the regions of it, with its choice.
    """

    best: dict[str, tuple[DescribedLatent, ChosenLatent]] = {}
    for species in sorted(tallies):
        found = [
            (DescribedLatent(name=name, tally=tally, contrast=choice.contrast, held_out=choice.held_out), choice)
            for name, tally in tallies[species].items()
            if (choice := tally.choice) is not None
        ]
        for one, choice in sorted(found, key=lambda pair: pair[0].order):
            if one.name not in best:
                best[one.name] = one, choice
                break
    return [choice for _, choice in sorted(best.values(), key=lambda pair: pair[0].order)][:N_LATENTS]


def draw_latents(
    collection: Collection,
    traits: Iterable[Trait],
    choices: Sequence[ChosenLatent],
    open_picture: OpenPicture,
    folder: Path,
) -> tuple[LatentPicture, ...]:
    """Draw the strongest regions of some latents into the folder of an SAE; earlier pictures go.

    Only photographs of the training split are shown, of the species that a latent describes: the others are for
    scoring.

    Returns:
        The pictures, in the order of `choices`; a latent without a photograph has none.
    """
    for former in folder.glob(PICTURE):
        former.unlink()
    strongest = _strongest(collection, traits, {choice.latent: choice.species for choice in choices})
    pictures = []
    for choice in choices:
        if not (shown := strongest[choice.latent]):
            continue
        records = [collection.images[trait.candidate.image] for trait in shown]
        captions = [
            f"{choice.species}\n{record.image_id[:24]}, {trait.candidate.peak:.3g}"
            for record, trait in zip(records, shown, strict=True)
        ]
        path = f"figures/latent-{choice.latent:05d}.jpg"
        (folder / "figures").mkdir(exist_ok=True)
        regions = (trait.region for trait in shown)
        sheet = draw_sheet(list(zip(records, regions, captions, strict=True)), open_picture, n_columns=4, side=288)
        sheet.save(folder / path, quality=_QUALITY)
        rights = Counter((record.license, record.rights_holder) for record in records)
        pictures.append(
            LatentPicture(
                path=path,
                latent=choice.latent,
                species=choice.species,
                f_species=choice.contrast.f_species,
                f_reference=choice.contrast.f_reference,
                rights=tuple(Rights(*names, n) for names, n in rights.most_common()),
            )
        )
    return tuple(pictures)


def _strongest(
    collection: Collection, traits: Iterable[Trait], species_of: Mapping[int, str]
) -> dict[int, list[Trait]]:
    """Latent -> its strongest regions in training photographs of its species, one per individual."""
    best: dict[int, dict[str, Trait]] = defaultdict(dict)
    for trait in traits if species_of else ():
        record, latent = collection.images[trait.candidate.image], trait.candidate.latent
        if latent is None or record.split != "train" or species_of.get(latent) != record.taxon.species:
            continue
        former = best[latent].get(record.individual_id)
        best[latent][record.individual_id] = trait if former is None else max(former, trait, key=_peak)
    return {z: sorted(best[z].values(), key=_peak, reverse=True)[:N_PHOTOGRAPHS] for z in species_of}


def _peak(trait: Trait) -> float:
    return trait.candidate.peak or 0.0
