"""Which score tells what ablation does? Every score's ranking of features beside the measured one.

Scores in order of their pooled Spearman correlation, the null first and grey. A winner is named
only if it is clear of every other score on the same resampled documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from energylens.report.axes import Axes, frame, zero
from energylens.report.figure import Column, Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table
from energylens.results.format import interval, percent, several

NAMES = {
    "efas": "|EFAS|, other text",
    "attribution_elsewhere": "attribution, other text",
    "attribution": "attribution",
    "gradient_x_activation": "gradient × activation",
    "integrated_gradients": "integrated gradients",
    "direct_logit": "direct logit attribution",
    "activation": "activation size",
    "attention_rollout": "attention rollout",
    "gradient_x_input": "gradient × input (token)",
    "random": "random numbers",
}
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("n_features", "features", False), ("n_documents", "documents", False),
    ("spearman", "Spearman ρ", True), ("low", "95 % from", True), ("high", "to", True),
    ("null_mean", "null mean", True), ("null_sd", "null sd", False), ("p", "p", False),
    ("behind", "behind the best", False), ("behind_low", "95 % from", True),
    ("behind_high", "to", True),
    ("k", "k", False), ("precision", "precision at k", False),
    ("precision_low", "95 % from", False), ("precision_high", "to", False),
    ("precision_null", "by chance", False),
    ("n_tied", "tied", False),
)  # fmt: skip
EVERY, RANDOM = "all", "random"
Z95 = 1.96


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What a panel shows: the columns of a value, its interval and its null band."""

    value: str
    low: str
    high: str
    across: str


RHO = Quantity(value="spearman", low="low", high="high", across="Spearman ρ with measured effect")
PRECISION = Quantity(
    value="precision", low="precision_low", high="precision_high",
    across="share of the measured top k found",
)  # fmt: skip


def figure(records: Records) -> Figure | None:
    contest = records.table("contest")
    if contest is None:
        return None
    every = _pooled(contest, EVERY)
    if not len(every):
        return None
    rho = contest.number("spearman")
    ranked = every[np.argsort(-np.nan_to_num(rho[every], nan=-9), kind="stable")]
    order = [contest.text("score")[row] for row in ranked]
    chance = len(_pooled(contest, RANDOM)) > 0
    panels = [
        _panel(contest, order, RHO, EVERY, title="All features"),
        _panel(contest, order, PRECISION, EVERY, title="All features, the strongest"),
    ]
    if chance:
        panels.append(_panel(contest, order, RHO, RANDOM, title="Those chosen at random"))
    return Figure(
        name="contest",
        question="Which score tells what ablation does?",
        short="Contest",
        answer=_answer(contest, ranked),
        notes=_notes(contest, every, records.table("completeness")),
        method=("method-contest", "the contest"),
        panels=panels,
        columns=_columns(contest),
        tells=("score", "site", "chosen_by", "spearman", "low", "high", "precision"),
        wide=True,
    )


def _pooled(contest: Table, chosen_by: str) -> np.ndarray:
    """Rows over all sites of the features that were chosen so."""
    return _rows(contest, chosen_by, whole=True)


def _rows(contest: Table, chosen_by: str, *, whole: bool) -> np.ndarray:
    """Rows over all sites or those of each; one site alone is the whole."""
    sites, rules = contest.text("site"), contest.text("chosen_by")
    name = "all" if "all" in sites else sites[0]
    return np.flatnonzero([
        (site == name) is whole and rule == chosen_by
        for site, rule in zip(sites, rules, strict=True)
    ])  # fmt: skip


def _columns(contest: Table) -> list[Column]:
    words = [
        Column(name="score", label="score", cells=[_name(s) for s in contest.text("score")]),
        Column(name="site", label="site", cells=contest.text("site")),
        Column(name="chosen_by", label="features chosen by", cells=contest.text("chosen_by")),
    ]
    return words + [
        Column(name=name, label=label, cells=contest.number(name), signed=signed)
        for name, label, signed in COLUMNS
    ]


def _name(score: str) -> str:
    return NAMES.get(score, score.replace("_", " "))


def _panel(
    contest: Table, order: Sequence[str], quantity: Quantity, chosen_by: str, *, title: str
) -> Panel:
    return Panel(
        draw=partial(_draw, contest=contest, order=order, quantity=quantity, chosen_by=chosen_by,
                     title=title),
        label=f"{quantity.across}, by score. {title}.",
        height=110 + 26 * len(order),
    )  # fmt: skip


def _draw(
    axes: Axes, *, contest: Table, order: Sequence[str], quantity: Quantity, chosen_by: str,
    title: str,
) -> Marks:  # fmt: skip
    frame(axes, across=quantity.across, up="", title=title, signed="x" if quantity is RHO else "")
    axes.grid(visible=False)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_yticks(range(len(order)), [_name(score) for score in order])
    score = np.array([order.index(s) if s in order else -1 for s in contest.text("score")])
    pooled = _pooled(contest, chosen_by)
    _null(axes, contest, pooled, score[pooled], quantity)
    zero(axes, across=quantity is RHO)
    value = contest.number(quantity.value)
    sites = _rows(contest, chosen_by, whole=False)
    axes.plot(value[sites], score[sites] + 0.22, "o", ms=3, color=LIGHT["dot"], mew=0, zorder=3)
    axes.hlines(score[pooled], contest.number(quantity.low)[pooled],
                contest.number(quantity.high)[pooled], color=LIGHT["accent"], linewidth=1.6,
                zorder=4)  # fmt: skip
    axes.plot(value[pooled], score[pooled], "o", ms=6.5, mec=LIGHT["paper"], mew=0.6,
              color=LIGHT["accent"], zorder=5)  # fmt: skip
    least = -0.5 if quantity is RHO else 0.0
    axes.set_xlim(min(least, axes.get_xlim()[0]), 1.04)
    rows = np.concatenate([pooled, sites])
    down = np.concatenate([score[pooled], score[sites] + 0.22])
    return Marks(x=value[rows], y=down, rows=rows)


def _null(
    axes: Axes, contest: Table, rows: np.ndarray, down: np.ndarray, quantity: Quantity
) -> None:
    """What chance gives: a band for ρ, a mark for the precision, whose mean alone is known."""
    if quantity is PRECISION:
        axes.vlines(contest.number("precision_null")[rows], down - 0.4, down + 0.4,
                    color=LIGHT["dot"], linewidth=3, alpha=0.6, zorder=1)  # fmt: skip
        return
    mean, sd = contest.number("null_mean")[rows], contest.number("null_sd")[rows]
    axes.barh(down, 2 * Z95 * sd, left=mean - Z95 * sd, height=0.8, color=LIGHT["null"], zorder=0)


def _answer(contest: Table, ranked: np.ndarray) -> str:
    """The best score, or those that are not told apart from it; and the place of EFAS."""
    rho = contest.number("spearman")
    known = [int(row) for row in ranked if np.isfinite(rho[row])]
    if not known:
        return "Undefined: too few features were ablated to rank any score."
    best, others = known[0], known[1:]
    low = contest.number("behind_low")
    near = [row for row in others if not low[row] > 0]
    shown = _interval(contest, best)
    names = contest.text("score")
    if not near:
        text = (
            f"{_upper(_name(names[best]))} ranks features best: Spearman ρ {shown}, clear of every "
            "other score on the same documents."
        )
    else:
        text = (
            f"The best scores are not told apart: {_name(names[best])} has Spearman ρ {shown}, and "
            f"{_listed([_name(names[row]) for row in near])} may do as well."
        )
    if efas := [row for row in known if names[row] == "efas" and row != best]:
        text += f" |EFAS|, measured on other text, has {_interval(contest, efas[0])}."
    return text + _among_random(contest, best) + _chance(contest, known)


def _among_random(contest: Table, best: int) -> str:
    """The best score again, on the features that no score has chosen."""
    score, rho = contest.text("score"), contest.number("spearman")
    for row in _pooled(contest, RANDOM).tolist():
        if score[row] == score[best] and np.isfinite(rho[row]):
            features = several(int(contest.number("n_features")[row]), "feature")
            return (
                f" On the {features} chosen at random, {_name(score[best])} has"
                f" {_interval(contest, row)}."
            )
    return ""


def _chance(contest: Table, known: Sequence[int]) -> str:
    """How many scores are beyond shuffled effects."""
    p, rho = contest.number("p"), contest.number("spearman")
    beyond = sum(bool(p[row] < 0.05 and rho[row] > 0) for row in known)
    return f" {beyond or 'None'} of {several(len(known), 'score')} beat effects shuffled."


def _interval(contest: Table, row: int) -> str:
    value, low, high = (float(contest.number(name)[row]) for name in ("spearman", "low", "high"))
    return interval(value, low, high)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _notes(contest: Table, every: np.ndarray, completeness: Table | None) -> list[str]:
    features = int(contest.number("n_features")[every].max(initial=0))
    documents = int(contest.number("n_documents")[every].max(initial=0))
    k = int(contest.number("k")[every].max(initial=0))
    notes = [
        f"n = {several(features, 'feature')} in windows of {several(documents, 'document')}; "
        "a third each chosen by attribution, by EFAS and at random",
        "mean over sites of the rank correlation within each; small dots: sites",
        "95 % bars: with other documents, the same features; noise in the effects lowers every ρ",
        f"grey: effects shuffled among the features of a site; precision at {k} a site",
    ]
    if completeness is not None and np.isfinite(completeness.number("error")).any():
        error = completeness.number("error")
        notes.append(
            f"integrated gradients miss {percent(float(np.nanmin(error)))} to "
            f"{percent(float(np.nanmax(error)))} of the change along their path, by site"
        )
    absent = {s: why for s, why in zip(contest.text("score"), contest.text("absent"), strict=True)
              if why}  # fmt: skip
    return notes + [f"no {_name(score)}: {why}" for score, why in absent.items()]
