"""EFAS on planted truth and on noise: power where features follow the energy, silence elsewhere."""

import pytest
import torch

from energylens.energy.alignment import (
    ActivationSums,
    ForceSums,
    active_forces,
    alignment_with_every_direction,
    energy_feature_alignment,
)
from energylens.stats.matching import matched_max_t
from energylens.stats.multiplicity import benjamini_hochberg, max_t
from energylens.stats.nulls import enough_evidence
from energylens.stats.robust import cluster_robust_t

UNITS, TOKENS, D, M, K = 60, 80, 96, 150, 5


def simulate(seed: int, *, planted: int = 0, everywhere: float = 0.0, strength: float = 3.0):
    """Sparse activations and gradients with correlation inside documents.

    The first `planted` features pull the gradient against their own decoder row where they are
    active. With `everywhere`, each feature also moves the gradient along a direction of its own
    that has nothing to do with its decoder row.
    """
    g = torch.Generator().manual_seed(seed)
    n = UNITS * TOKENS
    unit = torch.arange(n) // TOKENS
    likely = 0.3 * torch.rand(UNITS, M, generator=g)
    indices = (likely[unit] + torch.rand(n, M, generator=g)).topk(K, dim=1).indices
    values = torch.rand(n, K, generator=g) + 0.5
    directions = torch.nn.functional.normalize(torch.randn(M, D, generator=g), dim=1)
    gradient = torch.randn(n, D, generator=g) + 0.7 * torch.randn(UNITS, D, generator=g)[unit]
    other = torch.nn.functional.normalize(torch.randn(M, D, generator=g), dim=1)
    gradient += everywhere * (values[:, :, None] * other[indices]).sum(1)
    mine = (indices < planted)[:, :, None] * values[:, :, None]
    gradient -= strength * (mine * directions[indices]).sum(1)
    return indices, values, gradient, directions, unit


def analyse(case, seed: int):
    indices, values, gradient, directions, unit = case
    a = ActivationSums.zeros(width=M, n_units=UNITS)
    f = ForceSums.zeros(width=M, d_model=D, n_units=UNITS)
    a.add_(indices, values, unit)
    f.add_(indices, values, gradient, active_forces(indices, gradient, directions), unit)
    found = energy_feature_alignment(a, f, directions)
    scored = enough_evidence(found.n_active, found.n_units)
    scores = torch.where(scored, found.scores, torch.nan)
    generator = torch.Generator().manual_seed(seed)
    documents = max_t(scores, draws=199, generator=generator).p_adjusted
    chosen = scored.nonzero()[:, 0]
    pairs = alignment_with_every_direction(a, f, directions[chosen], features=chosen)
    rows = matched_max_t([pairs], draws=199, generator=generator)[0]
    adjusted = torch.full_like(documents, torch.nan)
    adjusted[chosen] = rows.p_adjusted
    each = cluster_robust_t(scores).p
    each[chosen] = torch.maximum(each[chosen], rows.p)
    return found, documents, torch.maximum(documents, adjusted), each


def test_the_diagonal_of_all_pairs_is_efas():
    indices, values, gradient, directions, unit = simulate(0)
    a, f = (
        ActivationSums.zeros(width=M, n_units=UNITS),
        ForceSums.zeros(width=M, d_model=D, n_units=UNITS),
    )
    a.add_(indices, values, unit)
    f.add_(indices, values, gradient, active_forces(indices, gradient, directions), unit)
    everyone = torch.arange(M)
    pairs = alignment_with_every_direction(a, f, directions, features=everyone)
    efas = energy_feature_alignment(a, f, directions).efas
    assert float((pairs.diagonal() - efas).abs().max()) < 1e-5


def test_planted_features_are_found_with_the_right_sign():
    power = []
    for seed in range(5):
        found, _, both, _ = analyse(simulate(seed, planted=8), seed)
        power.append(float((both[:8] <= 0.05).double().mean()))
        assert (found.efas[:8] > 0).all()
    assert sum(power) / 5 > 0.8, power


def test_false_discoveries_stay_rare_beside_planted_features():
    wrong = found = 0
    for seed in range(10):
        _, _, both, _ = analyse(simulate(seed, planted=8), seed)
        hits = both <= 0.05
        found += int(hits.sum())
        wrong += int(hits[8:].sum())
    assert found > 40 and wrong / found < 0.05, (wrong, found)


def test_bh_keeps_the_false_discovery_rate():
    proportions = []
    for seed in range(10):
        *_, each = analyse(simulate(seed, planted=8), seed)
        hits = benjamini_hochberg(each) <= 0.1
        proportions.append(float(hits[8:].sum() / max(int(hits.sum()), 1)))
    assert sum(proportions) / 10 <= 0.12, proportions


def test_noise_gives_nothing():
    families = sum(bool((analyse(simulate(seed), seed)[2] <= 0.05).any()) for seed in range(40))
    assert families <= 6  # 5 % of 40 is 2; 7 or more has a chance of .003


def test_gradients_that_move_along_any_direction_are_no_finding():
    """What a random-weight model does: covariance is real, the decoder row has no part in it."""
    by_documents = both = 0
    for seed in range(10):
        _, documents, p, _ = analyse(simulate(seed, everywhere=3.0), seed)
        by_documents += int((documents <= 0.05).sum())
        both += bool((p <= 0.05).any())
    assert by_documents > 20  # sign flips by document alone are fooled
    assert both <= 2


@pytest.mark.parametrize("seed", range(3))
def test_the_simulator_of_seed_000_yields_no_discovery(seed):
    """Five texts of 10–19 tokens: nothing has enough evidence, so nothing is scored."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(10, 20, (5,), generator=g)
    unit = torch.repeat_interleave(torch.arange(5), lengths)
    n, width, d = len(unit), 2048, 32
    indices = torch.rand(n, width, generator=g).topk(8, dim=1).indices
    values = torch.rand(n, 8, generator=g)
    position = torch.cat([torch.arange(int(length)) for length in lengths]).float()
    gradient = position.diff(prepend=position[:1])[:, None] + torch.randn(n, d, generator=g)
    directions = torch.nn.functional.normalize(torch.randn(width, d, generator=g), dim=1)
    a = ActivationSums.zeros(width=width, n_units=5)
    f = ForceSums.zeros(width=width, d_model=d, n_units=5)
    a.add_(indices, values, unit)
    f.add_(indices, values, gradient, active_forces(indices, gradient, directions), unit)
    found = energy_feature_alignment(a, f, directions)
    active = found.efas[found.n_active == 1]
    assert float(active.abs().max()) > 0.3  # the naive score looks impressive
    assert not bool(enough_evidence(found.n_active, found.n_units).any())
