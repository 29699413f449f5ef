"""Latents of a dataset that was made before, for images without labels: found, pinned, checked against the SAE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_traits.config import ContrastConfig, RunConfig
from sae_traits.errors import CheckpointError, ConfigError
from sae_traits.sae.model import SAE
from sae_traits.training import sae_hash
from sae_traits.traits.released_latents import ReleasedLatents, read_released_latents

_HASH = "sha256:"
"""What stands in the place of a revision where an SAE, or a baseline, is on no Hub."""


def released_latents(config: ContrastConfig) -> ReleasedLatents | None:
    """The latents of the dataset of --latents, if there is one.

    Raises:
        StoreError: they cannot be read.
    """
    if config.latents is None:
        return None
    return read_released_latents(config.latents, revision=config.latents_revision)


def pinned(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The commit of the dataset, and the SAE that it names where no other was given, as options for a run.

    Raises:
        ConfigError: the dataset's SAE is on no Hub, and --sae does not say where else it is.
        StoreError: the dataset cannot be read.
    """
    released = released_latents(config.contrast)
    assert released is not None, "images without labels have --latents"
    options: dict[str, dict[str, Any]] = {"contrast": {"latents_revision": released.revision}}
    repository, revision = _name_and_revision(released)
    on_hub = not revision.startswith(_HASH)
    if on_hub and config.train.sae in (None, repository) and config.train.sae_revision is None:
        options["train"] = {"sae": repository, "sae_revision": revision}
    elif config.train.sae is None:
        beside = Path(config.contrast.latents or "").resolve().with_name("sae")
        example = f", for example {beside}" if beside.is_dir() else ""
        raise ConfigError(
            f"the dataset {released.name} names its SAE as {released.sae}, which is not on the Hub; "
            f"say with --sae where it is{example}"
        )
    return options


def check_latents(config: RunConfig) -> None:
    """Before the long steps: whether the latents of --latents are those of the SAE of --sae.

    Raises:
        ConfigError: there is no --sae; an SAE that is trained now has other latents.
        CheckpointError: they are of another SAE, or it does not say of which backbone.
        StoreError: the latents cannot be read.
    """
    released = released_latents(config.contrast)
    if released is None:
        return
    if config.train.sae is None:
        raise ConfigError(
            f"--latents needs --sae, the SAE that they are latents of ({released.sae}): a new one has other latents"
        )
    sae = SAE.from_pretrained(config.train.sae, revision=config.train.sae_revision)
    check_sae(released, sae, config.train.sae)
    if sae.config.backbone is None:
        raise CheckpointError(
            f"{config.train.sae} does not say on which features it was trained; give the folder `sae` of the run that "
            "made the dataset, or what that run published"
        )


def check_sae(released: ReleasedLatents, sae: SAE, name: str) -> None:
    """Raise a CheckpointError when a dataset's latents are not those of an SAE that is called `name`.

    The weights are compared, so that a copy in another place is as good as the original.
    """
    repository, revision = _name_and_revision(released)
    found = _HASH + sae_hash(sae)
    expected = revision
    if not revision.startswith(_HASH):
        expected = _HASH + sae_hash(SAE.from_pretrained(repository, revision=revision))
    if found != expected:
        raise CheckpointError(
            f"the latents of {released.name} are those of the SAE {released.sae}, not of {name} ({found}), in which "
            "the same numbers stand for other things; give --sae the SAE of the dataset"
        )


def _name_and_revision(released: ReleasedLatents) -> tuple[str, str]:
    repository, _, revision = released.sae.rpartition("@")
    is_sae = repository == "local" or "/" in repository
    if not is_sae or not revision:
        raise CheckpointError(
            f"the latents of {released.name} are those of {released.sae}, which is no SAE; give a dataset "
            "whose regions are of an SAE"
        )
    return repository, revision
