"""From species-labelled images to a sparse autoencoder, an image-trait dataset and an honest evaluation.

    from sae_traits import SAE, load_extractor

    sae = SAE.from_pretrained("org/sae")
    extractor = load_extractor(sae)
    features, grid = extractor("photograph.jpg")
    codes = sae.encode(features)

`__all__` is the public surface; everything else may change between versions. The names are imported on first use, so that
`import sae_traits` is quick and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_traits.config import (
        AdoptedSAE,
        BatchTopK,
        CollectionConfig,
        FeaturesConfig,
        GradCAMRegions,
        JumpReLU,
        KMeansRegions,
        Measured,
        NMFRegions,
        PaperContrast,
        PCARegions,
        RandomRegions,
        ReleaseConfig,
        ReleasedLatents,
        ReLU,
        RunConfig,
        SAERegions,
        Server,
        SpecimenContrast,
        Texture,
        TopK,
        TrainConfig,
        Transformers,
        VisionModel,
        VLLM,
        WholeImage,
        ZeroShotConfig,
    )
    from sae_traits.errors import (
        BackboneError,
        CheckpointError,
        CollectionError,
        ConfigError,
        DescriberError,
        ImageError,
        ReleaseError,
        SaeTraitsError,
        StoreError,
    )
    from sae_traits.evaluation.zero_shot import evaluate_zero_shot
    from sae_traits.images.decode import open_image
    from sae_traits.models.clip import load_clip
    from sae_traits.release.loading import load_traits
    from sae_traits.sae.extractor import Extractor, load_extractor
    from sae_traits.sae.fitting import fit_sae
    from sae_traits.sae.model import SAE, SAEConfig

__version__ = "0.1.0"

_MODULES = {
    "sae_traits.config": (
        *("RunConfig", "CollectionConfig", "FeaturesConfig", "VisionModel", "Texture", "TrainConfig", "AdoptedSAE"),
        *("TopK", "BatchTopK", "JumpReLU", "ReLU", "SAERegions", "PCARegions", "NMFRegions", "KMeansRegions"),
        *("RandomRegions", "GradCAMRegions", "WholeImage", "SpecimenContrast", "PaperContrast", "ReleasedLatents"),
        *("Measured", "Server", "VLLM", "Transformers", "ReleaseConfig", "ZeroShotConfig"),
    ),
    "sae_traits.errors": (
        *("SaeTraitsError", "ConfigError", "CollectionError", "ImageError", "BackboneError", "StoreError"),
        *("CheckpointError", "DescriberError", "ReleaseError"),
    ),
    "sae_traits.evaluation.zero_shot": ("evaluate_zero_shot",),
    "sae_traits.images.decode": ("open_image",),
    "sae_traits.models.clip": ("load_clip",),
    "sae_traits.release.loading": ("load_traits",),
    "sae_traits.sae.extractor": ("Extractor", "load_extractor"),
    "sae_traits.sae.fitting": ("fit_sae",),
    "sae_traits.sae.model": ("SAE", "SAEConfig"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted([*_MODULE_OF, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
