"""What latents of an annotated run stand for: tables and contact sheets in RUN/latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.runs.context import Context
from sae_traits.traits.encode import Codes
from sae_traits.traits.latent_pages import latent_pages, write_latent_pages

MAX_SHOWN = 20
"""Latents that are shown where none is asked for."""


def write_latents(context: Context, latents: Sequence[int], n_strongest: int) -> list[Path]:
    """Write what is known of some latents of an annotated run; the files.

    Args:
        context: its codes are complete.
        latents: which; none takes the MAX_SHOWN latents that describe a species with the largest effect.
        n_strongest: images per latent.

    Raises:
        StoreError: the run is not annotated.
        ConfigError: its regions have no latents, or there is no such latent.
    """
    context.steps.fingerprint("encode")
    context.steps.check(reading=["encode"])
    if not context.config.regions.has_latents:
        raise ConfigError(
            f"the regions of {context.folder.path} are of --regions {context.config.regions.kind}, which has no "
            "latents; annotate with other --regions first"
        )
    chosen = context.plan.chosen
    if not latents:
        effects = sorted((-choice.contrast.effect, n) for choices in chosen.values() for n, choice in choices.items())
        latents = list(dict.fromkeys(latent for _, latent in effects))[:MAX_SHOWN]
    pages = latent_pages(
        Codes.open(context.folder.codes),
        chosen,
        context.collection,
        context.features.info,
        latents=latents,
        n_strongest=n_strongest,
    )
    return write_latent_pages(pages, context.open_picture, context.folder.latent_pages)
