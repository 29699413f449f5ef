"""What `predict` decides before it is an ordinary run: which latents, and the SAE that they are latents of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_traits.config import AdoptedSAE, ReleasedLatents, RunConfig
from sae_traits.sae.model import SAE
from sae_traits.traits.released_latents import read_released_latents, sae_to_adopt


def pinned_options(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Options that pin the commit of the dataset, and its SAE where no other was given.

    Raises:
        ConfigError: the dataset's SAE is neither on the Hub nor beside it, and --sae does not say where else it is.
        StoreError: the dataset cannot be read.
    """
    contrast, train = getattr(config.regions, "contrast", None), config.train
    assert isinstance(contrast, ReleasedLatents), "images without labels have --latents"
    released = read_released_latents(contrast.latents, revision=contrast.revision)
    given, revision = (train.sae, train.revision) if isinstance(train, AdoptedSAE) else (None, None)
    sae, revision = sae_to_adopt(released, contrast.latents, given, revision, hash_of=_hash_of_sae)
    return {"regions": {"contrast": {"revision": released.revision}}, "train": {"sae": sae, "revision": revision}}


def _hash_of_sae(folder: Path) -> str:
    return SAE.from_pretrained(folder).weights_hash()
