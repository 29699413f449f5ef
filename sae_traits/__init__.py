"""From species-labelled images to a sparse autoencoder, an image-trait dataset and an honest evaluation.

    from sae_traits import SAE, load_extractor

    sae = SAE.from_pretrained("org/sae")
    extractor = load_extractor(sae)
    features, grid = extractor("photograph.jpg")
    codes = sae.encode(features)

`__all__` is the public surface; everything else may change between versions. The names are imported on first use, so
that `import sae_traits` is quick and loads no torch; __init__.pyi names them for type checkers.
"""

# pyright: reportUnsupportedDunderAll=false

from __future__ import annotations

from importlib import import_module
from typing import Any

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
    "sae_traits.models.clip.model": ("load_clip",),
    "sae_traits.notebook": ("Run", "run"),
    "sae_traits.release.loading": ("load_traits",),
    "sae_traits.sae.extractor": ("Extractor", "load_extractor"),
    "sae_traits.sae.fitting": ("fit_sae",),
    "sae_traits.sae.model": ("SAE", "SAEConfig"),
    "sae_traits.steps.benchmark": ("benchmark",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "SAE",
    "VLLM",
    "AdoptedSAE",
    "BackboneError",
    "BatchTopK",
    "CheckpointError",
    "CollectionConfig",
    "CollectionError",
    "ConfigError",
    "DescriberError",
    "Extractor",
    "FeaturesConfig",
    "GradCAMRegions",
    "ImageError",
    "JumpReLU",
    "KMeansRegions",
    "Measured",
    "NMFRegions",
    "PCARegions",
    "PaperContrast",
    "RandomRegions",
    "ReLU",
    "ReleaseConfig",
    "ReleaseError",
    "ReleasedLatents",
    "Run",
    "RunConfig",
    "SAEConfig",
    "SAERegions",
    "SaeTraitsError",
    "Server",
    "SpecimenContrast",
    "StoreError",
    "Texture",
    "TopK",
    "TrainConfig",
    "Transformers",
    "VisionModel",
    "WholeImage",
    "ZeroShotConfig",
    "__version__",
    "benchmark",
    "evaluate_zero_shot",
    "fit_sae",
    "load_clip",
    "load_extractor",
    "load_traits",
    "open_image",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
