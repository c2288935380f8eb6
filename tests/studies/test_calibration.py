"""Agreement of predicted with measured effects: of sizes, of ranks, and what decides each."""

from pathlib import Path

import pytest
import scipy.stats
import torch

from energylens.run.edges.store.folder import Folder
from energylens.studies.energy_lens.calibration import (
    calibration_by_rule,
    pooled_calibration,
    slope_and_correlations,
)
from energylens.studies.energy_lens.proof import ABLATE, KINDS, RULES
from tests.common.compare import assert_close

SITE = "blocks.0.resid_post"
WINDOWS = 12


def test_the_three_figures_are_those_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 40, generator=generator, dtype=torch.float64)
    y = 0.5 * x + torch.randn(1, 40, generator=generator, dtype=torch.float64)
    y[0, 3] = torch.nan  # a feature without a window in a draw of the bootstrap
    found = slope_and_correlations(x, y)[0]
    known = y[0].isfinite()
    a, b = x[0, known].numpy(), y[0, known].numpy()
    wanted = [
        scipy.stats.linregress(a, b).slope, scipy.stats.pearsonr(a, b).statistic,
        scipy.stats.spearmanr(a, b).statistic,
    ]  # fmt: skip
    assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    """Thirty features whose effect is as predicted, but for one of the first rule that is huge."""
    generator = torch.Generator().manual_seed(1)
    slope = torch.randn(30, generator=generator, dtype=torch.float64)
    measured = slope.clone()
    measured[0], slope[0] = -400.0, 40.0
    feature = torch.arange(30).repeat_interleave(WINDOWS)
    noise = 0.05 * torch.randn(len(feature), generator=generator, dtype=torch.float64)
    part = f"proof.{SITE}"
    store = Folder(tmp_path)
    store.save(part, tensors={part: {
        "feature": feature, "window": torch.arange(WINDOWS).repeat(30),
        "kind": torch.full_like(feature, KINDS.index(ABLATE)),
        "predicted": slope[feature], "measured": measured[feature] + noise,
    }}, records={part: {"choices": [[f, RULES[f % 3]] for f in range(30)]}})  # fmt: skip
    return store


def test_one_odd_feature_decides_the_sizes_and_not_the_ranks(store: Folder) -> None:
    documents = {SITE: torch.arange(WINDOWS)}
    whole = pooled_calibration(store, [SITE], documents, seed=0)
    assert whole["correlation"] < 0 < 0.7 < whole["rank_correlation"]
    assert whole["null_rank_correlation_p"] < 0.01
    rules = {row["chosen_by"]: row for row in calibration_by_rule(store, [SITE], documents, seed=0)}
    assert rules[RULES[0]]["correlation"] < 0
    assert min(rules[rule]["correlation"] for rule in RULES[1:]) > 0.99
    assert [rules[rule]["n_features"] for rule in RULES] == [10, 10, 10]


def test_too_few_features_are_undefined_not_a_number(store: Folder, tmp_path: Path) -> None:
    part = f"proof.{SITE}"
    few = Folder(tmp_path / "few")
    proof = store.tensors(part)
    kept = {name: tensor[proof["feature"] < 2] for name, tensor in proof.items()}
    few.save(part, tensors={part: kept}, records={part: {"choices": [[0, RULES[0]]]}})
    row = pooled_calibration(few, [SITE], {SITE: torch.arange(WINDOWS)}, seed=0)
    assert row["n_features"] == 2 and row["rank_correlation"] != row["rank_correlation"]
