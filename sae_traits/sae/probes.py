"""What a dictionary loses of the species: a linear probe on reconstructions against one on the features themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sae_traits.errors import CollectionError
from sae_traits.features.store import FeatureShard
from sae_traits.sae.model import SAE
from sae_traits.sae.monosemanticity import pool

INVERSE_PENALTY = 1.0
"""scikit-learn's C, its default, on standardised features; not tuned, the same for both probes."""
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class ProbeOutcome:
    """Which images the two probes got right, so that their difference can be tested in pairs."""

    images: NDArray[np.int64]
    """The scored images, as rows of the collection `[n]`."""
    original: NDArray[np.bool_]
    reconstructed: NDArray[np.bool_]
    """Whether the probe on features, or on reconstructions, was right `[n]`."""
    n_classes: int

    def to_dict(self) -> dict[str, float | int]:
        """The accuracies, and their difference: negative where something is lost; for JSON and the cards."""
        original, reconstructed = float(self.original.mean()), float(self.reconstructed.mean())
        return {
            "accuracy_original": original,
            "accuracy_reconstructed": reconstructed,
            "difference": reconstructed - original,
            "n_images": len(self.images),
            "n_classes": self.n_classes,
        }


def probe_reconstructions(
    sae: SAE,
    shards: Iterable[FeatureShard],
    labels: Sequence[str | None],
    training: NDArray[np.bool_],
    scored: NDArray[np.bool_],
) -> ProbeOutcome:
    """Logistic regression on an image's mean features, and another on its mean reconstruction.

    Each probe is trained and scored on its own kind of features. Both are standardised by the mean and the deviation of
    the training images' original features: by its own deviation, a component that the SAE lost would be blown up.

    Args:
        shards: features, for example `FeatureStore.shards()`; one is in memory at a time.
        labels: species (or genus) of every row of the collection; None where it is unknown.
        training, scored: which rows the probes are trained and scored on `[n_rows]`; of the scored ones, those of
            labels without training images are left out.

    Raises:
        CollectionError: there are fewer than two labels to train on, or no image to score.
    """
    from sklearn.linear_model import LogisticRegression

    named = np.array([label is not None for label in labels])
    rows, original, reconstructed = _pooled(sae, shards, named & (training | scored))
    y = np.array([str(labels[row]) for row in rows])
    train = training[rows]
    classes = np.unique(y[train])
    test = scored[rows] & np.isin(y, classes)
    if len(classes) < 2 or not test.any():
        raise CollectionError(
            "a probe needs images of two labels to train on, and one of these to score; there are "
            f"{len(classes)} labels in training and {int(test.sum())} images to score; "
            "choose a wider rank or another split"
        )
    mean, deviation = original[train].mean(0), original[train].std(0)
    deviation[deviation == 0] = 1
    right = []
    for x in (original, reconstructed):
        scaled = (x - mean) / deviation
        probe = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_ITERATIONS).fit(scaled[train], y[train])
        right.append(probe.predict(scaled[test]) == y[test])
    return ProbeOutcome(rows[test], right[0], right[1], len(classes))


@torch.no_grad()
def _pooled(
    sae: SAE, shards: Iterable[FeatureShard], wanted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows `[n]` of the wanted images that have patches, their mean features and reconstructions `[n, d_model]`."""
    rows, original, reconstructed = [], [], []
    for shard in shards:
        chosen = shard.only(wanted[shard.images] & (np.diff(shard.offsets) > 0))
        if len(chosen.images):
            rows.append(chosen.images)
            original.append(pool(chosen.features.numpy(), chosen.offsets))
            tiles = [sae.decode(latents).cpu() for _, latents in sae.encode_tiles(chosen.features.to(sae.b_dec.device))]
            reconstructed.append(pool(torch.cat(tiles).float().numpy(), chosen.offsets))
    if not rows:
        raise CollectionError("none of the images to train a probe on or to score has features")
    return np.concatenate(rows), np.concatenate(original), np.concatenate(reconstructed)
