"""Attributes of animals from frozen features: AwA2 (85 attributes) and FishNet (nine)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.benchmark import Protocol

HIDDEN, DROPOUT = 512, 0.5
BATCH_SIZE, N_EPOCHS = 256, 50


def fishnet_right(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, protocol: Protocol = "corrected"
) -> NDArray[np.bool_]:
    """Tell which images have all their attributes right `[n]`; the score is their share.

    Args:
        logits: `[n, n_attributes]`.
        labels: 0 or 1 `[n, n_attributes]`.
        protocol: `corrected` takes an attribute as present where the probability exceeds 0.5 (the logit 0), `published`
            where the logit does.

    Source: Khan et al. 2023 (FishNet); fishnet.py of BioCLIP 2.
    """
    threshold = 0.5 if protocol == "published" else 0.0
    return ((logits > threshold) == labels.astype(bool)).all(axis=1)


def attribute_logits(
    train_features: NDArray[np.floating],
    train_labels: NDArray[np.integer],
    test_features: NDArray[np.floating],
    *,
    learning_rate: float,
    seed: int = 0,
    protocol: Protocol = "corrected",
) -> NDArray[np.float32]:
    """Train the head of the AwA2 and FishNet tasks, two linear layers with dropout between, and apply it.

    Args:
        train_features: `[n_train, d]`, as the model gives them, not of unit length.
        train_labels: 0 or 1 `[n_train, n_attributes]`.
        test_features: `[n_test, d]`.
        learning_rate: of Adam; 1e-4 and 1e-5 in the papers' runs.
        seed: of weights, order and dropout; the papers use three.
        protocol: `published` leaves dropout on while testing.

    Returns:
        Logits `[n_test, n_attributes]`.

    Source: awa2.py and fishnet.py of BioCLIP 2.
    """
    import torch
    from torch import nn

    x, y = torch.from_numpy(np.asarray(train_features, np.float32)), torch.from_numpy(np.asarray(train_labels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, y.shape[1]))
        optimizer = torch.optim.Adam(head.parameters(), lr=learning_rate)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5)
        loss_of = nn.BCEWithLogitsLoss()
        for _ in range(N_EPOCHS):
            for rows in torch.randperm(len(x)).split(BATCH_SIZE):
                optimizer.zero_grad()
                loss_of(head(x[rows]), y[rows].float()).backward()
                optimizer.step()
            scheduler.step()
        head.train(protocol == "published")
        with torch.no_grad():
            return head(torch.from_numpy(np.asarray(test_features, np.float32))).numpy()
