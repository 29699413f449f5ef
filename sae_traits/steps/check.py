"""What must be known before the long steps: that models, masks and latents can be used."""

from __future__ import annotations

from pathlib import Path

from sae_traits.config import AdoptedSAE, GradCAMRegions
from sae_traits.errors import CheckpointError, ConfigError
from sae_traits.images.note import read_note
from sae_traits.runs.context import Context
from sae_traits.runs.names import hash_of_published_sae
from sae_traits.traits.released_latents import check_sae


def check(context: Context) -> None:
    """Load what later steps need, where it is known already.

    Raises:
        BackboneError: Grad-CAM, and the backbone has no classifier; or the CLIP model cannot be loaded.
        ConfigError: latents of a dataset without their SAE.
        CheckpointError: the latents are of another SAE, or it does not say of which backbone.
        StoreError: the latents cannot be read.
    """
    source = Path(context.config.collection.source or "")
    if context.clip is not None and (folder := source if source.is_dir() else source.parent).is_dir():
        context.clip.check_note(read_note(folder), folder)
    train = context.config.train
    if isinstance(context.config.regions, GradCAMRegions) and not isinstance(train, AdoptedSAE):
        # The backbone of an SAE that was trained elsewhere is known once the features are there.
        from sae_traits.features.gradcam import check_classifier

        check_classifier(context.config.features.backbone)
    if (released := context.released_latents) is None:
        return
    if context.adopted_sae is None or not isinstance(train, AdoptedSAE):
        raise ConfigError(
            f"--latents needs --sae, the SAE that they are latents of ({released.sae}): a new one has other latents"
        )
    check_sae(released, train.sae, context.adopted_sae.weights_hash(), hash_of_published_sae)
    if context.adopted_sae.config.backbone is None:
        raise CheckpointError(
            f"{train.sae} does not say on which features it was trained; give the folder `sae` of the run that made "
            "the dataset, or what that run published"
        )
