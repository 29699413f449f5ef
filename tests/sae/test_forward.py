"""The hand-made gradients of training against those of automatic differentiation."""

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from train_configs import train_config

from sae_traits.sae import objective
from sae_traits.sae.activations import SparseLatents
from sae_traits.sae.architectures.relu import ReLUSAE
from sae_traits.sae.architectures.threshold import BANDWIDTH
from sae_traits.sae.architectures.trainable import Penalty, Processes
from sae_traits.sae.model import SAE, SAEConfig
from sae_traits.sae.objective import AUXILIARY_COEFFICIENT, TrainingObjective
from sae_traits.sae.training_state import Stack, TrainingState

D_MODEL, N_LATENTS, N = 8, 20, 33
COEFFICIENT = 0.1


def make_sae(architecture, *, k=3, prefixes=(), seed=0, n_latents=N_LATENTS):
    config = SAEConfig(
        architecture=architecture,
        d_model=D_MODEL,
        n_latents=n_latents,
        k=None if architecture == "relu" else k,
        prefixes=prefixes,
    )
    sae = SAE.from_config(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sae.b_enc.copy_(0.3 * torch.randn(n_latents, generator=generator))
        sae.b_dec.copy_(torch.randn(D_MODEL, generator=generator))
        sae.W_enc.add_(0.2 * torch.randn(D_MODEL, n_latents, generator=generator))
    return sae


def features(seed=0):
    return 2 * torch.randn(N, D_MODEL, generator=torch.Generator().manual_seed(100 + seed))


def plain_latents(sae, x):
    """The latents of a training batch, written as in the papers and left to automatic differentiation."""
    pre = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
    k = sae.config.k
    if sae.config.architecture == "topk":
        mask = torch.zeros_like(pre).scatter_(1, pre.topk(k, dim=1).indices, 1.0)
        return (pre * mask).relu()
    if sae.config.architecture == "batch_topk":
        flat = torch.zeros(pre.numel()).scatter_(0, pre.flatten().topk(k * len(x)).indices, 1.0)
        return (pre * flat.view_as(pre)).relu()
    return pre.relu()


def plain_loss(sae, x, dead=None):
    latents = plain_latents(sae, x)
    reconstruction = latents @ sae.W_dec + sae.b_dec
    ends = (*sae.config.prefixes, sae.config.n_latents)
    errors = [(latents[:, :end] @ sae.W_dec[:end] + sae.b_dec - x).square().mean() for end in ends]
    loss = torch.stack(errors).mean()
    if sae.config.architecture == "relu":
        loss = loss + COEFFICIENT * latents.sum(1).mean()
    if dead is not None:
        residual = (x - reconstruction).detach()
        pre = ((x - sae.b_dec.detach()) @ sae.W_enc + sae.b_enc)[:, dead]
        k = min(D_MODEL // 2, len(dead))
        mask = torch.zeros_like(pre).scatter_(1, pre.topk(k, dim=1).indices, 1.0)
        explained = (pre * mask).relu() @ sae.W_dec[dead]
        loss = loss + AUXILIARY_COEFFICIENT * (explained - residual).square().mean() / residual.square().mean()
    return loss


def lower_biases(sae, by):
    with torch.no_grad():
        sae.b_enc.sub_(by)


def losses_of(sae, x, dead=None):
    return TrainingObjective(sae)(x, COEFFICIENT, dead, sae.pre_activations(x).detach())


@given(
    architecture=st.sampled_from(["topk", "batch_topk", "relu"]),
    prefixes=st.sampled_from([(), (7,), (4, 11)]),
    dead=st.sampled_from([None, [0, 3, 19], [5], range(3, 64)]),  # of the last few are revived at a time
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_losses_and_gradients_are_those_of_automatic_differentiation(architecture, prefixes, dead, seed):
    ours, plain = (make_sae(architecture, prefixes=prefixes, seed=seed, n_latents=64) for _ in range(2))
    x = features(seed)
    dead = None if dead is None else torch.tensor(list(dead))
    losses = losses_of(ours, x, dead)
    expected = plain_loss(plain, x, dead)
    assert losses.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    losses.loss.backward()
    expected.backward()
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.allclose(getattr(ours, name).grad, getattr(plain, name).grad, atol=1e-6), name
    latents = plain_latents(plain, x)
    assert torch.equal(losses.fired, (latents > 0).any(0))
    assert float(losses.l0) == pytest.approx(float((latents > 0).sum(1).float().mean()))


@given(prefixes=st.sampled_from([(), (4, 11)]), lower=st.sampled_from([4.0, 6.0, 50.0]), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_relu_of_which_few_latents_are_active_has_the_gradients_of_automatic_differentiation(prefixes, lower, seed):
    ours, plain = (make_sae("relu", prefixes=prefixes, seed=seed) for _ in range(2))
    for sae in (ours, plain):
        lower_biases(sae, lower)
    x = features(seed)
    losses, expected = losses_of(ours, x), plain_loss(plain, x)
    assert losses.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    losses.loss.backward()
    expected.backward()
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.allclose(getattr(ours, name).grad, getattr(plain, name).grad, atol=1e-6), name
    latents = plain_latents(plain, x)
    assert torch.equal(losses.fired, (latents > 0).any(0))
    assert float(losses.l0) == pytest.approx(float((latents > 0).sum(1).float().mean()))


@pytest.mark.parametrize(("lower", "kind"), [(0.0, torch.Tensor), (6.0, SparseLatents)])
def test_relu_multiplies_with_active_latents_alone_once_they_are_few(lower, kind):
    sae, x = make_sae("relu"), features()
    lower_biases(sae, lower)
    pre = sae.pre_activations(x).detach()
    assert int((pre > 0).sum()) > 0
    _, latents = sae.training_latents(x, pre, Processes())
    assert type(latents) is kind


def test_the_penalty_of_jump_relu_moves_thresholds_towards_the_aim():
    sae = make_sae("jump_relu", k=4)
    x = features()
    with torch.no_grad():
        sae.threshold.fill_(0.05)
    losses = TrainingObjective(sae)(x, 1e4, None, sae.pre_activations(x).detach())
    losses.loss.backward()
    assert float(losses.l0) > 4
    near = ((sae.pre_activations(x) - 0.05).abs() < BANDWIDTH / 2).any(0)
    assert near.any()
    assert (sae.threshold.grad[near] < 0).all(), "a descent raises the thresholds, so that fewer latents fire"
    assert (sae.threshold.grad[~near] == 0).all()


def test_jump_relu_passes_gradients_where_a_latent_is_active_only():
    sae, plain = make_sae("jump_relu"), make_sae("jump_relu")
    x = features()
    for one in (sae, plain):
        with torch.no_grad():
            one.threshold.fill_(0.7)
    losses_of_no_penalty = TrainingObjective(sae)(x, 0.0, None, sae.pre_activations(x).detach())
    losses_of_no_penalty.loss.backward()
    pre = (x - plain.b_dec) @ plain.W_enc + plain.b_enc
    latents = pre * (pre > 0.7)
    (latents @ plain.W_dec + plain.b_dec - x).square().mean().backward()
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert torch.allclose(getattr(sae, name).grad, getattr(plain, name).grad, atol=1e-6), name


def test_latents_outside_the_top_k_get_a_gradient_once_they_are_dead():
    sae, x = make_sae("topk", k=1), features()[:5]
    alive = losses_of(sae, x)
    outside = ~alive.fired & (sae.pre_activations(x) > 0).any(0)
    assert outside.sum() > 3
    alive.loss.backward()
    assert (sae.b_enc.grad[outside] == 0).all()
    sae.zero_grad()
    losses_of(sae, x, outside.nonzero().flatten()).loss.backward()
    assert (sae.b_enc.grad[outside] != 0).any()


def test_every_loss_is_a_function_of_one_forward_pass():
    sae, x = make_sae("relu"), features()
    step = TrainingObjective(sae).forward_pass(x, sae.pre_activations(x).detach())
    latents = sae.encode(x)
    assert _number(sae.sparsity_loss(step)) == pytest.approx(_number(latents.sum(1).mean()), rel=1e-5)
    assert _number(objective.mean_squared_error(step)) == pytest.approx(_number((sae(x) - x).square().mean()), rel=1e-5)
    assert _number(objective.prefix_error(step)) == pytest.approx(_number(objective.mean_squared_error(step)), rel=1e-5)


def _number(tensor):
    return tensor.detach().item()


def state_of(config, penalty=Penalty(1.0)):  # noqa: B008
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=D_MODEL, n_latents=N_LATENTS))
    state = TrainingState(sae, config, Accelerator(cpu=True), penalty)
    return state, Stack([state])


@pytest.mark.parametrize(("n_latents", "active"), [(8 * D_MODEL, D_MODEL), (D_MODEL + 1, (D_MODEL + 1) / 2)])
def test_relu_starts_with_as_many_active_latents_as_components_or_half_of_a_small_dictionary(n_latents, active):
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=D_MODEL, n_latents=n_latents))
    config = train_config("relu", n_latents=n_latents, batch_size=N)
    state = TrainingState(sae, config, Accelerator(cpu=True), Penalty())
    x = torch.randn(N, D_MODEL, generator=torch.Generator().manual_seed(0))
    losses = state.step(0, x, Stack([state]).pre_activations(x)[0], learning_rate=0.0)
    assert losses.l0.item() == pytest.approx(active, rel=0.1)
    latents = sae.encode(x)
    assert torch.count_nonzero(latents) / N == losses.l0, "the weights start as the first step's pre-activations do"
    product = (latents @ sae.W_dec).detach()
    assert _number((x * product).sum()) == pytest.approx(_number(product.square().sum()), rel=1e-4), "least squares"


def test_the_sparsity_warm_up_acts_on_the_loss():
    config = train_config("relu", n_latents=N_LATENTS, batch_size=N, l1_coefficient=6.0, sparsity_warmup_steps=4)
    state, stack = state_of(config, ReLUSAE.penalty(config.architecture, scale=3.0))
    assert [state.penalty.at(step) for step in range(6)] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    x = features()
    for step, coefficient in ((1, 0.8), (5, 2.0)):
        (pre,) = stack.pre_activations(x)
        l1 = _number(state.sae.encode(x).sum(1).mean())
        losses = state.step(step, x, pre, learning_rate=0.0)
        assert (losses.loss - losses.mse).item() == pytest.approx(coefficient * l1, rel=1e-4)


def test_gradients_are_clipped_to_the_norm():
    """With plain gradient descent in the place of Adam, one step moves the weights by the clipped gradient."""
    moved = {}
    for norm in (None, 1e-3):
        state, stack = state_of(train_config("relu", n_latents=N_LATENTS, batch_size=N, max_gradient_norm=norm))
        state.optimizer = torch.optim.SGD([{"params": list(state.sae.parameters()), "rate": 1.0}], lr=1.0)
        before = state.sae.b_enc.detach().clone()
        # Not step 0, which sets the biases to the data.
        state.step(1, features(), stack.pre_activations(features())[0], learning_rate=1.0)
        moved[norm] = float((state.sae.b_enc.detach() - before).norm())
    assert moved[1e-3] <= 1e-3
    assert moved[None] > 1e-2


def test_the_decoder_is_unit_norm_after_every_step_and_no_gradient_is_parallel():
    state, stack = state_of(train_config("relu", n_latents=N_LATENTS, batch_size=N))
    seen = []
    state.optimizer.register_step_pre_hook(
        lambda *_: seen.append((state.sae.W_dec.grad * state.sae.W_dec.detach()).sum(1))
    )
    for step in range(3):
        (pre,) = stack.pre_activations(features(step))
        state.step(step, features(step), pre, learning_rate=0.1)
        assert torch.allclose(state.sae.W_dec.norm(dim=1), torch.ones(N_LATENTS), atol=1e-6)
    assert len(seen) == 3
    assert all(along.abs().max() < 1e-6 for along in seen)


def test_a_stack_gives_the_pre_activations_of_each_sae_and_follows_their_training():
    states = []
    for seed in range(3):
        sae = make_sae("relu", seed=seed)
        config = train_config("relu", n_latents=N_LATENTS, batch_size=N)
        states.append(TrainingState(sae, config, Accelerator(cpu=True), Penalty(1.0)))
    stack = Stack(states)
    x = features()
    for step in range(2):
        for state, pre in zip(states, stack.pre_activations(x), strict=True):
            assert torch.allclose(pre, state.sae.pre_activations(x), atol=1e-5)
            state.step(step, x, pre, learning_rate=0.1)
