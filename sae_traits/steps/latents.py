"""What latents of an annotated run stand for: tables and contact sheets in RUN/latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.runs.context import Context
from sae_traits.traits.codes import Codes
from sae_traits.traits.latent_pages import latent_pages, write_latent_pages
from sae_traits.traits.plan import Plan

MAX_SHOWN = 20
"""Latents that are shown where none is asked for."""


def write_latents(context: Context, latents: Sequence[int], n_strongest: int) -> list[Path]:
    """Write what is known of some latents of an annotated run, with so many images of each; the files.

    Where none is named they are the MAX_SHOWN latents that describe a species with the largest effect.
    """
    context.steps.fingerprint("encode")
    if not context.config.regions.has_latents:
        raise ConfigError(
            f"the regions of {context.folder.path} are of --regions {context.config.regions.kind}, which has no "
            "latents; annotate with other --regions first"
        )
    with context.reading("encode"):
        pages = latent_pages(
            Codes.open(context.folder.codes),
            context.plan.chosen,
            context.collection,
            context.features.info,
            latents=latents or _of_largest_effect(context.plan),
            n_strongest=n_strongest,
        )
    return write_latent_pages(pages, context.open_picture, context.folder.latent_pages)


def _of_largest_effect(plan: Plan) -> list[int]:
    """The MAX_SHOWN latents that describe a species with the largest effect."""
    chosen = plan.chosen.values()
    effects = sorted((-choice.contrast.effect, latent) for choices in chosen for latent, choice in choices.items())
    return list(dict.fromkeys(latent for _, latent in effects))[:MAX_SHOWN]
