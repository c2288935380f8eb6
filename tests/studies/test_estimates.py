"""Figures of a summary: a null is of the statistic that stands beside it."""

import torch

from energylens.studies.energy_lens.estimates import largest_figure
from energylens.studies.energy_lens.statistics import Inference, SiteScores
from tests.common.compare import assert_close

EFAS = torch.tensor([0.5, -0.2, 0.1])
T = torch.tensor([1.0, -8.0, 5.0])


def scores(efas, t, p) -> SiteScores:
    same = {name: torch.full((3,), float(n)) for n, name in enumerate(
        ("low", "high", "q", "p_documents", "attribution", "n_active", "n_units"))}  # fmt: skip
    same |= {"p": p, "p_documents": p, "p_rows": p}
    return SiteScores(efas=efas, t=t, **same, scored=torch.ones(3) > 0, threshold=4.0, documents=9)


def inference(p) -> Inference:
    permuted = {"a": scores(torch.tensor([0.3, -0.9, 0.0]), T, p), "b": scores(0.3 * EFAS, T, p)}
    return Inference(energies={"tuned": {"a": scores(EFAS, T, p)}}, replicated={},
                     controls={"permuted decoder": permuted})  # fmt: skip


def test_the_largest_beyond_chance_stands_beside_what_flipped_signs_make_of_it():
    """A feature of much larger spread, within chance, says nothing of it."""
    figure = largest_figure(inference(torch.tensor([0.9, 0.001, 0.02])), "tuned")
    assert figure.label == "Largest |EFAS| beyond chance" and "feature 1" in figure.note
    assert_close((figure.value, figure.null_mean, figure.null_sd), (0.2, 0.0, 0.2 / 8))
    assert_close(figure.p, 0.001)
    assert "signs flipped by document; beyond chance among all features from .1 on" in figure.note


def test_where_nothing_is_beyond_the_largest_of_all_stands_beside_that_of_permuted_rows():
    figure = largest_figure(inference(torch.ones(3)), "tuned")
    assert figure.label == "Largest |EFAS|" and "feature 0" in figure.note
    assert_close((figure.value, figure.null_mean), (0.5, (0.9 + 0.15) / 2))
    assert_close(figure.null_sd, float(torch.tensor([0.9, 0.15]).std()))
