"""Planted truth for the matching of models: what is shared is found, and nothing else."""

import pytest
import torch

from energylens.studies.energy_lens_models.consistency import columns, consistency, side
from energylens.studies.energy_lens_models.measures import size_quantiles

DOCUMENTS, SEGMENTS, FEATURES = 30, 6, 12


def activations(seed: int) -> torch.Tensor:
    """Sparse activations that depend on their document, as topics do."""
    g = torch.Generator().manual_seed(seed)
    topic = torch.rand(DOCUMENTS, 1, FEATURES, generator=g) < 0.4
    on = torch.rand(DOCUMENTS, SEGMENTS, FEATURES, generator=g) < 0.1 + 0.7 * topic
    return on * torch.rand(DOCUMENTS, SEGMENTS, FEATURES, generator=g)


def numbers(seed: int) -> torch.Tensor:
    return torch.randn(FEATURES, generator=torch.Generator().manual_seed(seed)).double()


def compared(a, b, efas_a, efas_b, *, draws=99, seed=0):
    found = consistency(side(a, efas_a), side(b, efas_b), draws=draws,
                        generator=torch.Generator().manual_seed(seed))  # fmt: skip
    assert found is not None
    return found, columns(found)


def test_features_shared_by_construction_are_matched_and_agree():
    a, efas = activations(0), numbers(1)
    order = torch.randperm(FEATURES, generator=torch.Generator().manual_seed(2))
    noise = 0.1 * torch.rand(a.shape, generator=torch.Generator().manual_seed(3))
    found, row = compared(a, (a + noise)[..., order], efas, efas[order] + 0.1 * numbers(4))
    assert torch.equal(order[found.matches.partner], torch.arange(FEATURES))
    assert row["correlation"] > 0.9 and row["low"] < row["correlation"] < row["high"]
    for null in ("dealt", "turned"):
        assert row[f"correlation_{null}_p"] == 0.01
        assert row[f"efas_rank_correlation_{null}_p"] <= 0.02
        assert abs(row[f"correlation_{null}_mean"]) < 0.3
    assert row["same_sign"] > 0.8


def test_documents_in_another_order_are_not_matched():
    a, efas = activations(0), numbers(1)
    order = torch.randperm(DOCUMENTS, generator=torch.Generator().manual_seed(7))
    _, row = compared(a, a[order], efas, efas)
    assert row["correlation"] < 0.3 and row["correlation_dealt_p"] > 0.05


def test_what_only_the_topic_shares_is_told_from_what_the_place_shares():
    """Two features of one topic fire in the same documents, each where it will."""
    a = activations(0)
    turned = torch.stack([d.roll(1 + i % (SEGMENTS - 1), 0) for i, d in enumerate(a)])
    _, row = compared(a, turned, numbers(1), numbers(2))
    assert row["correlation_dealt_p"] == 0.01
    assert row["correlation_turned_p"] > 0.05


@pytest.mark.slow
def test_the_level_holds_on_models_that_share_nothing():
    fired = torch.zeros(3)
    for seed in range(240):
        _, row = compared(activations(2 * seed), activations(2 * seed + 1), numbers(seed),
                          numbers(seed + 10_000), draws=39, seed=seed)  # fmt: skip
        fired += torch.tensor([row[f"{name}_dealt_p"] <= 0.05 for name in
                               ("correlation", "efas_rank_correlation", "same_sign")])  # fmt: skip
    assert (fired <= 21).all() and (fired >= 2).all()  # 5 % of 240 is 12


def test_features_without_evidence_are_left_out():
    a, efas = activations(0), numbers(1)
    a[5:, :, 3] = 0  # in five documents at most
    a[4:, :, 2] = 0
    efas[7] = torch.nan
    assert not {2, 7} & set(side(a, efas).feature.tolist())
    assert consistency(side(a[..., :2], efas[:2]), side(a, efas), draws=99,
                       generator=torch.Generator()) is None  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_sizes_beside_flipped_signs(effect):
    """Without an effect the median |EFAS| is what noise makes it; with one it stands out."""
    fired = 0
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        parts = (torch.randn(40, 50, generator=g).double() + effect) / 40
        row = size_quantiles(parts, generator=g)
        fired += row["efas_50_p"] <= 0.05
        assert row["efas_50_low"] <= row["efas_50"] <= row["efas_50_high"]
    assert fired == 40 if effect else fired <= 6
