"""The names that the latents of a run's dictionary have, given by people or proposed by a describer."""

from __future__ import annotations

from collections.abc import Mapping

from sae_traits.logging import warn
from sae_traits.runs.context import Context
from sae_traits.sae.model import SAE
from sae_traits.traits.latent_names import LatentNames


def given_names(context: Context) -> Mapping[int, str]:
    """Names of the latents of the present dictionary by number, as `sae-traits name` keeps them."""
    if context.dictionary is None or not context.folder.latent_names.is_file():
        return {}
    given = LatentNames.read(context.folder.latent_names)
    if _are_of_dictionary(context, given):
        return given.names
    warn(f"warning: {context.folder.latent_names} has names of the SAE {given.sae}, which is another one; left out")
    return {}


def suggested_names(context: Context) -> Mapping[int, str]:
    """What a describer proposed for latents of the present dictionary that have no name."""
    if context.dictionary is None or not context.folder.suggested_names.is_file():
        return {}
    suggested = LatentNames.read(context.folder.suggested_names)
    if not _are_of_dictionary(context, suggested):
        return {}
    given = given_names(context)
    return {latent: name for latent, name in suggested.names.items() if not given.get(latent)}


def hash_of_published_sae(repository: str, revision: str) -> str:
    """Hash of the weights of an SAE on the Hub."""
    return SAE.from_pretrained(repository, revision=revision).weights_hash()


def _are_of_dictionary(context: Context, names: LatentNames) -> bool:
    assert context.dictionary is not None
    return names.are_of(str(context.dictionary_name), context.dictionary.weights_hash(), hash_of_published_sae)
