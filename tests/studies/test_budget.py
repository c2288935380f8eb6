"""Sizes of a run: those given stay, those open are set by the budget."""

import pytest

from energylens.core.errors import BadInput
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.budget import BUDGETS, LEAST, settled, training_tokens


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_is_open_is_set_and_what_is_given_stays(budget):
    options = settled(EnergyLens(budget=budget, proof_features=7))
    assert options.proof_features == 7
    assert options.score_documents == BUDGETS[budget].score_documents
    assert settled(options) == options
    assert training_tokens(options, 1000, 0) == 1000 * BUDGETS[budget].tokens_per_feature
    assert training_tokens(EnergyLens(budget=budget, train_tokens=9), 1000, 0) == 9


def test_every_size_is_in_its_range_and_budgets_grow():
    quick, default, full = (BUDGETS[name] for name in ("quick", "default", "full"))
    for name, least in LEAST.items():
        sizes = [getattr(budget, name) for budget in (quick, default, full)]
        assert least <= sizes[0] < sizes[1] < sizes[2]


def test_a_size_too_small_is_refused_with_what_the_budget_gives():
    with pytest.raises(BadInput, match="--score-documents is 9: it must be 10 or more.*100"):
        settled(EnergyLens(score_documents=9))
