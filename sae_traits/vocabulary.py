"""The fixed words of tables and configurations; without numpy or Arrow, so that `sae-traits --help` is quick."""

from __future__ import annotations

from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16"]
"""In which features are computed, or kept."""
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")
"""The seven ranks, from the widest; these are also the column names of every table."""
ReferenceRank = Literal["genus", "family", "order", "collection"]
REFERENCE_RANKS: tuple[ReferenceRank, ...] = ("genus", "family", "order", "collection")
"""What a species is contrasted with, from the closest relatives outwards."""
RegionSource = Literal["sae", "pca", "nmf", "k_means", "random", "gradcam", "whole"]
"""What picks the regions of an image; all but `sae` are baselines."""
PartSource = Literal["describer", "named"]
"""Who said which part of the organism a region is: the describer, or a person who named the latent."""
REGION_SOURCES: dict[RegionSource, str] = {
    "sae": "latents of the sparse autoencoder (SAE)",
    "pca": "principal components of the patch features; a component and its negative count as two latents",
    "nmf": "components of a non-negative matrix factorisation of the patch features",
    "k_means": "clusters of the patch features, a latent each",
    "random": "random directions in the space of the patch features, a latent each",
    "gradcam": "Grad-CAM of the class that the backbone's own classifier predicts; there are no latents",
    "whole": "the whole image; there are no latents",
}
"""In words, for cards and reports."""
EXPORT_FORMATS = {
    "darwin-core": "archive of occurrences with measurements, for GBIF",
    "matrix": "species x traits, CSV and Parquet",
    "coco": "regions as COCO JSON with the images",
    "webdataset": "shards of image, sentence and caption",
}
"""Formats that a released dataset can be written in; each is a module of `release.exports`, with an underscore for the
hyphen."""
