"""NeWT: one support vector machine per binary task on frozen features."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.prompts import unit_length

NewtProtocol = Literal["linear", "published"]


def newt_task(
    features: NDArray[np.floating],
    labels: NDArray[Any],
    is_train: NDArray[np.bool_],
    *,
    protocol: NewtProtocol = "linear",
    seed: int = 0,
    n_jobs: int = 1,
) -> NDArray[np.bool_]:
    """Train on the training images of a task and classify the others; features are centred and of unit length.

    Args:
        features: `[n, d]`.
        labels: two different ones `[n]`.
        is_train: which images are trained on `[n]`.
        protocol: `linear` is a linear machine with C = 1, whose scores cannot be compared with published ones;
            `published` searches kernel, C and gamma with 100 draws and five folds: 500 fits per task.
        seed: of the search; the papers use three.

    Returns:
        Which of the other images are right `[n_test]`; the score of NeWT is the mean over those of all tasks together.

    Source: newt.py of BioCLIP 2; Van Horn et al. 2021.
    """
    from sklearn.svm import SVC

    mean = features[is_train].mean(axis=0, keepdims=True)
    train, test = (unit_length(features[rows] - mean) for rows in (is_train, ~is_train))
    machine = SVC(kernel="linear", C=1.0) if protocol == "linear" else _search(seed, n_jobs)
    return machine.fit(train, labels[is_train]).predict(test) == labels[~is_train]


def _search(seed: int, n_jobs: int) -> Any:
    from scipy.stats import loguniform
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    ranges = {
        "svc__C": loguniform(1e-3, 1e1),
        "svc__gamma": loguniform(1e-4, 1e-3),
        "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
    }
    return RandomizedSearchCV(
        make_pipeline(StandardScaler(), SVC()), ranges, n_iter=100, n_jobs=n_jobs, random_state=seed
    )
