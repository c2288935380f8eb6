import numpy as np
import pytest
import torch
from torch import nn

from energylens.activations.attention import attention_patterns
from energylens.activations.batch import Batch
from energylens.activations.suffix import run_from
from energylens.core.errors import BadInput
from energylens.energy.energies.downstream import downstream_energy, downstream_gradients
from energylens.energy.saliency import (
    along_directions,
    attention_rollout,
    gradient_x_input,
    integrate_path,
    next_logit_covector,
    pull_through_frozen_norm,
    radau,
    through_tokens,
)
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close
from tests.oracles import saliency as oracle

SITE = "blocks.1.resid_post"


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def sparse(*shape, seed=0):
    return draw(*shape, seed=seed).clamp(min=0) * (draw(*shape, seed=seed + 1) > 0)


# ---- integrated gradients


@pytest.mark.parametrize("passes", [1, 2, 3, 6])
def test_radau_is_exact_to_twice_its_passes_and_no_further(passes):
    nodes, weights = radau(passes)
    assert nodes[-1] == 1 and (nodes > 0).all()
    for power in range(2 * passes + 1):
        assert_close((weights * nodes**power).sum(), 1 / (power + 1), rtol=1e-12)
    beyond = (weights * nodes ** (2 * passes + 1)).sum()
    assert abs(beyond - 1 / (2 * passes + 2)) > 1e-9


def test_no_pass_is_refused():
    with pytest.raises(BadInput, match="needs 1 pass besides its end, got 0"):
        radau(0)


def test_on_a_quadratic_energy_it_is_the_mean_of_both_ends():
    """E = hᵀQh: the mean gradient is Q(h0 + h) and the attributions sum to the change exactly."""
    Q = draw(5, 5)
    Q = Q + Q.T
    energy = lambda h: torch.einsum("wpd,de,wpe->w", h, Q, h)
    off, on = draw(2, 3, 5, seed=1), draw(2, 3, 5, seed=2)
    path = integrate_path(
        energy, off, on, energy_on=energy(on), gradient_on=2 * on @ Q, passes=1
    )  # fmt: skip
    assert_close(path.gradient, (off + on) @ Q, rtol=1e-12)
    assert_close(path.change, energy(on) - energy(off), rtol=1e-12)
    assert_close(path.summed, path.change, rtol=1e-12)


@pytest.mark.parametrize("family", SHAPES)
def test_integrated_gradients_are_those_of_scaling_the_activations(family):
    found, batch = subject(family), Batch.full(tokens(2, 7))
    activation, directions = sparse(2, 7, 6, seed=3), draw(6, 32, seed=5) / 6
    states, gradients, loss = downstream_gradients(found, batch, [SITE])
    on, off = states[SITE], states[SITE] - activation @ directions
    energy = lambda h: downstream_energy(run_from(found, SITE, h, batch), batch)
    errors = []
    for passes in (1, 2, 8):
        path = integrate_path(
            energy, off, on, energy_on=loss.sum(1), gradient_on=gradients[SITE], passes=passes
        )
        errors.append(float((path.summed - path.change).abs().sum()))
    shares = along_directions(activation, path.gradient, directions).sum(1)
    wanted = oracle.integrated_gradients(energy, off, activation, directions, steps=300)
    assert_close(shares, wanted, rtol=1e-3, atol=1e-4)
    assert_close(-shares.sum(1), path.summed, rtol=1e-9)
    assert errors[2] < 1e-3 * float(path.change.abs().sum()) and errors[2] < errors[0]


# ---- one covector a place


def test_along_directions_is_activation_times_slope_place_by_place():
    activation, covector, directions = sparse(2, 3, 4), draw(2, 3, 5), draw(4, 5, seed=1)
    found = along_directions(activation, covector, directions)
    for w, p, f in np.ndindex(2, 3, 4):
        slope = (covector[w, p] * directions[f]).sum()
        assert_close(found[w, p, f], -activation[w, p, f] * slope)


@pytest.mark.parametrize("family", SHAPES)
def test_direct_logits_are_those_of_the_norm_with_its_scale_frozen(family):
    found, batch = subject(family), Batch.full(tokens(2, 6))
    states = downstream_gradients(found, batch, [SITE])[0][SITE].flatten(0, 1)
    next_ids = batch.next_ids.flatten()
    norm, unembed = found.final_norm, found.unembed
    toward = next_logit_covector(states, next_ids, norm, unembed)
    centred = isinstance(norm, nn.LayerNorm)
    direction = draw(32, seed=9)
    for i, state in enumerate(states):
        spread = state.var(correction=0) if centred else state.square().mean()
        wanted = oracle.direct_logit(
            state.numpy(), float((spread + norm.eps).sqrt()), centred, norm.weight.detach().numpy(),
            unembed.weight.detach().numpy(), int(next_ids[i]), direction.numpy(),
        )  # fmt: skip
        assert_close(toward[i] @ direction, wanted, rtol=1e-7)


def test_a_frozen_layer_norm_with_bias_in_single_precision():
    norm = nn.LayerNorm(16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    states, covector = 30 * draw(5, 16).float(), draw(5, 16, seed=1).float()
    pulled = pull_through_frozen_norm(norm, states, covector)
    scaled = covector * norm.weight.detach() / states.var(1, correction=0, keepdim=True).sqrt()
    assert_close(pulled, scaled - scaled.mean(1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_what_is_no_norm_is_refused():
    with pytest.raises(BadInput, match=r"\(Tanh\) is no linear map over a scale"):
        pull_through_frozen_norm(nn.Tanh(), draw(4, 8), draw(4, 8, seed=1))


# ---- tokens


@pytest.mark.parametrize("family", SHAPES)
def test_rollout_is_the_product_of_mixed_patterns(family):
    found, batch = subject(family), Batch.full(tokens(2, 7))
    states = downstream_gradients(found, batch, ["blocks.0.resid_post"])[0]["blocks.0.resid_post"]
    patterns = attention_patterns(found, "blocks.0.resid_post", states, batch)
    rolled = attention_rollout(patterns, batch.has_next)
    wanted = oracle.rollout([p.numpy() for p in patterns], batch.has_next.numpy())
    assert_close(rolled, wanted, rtol=1e-6)
    assert_close(rolled.sum(1), [6.0, 6.0], rtol=1e-6)


def test_without_attention_each_token_counts_for_itself():
    outputs = torch.tensor([[True, True, False]])
    assert attention_rollout([], outputs).tolist() == [[1.0, 1.0, 0.0]]


def test_rollout_of_one_known_block():
    """One head that looks at the first token only: each output gives it half of itself."""
    pattern = torch.zeros(1, 1, 3, 3)
    pattern[..., 0] = 1.0
    outputs = torch.tensor([[False, True, True]])
    assert attention_rollout([pattern], outputs).tolist() == [[1.0, 0.5, 0.5]]


def test_tokens_hand_their_weight_to_the_features_active_on_them():
    activation, weight = sparse(2, 3, 4), draw(2, 3).abs()
    found = through_tokens(activation, weight)
    for w, f in np.ndindex(2, 4):
        assert_close(found[w, f], sum(activation[w, p, f] * weight[w, p] for p in range(3)))


def test_gradient_x_input_is_a_size():
    gradient, states = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    assert_close(gradient_x_input(gradient, states), (gradient * states).sum(-1).abs())
