"""Figures of a sweep of dictionaries, from tables made by hand."""

import numpy as np
import pytest

from energylens.report.figure import draw, write_files
from energylens.report.figures import scaling
from energylens.report.records import Records, Table

NAN = float("nan")
SITE = "blocks.1.resid_post"
WIDTHS, TOKENS, KS = (64, 128, 256, 512), (6_000, 12_000, 24_000), (4, 8)


def table(name: str, rows: list[dict]) -> Table:
    columns = {
        key: [row[key] for row in rows] if isinstance(rows[0][key], str)
        else np.array([row[key] for row in rows], dtype=float)
        for key in rows[0]
    }  # fmt: skip
    return Table(name=name, columns=columns, rows=len(rows))


def fvu(width: int, tokens: int, k: int) -> float:
    return 0.05 + 0.8 / k * (width / 181) ** -0.5 + 0.1 * (tokens / 12_000) ** -0.4


def point(site: str, width: int, tokens: int, k: int, seed: int) -> dict:
    value = fvu(width, tokens, k) * (1 + 0.05 * seed)
    return {"site": site, "width": width, "k": k, "tokens": tokens, "seed": seed, "fvu": value,
            "fvu_low": 0.93 * value, "fvu_high": 1.07 * value, "fvu_null": 0.95 - 0.02 * k,
            "l0": k - 0.1 * seed, "dead_share": 0.1, "loss_recovered": 0.9}  # fmt: skip


def law(site: str, k: int, why: str = "") -> dict:
    def number(value: float) -> float:
        return NAN if why else value

    row = {"site": site, "k": k, "axes": "width and tokens", "points": 24, "error": number(0.02),
           "explained": number(0.99), "misfit_p": number(0.5), "why": why, "floor": number(0.05),
           "floor_low": number(0.0), "floor_high": number(0.1)}  # fmt: skip
    for axis, value, amplitude, unit in (
        ("width", 0.5, 0.8 / k, 181), ("tokens", 0.4, 0.1, 12_000)
    ):  # fmt: skip
        row |= {f"{axis}_exponent": number(value), f"{axis}_exponent_low": number(value - 0.1),
                f"{axis}_exponent_high": number(value + 0.2),
                f"{axis}_amplitude": number(amplitude), f"{axis}_unit": float(unit)}  # fmt: skip
    return row


def slope(site: str, k: int, tokens: int) -> dict:
    there = tokens == TOKENS[0]
    null = {"shuffled": -0.05, "shuffled_low": -0.08, "shuffled_high": -0.02}
    return {"site": site, "k": k, "tokens": tokens, "points": 8, "slope": -0.4,
            "slope_low": -0.5, "slope_high": -0.3, "random": -0.03, "random_low": -0.04,
            "random_high": -0.02, **{n: v if there else NAN for n, v in null.items()}}  # fmt: skip


@pytest.fixture
def records() -> Records:
    sites = (SITE, "blocks.3.resid_post")
    tables = [
        table("scaling_points", [point(s, w, t, k, seed) for s in sites for w in WIDTHS
                                 for t in TOKENS for k in KS for seed in (0, 1)]),
        table("scaling_laws", [law(s, k) for s in sites for k in KS]),
        table("scaling_slopes", [slope(s, k, t) for s in sites for k in KS for t in TOKENS]),
        table("scaling_shuffled", [{"site": s, "width": w, "k": k, "fvu": 0.9 - k / 50}
                                   for s in sites for w in WIDTHS for k in KS]),
    ]  # fmt: skip
    return Records(run={}, summary={}, tables={one.name: one for one in tables})


@pytest.mark.parametrize("make", [scaling.sizes, scaling.exponents, scaling.frontier])
def test_every_figure_is_drawn_and_pointed_at(records, make, tmp_path):
    figure = make(records)
    for drawing in draw(figure):
        across, down, rows = drawing.marks
        assert len(across) == len(down) == len(rows) > 0
        assert max(rows) < len(figure.columns[0].cells)
    write_files(figure, tmp_path)
    assert (tmp_path / f"{figure.name}.png").stat().st_size > 10_000
    named = {column.name for column in figure.columns}
    assert set(figure.tells) <= named


def test_the_line_is_the_law(records):
    laws, points = records.table("scaling_laws"), records.table("scaling_points")
    rows = np.flatnonzero((points.number("tokens") == 24_000) & (points.number("k") == 8))
    x, y = scaling._law_line(laws, points, rows, "width")
    assert 10 ** y[0] == pytest.approx(fvu(64, 24_000, 8))
    assert 10 ** x[-1] == pytest.approx(512) and 10 ** y[-1] == pytest.approx(fvu(512, 24_000, 8))


def test_the_words_are_those_of_the_tables(records):
    answer = scaling.sizes(records).answer
    assert answer == (
        "In 4 of 4 laws the exponent in width is above 0; at k 8 it is .50 [.40, .70], above a"
        " floor of .05 [.00, .10]."
    )
    told = scaling.exponents(records).answer
    assert "more steeply than on shuffled states at 4 of 4" in told and "−.40 [−.50, −.30]" in told
    assert "512 features with 8 active" in scaling.frontier(records).answer


def test_without_a_law_points_stay(records):
    why = "a law needs 4 different sizes, and there are 3"
    laws = table("scaling_laws", [law(SITE, k, why) for k in KS])
    there = Records(run={}, summary={}, tables={**records.tables, "scaling_laws": laws})
    figure = scaling.sizes(there)
    assert figure.answer == f"Undefined: {why}." and len(draw(figure)) == 2
    assert len(scaling.exponents(there).panels) == 1  # slopes need no law


def test_without_tables_there_is_no_figure():
    empty = Records(run={}, summary={}, tables={})
    for make in (scaling.sizes, scaling.exponents, scaling.frontier):
        assert make(empty) is None
