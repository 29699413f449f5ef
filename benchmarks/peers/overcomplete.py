"""overcomplete: its train_sae on its TopKSAE and SAE, called as in its README."""
# The library is not in the environment of the type checker, which takes this module for it.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

from functools import partial

import torch

from .contract import Task, TimedBatches, Trained, answer, canonical
from .torchvision_operators import declare_missing_operators

declare_missing_operators()

from overcomplete.sae import SAE, TopKSAE, train_sae  # noqa: E402
from overcomplete.sae.losses import mse_l1, top_k_auxiliary_loss  # noqa: E402

DEFAULT_LEARNING_RATE = 5e-4
"""Of its README."""


def mean_squared_error(
    x: torch.Tensor, x_hat: torch.Tensor, pre_codes: torch.Tensor, codes: torch.Tensor, dictionary: torch.Tensor
) -> torch.Tensor:
    """The criterion of its README."""
    return (x - x_hat).square().mean()


def train(batches: TimedBatches, task: Task) -> Trained:
    """Train with a constant learning rate; it subtracts no bias from its input and adds none to its output."""
    if task.architecture == "topk":
        sae = TopKSAE(batches.d_model, nb_concepts=task.n_latents, top_k=task.k)
        # Its auxiliary loss acts on all latents that did not fire in the batch.
        criterion = mean_squared_error if task.dead_after is None else top_k_auxiliary_loss
    else:
        sae = SAE(batches.d_model, nb_concepts=task.n_latents)
        # Its penalty is summed over the patches of a batch too.
        criterion = partial(mse_l1, penalty=task.l1_coefficient / task.batch_size)
    learning_rate = DEFAULT_LEARNING_RATE if task.learning_rate is None else task.learning_rate
    optimizer = torch.optim.Adam(sae.parameters(), lr=learning_rate)
    train_sae(sae, batches, criterion, optimizer, nb_epochs=1, monitoring=0)
    sae.eval()
    encoder = sae.encoder.final_block[0]
    x = batches.batch(0)
    with torch.no_grad():
        return canonical(
            task,
            W_enc=encoder.weight.T,
            b_enc=encoder.bias,
            W_dec=sae.get_dictionary(),
            b_dec=torch.zeros(batches.d_model),
            x=x,
            reconstruction=sae(x)[2],
        )


if __name__ == "__main__":
    answer(train, "overcomplete")
