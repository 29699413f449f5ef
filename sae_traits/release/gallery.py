"""The gallery of a model card: where some latents fire most strongly, in photographs of the training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sae_traits.evaluation.verdict import Observed, rank
from sae_traits.release.facts import LatentPicture, Rights
from sae_traits.schema import ChosenLatent
from sae_traits.traits.contact_sheet import OpenPicture
from sae_traits.traits.latent_pages import LatentPage, contact_sheet

N_LATENTS = 6
N_PHOTOGRAPHS = 4
"""Per latent: one row of a contact sheet."""
N_LOOKED_AT = 40
"""Images of all splits among which those of the training split are looked for."""
PICTURE = "figures/latent-*.jpg"
"""What the pictures are called in the folder of an SAE."""
_QUALITY = 85


def latents_to_show(latents: Iterable[ChosenLatent]) -> list[ChosenLatent]:
    """The latents with the best evidence, at most one per species, so that a gallery shows different organisms.

    By their verdicts, then by the difference of the two shares, then by the individuals in which they fired: the
    largest effects are often those of latents that fire in two.
    """

    def order(choice: ChosenLatent) -> tuple[tuple[int, float], int, int]:
        observed = Observed(background=choice.background, held_out=choice.held_out)
        return rank(choice.contrast, observed), -choice.n_fired, choice.latent

    by_species: dict[str, list[ChosenLatent]] = {}
    for choice in latents:
        by_species.setdefault(choice.species, []).append(choice)
    best: dict[int, ChosenLatent] = {}
    for of_species in by_species.values():
        for choice in sorted(of_species, key=order):
            if choice.latent not in best:
                best[choice.latent] = choice
                break
    return sorted(best.values(), key=order)[:N_LATENTS]


def draw_latents(
    pages: Sequence[LatentPage], choices: Sequence[ChosenLatent], open_picture: OpenPicture, folder: Path
) -> tuple[LatentPicture, ...]:
    """Draw the strongest regions of some latents into the folder of an SAE; earlier pictures go.

    Only photographs of the training split are shown: the others are for scoring.

    Returns:
        The pictures, in the order of `choices`; a latent without a photograph has none.
    """
    for former in folder.glob(PICTURE):
        former.unlink()
    by_latent = {page.latent: page for page in pages}
    pictures = []
    for choice in choices:
        page = by_latent[choice.latent]
        training = [image for image in page.strongest if image.record.split == "train"][:N_PHOTOGRAPHS]
        if not training:
            continue
        path = f"figures/latent-{choice.latent:05d}.jpg"
        (folder / "figures").mkdir(exist_ok=True)
        sheet = contact_sheet(replace(page, strongest=tuple(training)), open_picture)
        sheet.save(folder / path, quality=_QUALITY)
        rights = Counter((image.record.license, image.record.rights_holder) for image in training)
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
