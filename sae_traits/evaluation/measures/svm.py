"""NeWT: one support vector machine per binary task on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.prompts import unit_length

NewtProtocol = Literal["linear", "published"]


@dataclass(frozen=True)
class SVMOutcome:
    """What the machine says of the test images of a task, in their order."""

    predictions: NDArray[Any]
    """Labels `[n_test]`."""
    right: NDArray[np.bool_]
    """`[n_test]`; the score of NeWT is the mean over the images of all tasks together."""
    decision: NDArray[np.float64]
    """Decision values, positive for the second label `[n_test]`."""
    parameters: dict[str, Any]
    """Which the search chose; C and kernel of `linear`."""


def newt_task(
    features: NDArray[np.floating],
    labels: NDArray[Any],
    is_train: NDArray[np.bool_],
    *,
    protocol: NewtProtocol = "linear",
    seed: int = 0,
    n_jobs: int = 1,
) -> SVMOutcome:
    """Train on the training images of a task and classify the others; features are centred and of unit length.

    Args:
        features: `[n, d]`.
        labels: two different ones `[n]`.
        is_train: which images are trained on `[n]`.
        protocol: `linear` is a linear machine with C = 1, whose scores cannot be compared with published ones;
            `published` searches kernel, C and gamma with 100 draws and five folds: 500 fits per task.
        seed: of the search; the papers use three.

    Source: newt.py of BioCLIP 2; Van Horn et al. 2021.
    """
    from sklearn.svm import SVC

    mean = features[is_train].mean(axis=0, keepdims=True)
    train, test = (unit_length(features[rows] - mean) for rows in (is_train, ~is_train))
    if protocol == "linear":
        machine = SVC(kernel="linear", C=1.0).fit(train, labels[is_train])
        parameters: dict[str, Any] = {"C": 1.0, "kernel": "linear"}
    else:
        machine = _search(seed, n_jobs).fit(train, labels[is_train])
        parameters = dict(machine.best_params_)
    predictions = machine.predict(test)
    return SVMOutcome(predictions, predictions == labels[~is_train], machine.decision_function(test), parameters)


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
