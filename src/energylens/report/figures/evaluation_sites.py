"""How good a dictionary of several sites is at each of them."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, Curve, frame, name_curves
from energylens.report.figure import Figure, Marks, Panel
from energylens.report.figures.evaluation import (
    CALLED,
    ITSELF,
    MOST_DRAWN,
    RANDOM,
    labels_of,
    numbers,
    words,
)
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import number, several


def by_site(records: Records) -> Figure | None:
    """Variance unexplained at each site, of dictionaries that write several."""
    table = records.table("evaluation_sites")
    if table is None or not len(finite(table.number("fvu"))):
        return None
    names = labels_of(table)
    return Figure(
        name="evaluation_sites", question="Is it as good at every site?", short="Sites",
        answer=_sites_answer(table),
        notes=[
            "variance unexplained, FVU, at each of the sites that are written",
            "null (grey band): random directions of the same width and k",
            "beside a cross-layer transcoder stand baselines of one layer each, with its share of"
            " features and of those that are active",
            f"bars: 95 % over {several(int(table.number('n_documents')[0]), 'held-out document')}",
            *(["the first six dictionaries are drawn, the rest is in the table"]
              if len(names) > MOST_DRAWN else []),
        ],
        method=("method-sites", "dictionaries of several sites"),
        panels=[
            Panel(draw=partial(_draw_sites, table=table, name=name), height=320,
                  label=f"Variance unexplained by site: {name}.")
            for name in names[:MOST_DRAWN]
        ],
        columns=[*words(table, "dictionary", "contender", "site"),
                 *numbers(table, "fvu", "fvu_low", "fvu_high", "rows")],
        tells=("dictionary", "contender", "site", "fvu"), wide=len(names) > 1,
    )  # fmt: skip


def _draw_sites(axes: Axes, *, table: Table, name: str) -> Marks:
    frame(axes, across="", up="variance unexplained, FVU (share)", title=name)
    mine = np.flatnonzero([label == name for label in table.text("dictionary")])
    contender, site = table.text("contender"), table.text("site")
    sites = list(dict.fromkeys(site[row] for row in mine))
    value, low, high = (table.number(f"fvu{end}") for end in ("", "_low", "_high"))
    curves = []
    for kind in CALLED:
        rows = [row for row in mine if contender[row] == kind]
        x = np.array([sites.index(site[row]) for row in rows], dtype=float)
        itself, null = kind == ITSELF, kind == RANDOM
        if null:
            axes.fill_between(x, low[rows], high[rows], color=LIGHT["null"], linewidth=0, zorder=1)
        color = LIGHT["accent" if itself else "null" if null else "dot"]
        axes.plot(x, value[rows], "o-", ms=5 if itself else 3, linewidth=1.6 if itself else 0.9,
                  color=color, zorder=4 if itself else 2)  # fmt: skip
        if itself:
            axes.vlines(x, low[rows], high[rows], color=color, linewidth=1.4, zorder=4)
        curves.append(Curve(text=CALLED[kind], x=x, y=value[rows],
                            color=LIGHT["accent" if itself else "muted"]))  # fmt: skip
    axes.set_xticks(range(len(sites)), sites, rotation=20, ha="right")
    axes.set_ylim(bottom=0)
    name_curves(axes, curves)
    at = [sites.index(site[row]) for row in mine]
    return Marks(x=np.array(at, dtype=float), y=value[mine], rows=mine)


def _sites_answer(table: Table) -> str:
    told, label, contender = [], table.text("dictionary"), table.text("contender")
    site, fvu = table.text("site"), table.number("fvu")
    for name in labels_of(table):
        rows = [i for i in range(table.rows) if label[i] == name and contender[i] == ITSELF]
        known = [i for i in rows if np.isfinite(fvu[i])]
        if not known:
            continue
        best, worst = min(known, key=lambda i: fvu[i]), max(known, key=lambda i: fvu[i])
        told.append(
            f"{name} leaves least unexplained at {site[best]}, {number(fvu[best], digits=2)}, and"
            f" most at {site[worst]}, {number(fvu[worst], digits=2)}"
        )
    return "; ".join(told) + "."
