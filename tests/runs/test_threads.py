"""One thread, whatever a machine has: the same bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info

from sae_traits import TopK, TrainConfig, fit_sae
from sae_traits.runs.threads import one_thread

CONFIG = TrainConfig(architecture=TopK(k=8), n_latents=512, n_patches=40 * 1024, batch_size=1024)


@pytest.fixture
def threads() -> Iterator[None]:
    """Leave the number of threads as it was."""
    former = torch.get_num_threads()
    yield
    torch.set_num_threads(former)


def weights_of(n_threads: int, features: torch.Tensor) -> str:
    torch.set_num_threads(n_threads)
    return fit_sae(features, CONFIG, device="cpu").weights_hash()


def test_with_one_thread_an_sae_does_not_depend_on_how_many_there_could_be(threads: None):
    features = torch.randn(4096, 64, generator=torch.Generator().manual_seed(1))
    alone = weights_of(1, features)
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        with one_thread():
            sae = fit_sae(features, CONFIG, device="cpu")
        assert sae.weights_hash() == alone
        assert sae.config.training["n_threads"] == 1
        assert torch.get_num_threads() == n_threads


def test_every_library_computes_with_one_thread_inside(threads: None):
    import sklearn.cluster  # noqa: F401  which loads libraries of its own

    torch.set_num_threads(2)
    with one_thread():
        assert {library["num_threads"] for library in threadpool_info()} == {1}
        assert torch.get_num_threads() == 1
