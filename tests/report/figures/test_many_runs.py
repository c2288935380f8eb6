"""Figures of the studies that run energy-lens several times, from tables made by hand."""

import numpy as np
import pytest

from energylens.report.figure import draw, write_files
from energylens.report.figures import ablation, models
from energylens.report.records import Records, Table

NAN = float("nan")


def table(name: str, rows: list[dict]) -> Records:
    columns = {
        key: [row[key] for row in rows] if isinstance(rows[0][key], str)
        else np.array([row[key] for row in rows], dtype=float)
        for key in rows[0]
    }  # fmt: skip
    return Records(run={}, summary={}, tables={name: Table(name=name, columns=columns,
                                                           rows=len(rows))})  # fmt: skip


def change(factor: str, level: str, outcome: str, size: float, p: float) -> dict:
    return {
        "factor": factor, "level": level, "outcome": outcome, "label": outcome, "unit": "share",
        "value": size, "reference": 0.1, "reference_sd": 0.01, "change": size, "low": size - 0.1,
        "high": size + 0.1, "spread": 0.03, "documents_low": NAN, "documents_high": NAN, "p": p,
        "q": p, "n_seeds": 4,
    }  # fmt: skip


def match(weights: str, site: int, value: float, p: float) -> dict:
    row = {"model": "one", "other": "two", "weights": weights, "site": f"blocks.{site}.resid_post",
           "other_site": "blocks.0.resid_post", "features": 9, "others": 9, "mutual": 3,
           "low": value - 0.1, "high": value + 0.1, "n_documents": 20}  # fmt: skip
    for name in ("correlation", "efas_rank_correlation", "same_sign"):
        row[name] = value
        for null in ("dealt", "turned"):
            row |= {f"{name}_{null}_mean": 0.0, f"{name}_{null}_sd": 0.1, f"{name}_{null}_p": p}
    return row


def size(model: str, weights: str, depth: float, efas: float) -> dict:
    ends = ("", "_low", "_high", "_null_mean", "_null_sd")
    return {"model": model, "weights": weights, "site": "blocks.0.resid_post",
            "relative_depth": depth, "parameters": 1e6 if model == "one" else 1e8, "features": 9,
            "n_documents": 20} | {f"efas_{q}{end}": efas for q in (50, 90)
                                    for end in ends}  # fmt: skip


def model(name: str, weights: str, beyond: int, scored: int = 200) -> dict:
    return {"model": name, "weights": weights, "parameters": 1e6, "n_layers": 2, "d_model": 8,
            "loss": 3.0, "scored": scored, "beyond": beyond, "beyond_low": beyond / 2,
            "beyond_high": 2.0 * beyond + 3, "n_documents": 20}  # fmt: skip


CHANGES = [
    change("width", "128", "fvu", 0.2, 0.001), change("width", "512", "fvu", 0.02, 0.8),
    change("width", "128", "beyond_share", 0.2, 0.3),
    change("energy", "free_energy", "beyond_share", 0.3, 0.01),
    change("site", "blocks.3.resid_post", "beyond_share", NAN, NAN),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "records", "words"),
    [
        (ablation.quality, table("ablation_changes", CHANGES),
         "1 of 2 changes exceeds the spread between seeds; chance gives .1. The surest: with width"
         " 128, fvu +.20"),
        (ablation.finding, table("ablation_changes", CHANGES), "0 of 1 change exceed"),
        (ablation.within, table("ablation_changes", CHANGES),
         "With the downstream energy 10 % of features are beyond chance; beyond the spread between"
         " seeds differ free energy +.3"),
        (models.shares, table("models", [model("one", "trained", 10), model("one", "random weights",
         0), model("two", "trained", 0, 0)]), "one 5 % (0 %), two undefined"),
        (models.sizes, table("models_depth", [size("one", "trained", 0.5, 0.2), size("two",
         "trained", 1.0, 0.3)]), "one 0 to 0, two 0 to 0"),
        (models.matching, table("models_matching", [match("trained", 0, 0.5, 0.01),
         match("trained", 1, 0.7, 0.2), match("random weights", 0, 0.3, 0.5)]),
         "partners correlate .6 on average; with documents dealt out anew 0"),
    ],
)  # fmt: skip
def test_a_figure_answers_from_its_table_and_can_be_drawn(make, records, words, tmp_path):
    figure = make(records)
    assert words in figure.answer
    write_files(figure, tmp_path)
    assert draw(figure) and (tmp_path / f"{figure.name}.png").stat().st_size > 5_000
    assert len({len(column.cells) for column in figure.columns}) == 1


def test_without_their_tables_there_is_no_figure():
    nothing = Records(run={}, summary={})
    for make in (ablation.finding, ablation.quality, ablation.within, models.shares, models.sizes,
                 models.matching):  # fmt: skip
        assert make(nothing) is None
