"""Collections of species-labelled images: listed by their source, checked, split and identified."""

from sae_traits.images.decode import examine_image, open_image, open_mask
from sae_traits.images.reading import read_collection, say_problems
from sae_traits.images.sources import fingerprint, list_source

__all__ = ["examine_image", "fingerprint", "list_source", "open_image", "open_mask", "read_collection", "say_problems"]
