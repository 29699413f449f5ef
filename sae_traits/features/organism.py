"""What the organism looks like in a collection's photographs, patch by patch, learnt from patches that show it.

What lies at edges and not in middles (`features.background`) tells an organism from its surroundings roughly: the
model is linear, and features know their neighbourhood, so that patches beside an organism look like it. Where the
latents of a species agree is the organism more surely (`traits.organism_patches`). This model learns from such patches,
and is surer of an organism's inside than of what lies beside it.

Source: a Gaussian kernel by random Fourier features, Rahimi and Recht 2007, under a logistic regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_FREQUENCIES = 256
"""Random Fourier features."""
KERNEL_WIDTH = 0.3
"""The kernel of two patches is exp(-KERNEL_WIDTH x the mean squared difference of their standardised features)."""


@dataclass(frozen=True)
class Organism:
    """A model of whether a patch shows the organism; arrays are float32."""

    frequencies: NDArray[np.float32]
    """`[d_model, N_FREQUENCIES]`."""
    phases: NDArray[np.float32]
    """`[N_FREQUENCIES]`."""
    weights: NDArray[np.float32]
    """Log odds per random feature `[N_FREQUENCIES]`."""
    bias: float

    def odds(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log odds that patches show the organism `[n]`, from their features `[n, d_model]`."""
        return np.cos(features @ self.frequencies + self.phases) @ self.weights + np.float32(self.bias)


def learn_organism(features: NDArray[np.float32], shows_it: NDArray[np.bool_], *, seed: int = 0) -> Organism:
    """Learn from patches of which it is known whether they show the organism.

    Args:
        features: of the patches `[n, d_model]`.
        shows_it: whether each shows the organism, not background; both kinds occur `[n]`.
        seed: of the random features.
    """
    from sklearn.kernel_approximation import RBFSampler
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation == 0, 1, deviation)
    kernel = RBFSampler(gamma=KERNEL_WIDTH / features.shape[1], n_components=N_FREQUENCIES, random_state=seed)
    classifier = LogisticRegression(max_iter=500).fit(kernel.fit_transform((features - mean) / deviation), shows_it)
    frequencies = kernel.random_weights_ / deviation[:, None]
    return Organism(
        frequencies=frequencies.astype(np.float32),
        phases=(kernel.random_offset_ - mean @ frequencies).astype(np.float32),
        weights=(np.asarray(classifier.coef_)[0] * np.sqrt(2 / N_FREQUENCIES)).astype(np.float32),
        bias=float(np.asarray(classifier.intercept_)[0]),
    )
