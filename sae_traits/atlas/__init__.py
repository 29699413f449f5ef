"""The atlas: a release as a static site to look at. It reads a release and results.json only."""

from sae_traits.atlas.building import Built as Built
from sae_traits.atlas.building import build_atlas as build_atlas
