"""Figures of evaluate-dictionary, from tables made by hand: words, drawings, nothing defined."""

import numpy as np
import pytest

from energylens.report.figure import draw, write_files
from energylens.report.figures import evaluation, evaluation_pairs
from energylens.report.records import Records, Table

NAN = float("nan")
FVU = {"dictionary": 0.2, "pca": 0.4, "pca_subspace": 0.6, "ica": 0.35, "random": 0.8,
       "short": 0.25, "shuffled": 0.7, "random_weights": 0.5}  # fmt: skip


def records(**tables: list[dict]) -> Records:
    made = {}
    for name, rows in tables.items():
        columns = {
            key: [row[key] for row in rows] if isinstance(rows[0][key], str)
            else np.array([row[key] for row in rows], dtype=float)
            for key in rows[0]
        }  # fmt: skip
        made[name] = Table(name=name, columns=columns, rows=len(rows))
    return Records(run={}, summary={}, tables=made)


def measured(label: str, contender: str, value: float) -> dict:
    row = {"dictionary": label, "contender": contender, "width": 64, "k": 4, "d_out": 32,
           "n_documents": 20, "n_loss_documents": 8, "rows": 600, "massive_rows": 2}  # fmt: skip
    for name in evaluation.MEASURES:
        row |= {name: value, f"{name}_low": value - 0.05, f"{name}_high": value + 0.05}
    return row | {"l0": 4.0, "l0_low": 4.0, "l0_high": 4.0} | dict.fromkeys(evaluation.PLAIN, 0.1)


def weighed(label: str) -> dict:
    names = ("nearest", "nearest_random", "encoder_decoder", "encoder_dealt")
    return {"dictionary": label, "width": 64, "d_out": 32, "stable_rank": 6.0,
            "stable_rank_isotropic": 11.0, "participation_ratio": 9.0,
            "participation_ratio_isotropic": 21.0} | {
        f"{name}_{q}": 0.3 for name in names for q in ("05", "50", "95")}  # fmt: skip


def matched(one: str, other: str) -> dict:
    return {"dictionary": one, "other": other, "site": "blocks.0.resid_post", "features": 64,
            "others": 64, "mean_max_cosine": 0.6, "found_again": 0.25, "random_mean": 0.2,
            "random_sd": 0.01, "alike_mean": 0.3, "alike_sd": 0.01}  # fmt: skip


def seen(one: str, other: str) -> dict:
    return {"dictionary": one, "other": other, "model": "tiny", "other_model": "tiny",
            "features": 9, "others": 9, "mutual": 3, "correlation": 0.7, "low": 0.6, "high": 0.8,
            "correlation_dealt_mean": 0.0001, "correlation_dealt_sd": 0.1,
            "n_documents": 20}  # fmt: skip


def dense(label: str, contender: str) -> list[dict]:
    bins = [(-np.inf, -6.0, 5), (-6.0, -3.0, 0), (-3.0, -1.0, 40), (-1.0, 0.0, 19)]
    return [{"dictionary": label, "contender": contender, "log10_low": a, "log10_high": b,
             "features": n} for a, b, n in bins]  # fmt: skip


def everything(value=lambda contender: FVU[contender]) -> Records:
    return records(
        evaluation=[measured(label, c, value(c)) for label in ("one", "two") for c in FVU],
        evaluation_densities=[r for c in FVU for r in dense("one", c)],
        evaluation_weights=[weighed("one"), weighed("two")],
        evaluation_matches=[matched("one", "two"), matched("two", "one")],
        evaluation_universality=[seen("one", "two")],
    )  # fmt: skip


MAKERS = (evaluation.quality, evaluation.frontier, evaluation.losses, evaluation.densities,
          evaluation_pairs.weights, evaluation_pairs.matches)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (evaluation.quality, "one leaves .20 [.15, .25] of the variance unexplained, the best"
         " untrained baseline (ICA) .35, random directions .8"),
        (evaluation.frontier, "one: 4 numbers a row of 32 leave 20 % of the variance"),
        (evaluation.losses, "recovers .20 [.15, .25] of the loss"),
        (evaluation.densities, "one: 10 % never fire, 10 % on more than a tenth"),
        (evaluation_pairs.weights, "one: stable rank 6 of 32 dimensions, isotropic rows 11"),
        (evaluation_pairs.matches, "a cosine of .6 on average, where random rows with the same"
         " covariance have .3 and random directions .2; 25 % are found again"),
    ],
)  # fmt: skip
def test_a_figure_answers_from_its_table_and_can_be_drawn(make, words, tmp_path):
    figure = make(everything())
    assert words in figure.answer
    write_files(figure, tmp_path)
    assert draw(figure) and (tmp_path / f"{figure.name}.png").stat().st_size > 5_000
    assert len({len(column.cells) for column in figure.columns}) == 1


def test_what_is_undefined_is_said_and_drawn_without(tmp_path):
    nothing = everything(lambda contender: NAN if contender != "pca" else 0.4)
    for make in (evaluation.quality, evaluation.frontier, evaluation.losses):
        figure = make(nothing)
        assert draw(figure)
    assert "undefined" in evaluation.quality(nothing).answer
    assert evaluation.losses(everything(lambda contender: NAN)) is None
    assert evaluation.frontier(everything(lambda contender: NAN)) is None


def test_without_their_tables_there_is_no_figure_and_one_of_two_suffices():
    empty = Records(run={}, summary={})
    assert all(make(empty) is None for make in MAKERS)
    alone = evaluation_pairs.matches(records(evaluation_universality=[seen("one", "two")]))
    assert alone and len(alone.panels) == 1 and "partners correlate .7" in alone.answer
