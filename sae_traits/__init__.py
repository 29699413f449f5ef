"""From species-labelled images to a sparse autoencoder, an image-trait dataset and an honest evaluation.

    from sae_traits import SAE, load_extractor

    sae = SAE.from_pretrained("org/sae")
    extractor = load_extractor(sae)
    features, grid = extractor(image)
    codes = sae.encode(features)

The public names are imported on first use, so that `import sae_traits` is quick and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_traits.sae.extractor import Extractor, load_extractor
    from sae_traits.sae.model import SAE, SAEConfig

__version__ = "0.1.0"
__all__ = ["SAE", "Extractor", "SAEConfig", "__version__", "load_extractor"]

_MODULES = {
    "SAE": "sae_traits.sae.model",
    "SAEConfig": "sae_traits.sae.model",
    "Extractor": "sae_traits.sae.extractor",
    "load_extractor": "sae_traits.sae.extractor",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
