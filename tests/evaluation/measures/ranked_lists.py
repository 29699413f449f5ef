"""Ranked lists of any scores, as embeddings that have them as cosines."""

import numpy as np

from sae_traits.evaluation.measures.retrieval import retrieve


def retrieve_ranked(scores, relevant, **options):
    """Retrieve by one query, to which rows are as near as their scores say; equal scores tie."""
    values, place = np.unique(scores, return_inverse=True)
    cosines = place / len(values)
    gallery = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    return retrieve(np.array([[1.0, 0.0]]), gallery, [True], np.asarray(relevant, dtype=bool), **options)
