"""Which features follow the energy? EFAS against its t, with the max-T threshold in grey."""

from functools import partial

import numpy as np

from energylens.report.axes import Axes, Label, frame, place, zero
from energylens.report.feature_table import by_strength, columns, names, peak_tokens
from energylens.report.figure import Figure, Marks, Panel
from energylens.report.palette import LIGHT
from energylens.report.records import Records, Table, finite
from energylens.results.format import interval, number, several

LEVEL = 0.05
LABELLED = 7
SIDES = (("attractor", "o"), ("repulsor", "s"))


def figure(records: Records) -> Figure | None:
    features = records.table("features")
    if features is None:
        return None
    ordered = by_strength(features)
    scored = ordered.where(np.isfinite(ordered.number("t")))
    limit = threshold(scored, records.table("layers"))
    return Figure(
        name="volcano",
        question="Which features follow the energy?",
        short="Alignment",
        answer=_answer(scored, records.unit),
        notes=_notes(ordered, scored, limit, unit=records.unit, place=records.place),
        method=("method-efas", "energy–feature alignment"),
        panels=[
            Panel(draw=partial(_draw, scored=scored, limit=limit, unit=records.unit,
                               labels=_labels(scored, peak_tokens(records.table("contexts")))),
                  height=340, label="EFAS of every scored feature against its absolute t.")
        ],
        columns=columns(ordered),
        tells=("name", "efas", "t", "p_max_t"),
    )  # fmt: skip


def threshold(scored: Table, layers: Table | None) -> float:
    """The |t| at which max-T over documents reaches .05, as the study gives it.

    Where a study gives none, it lies between the weakest feature beyond and the strongest within,
    where the p of the two says; nan if no feature is beyond.
    """
    if layers is not None and "threshold_t" in layers.columns:
        given = finite(layers.headline().number("threshold_t"))
        if len(given):
            return float(given.max())
    p = scored.number("p_documents" if "p_documents" in scored.columns else "p_max_t")
    size = np.abs(scored.number("t"))
    beyond = p <= LEVEL
    if not beyond.any():
        return float("nan")
    above = int(np.flatnonzero(beyond)[size[beyond].argmin()])
    within = ~beyond & (size < size[above])
    if not within.any():
        return float(size[above])
    below = int(np.flatnonzero(within)[size[within].argmax()])
    share = (LEVEL - p[above]) / (p[below] - p[above])
    return float(size[above] + share * (size[below] - size[above]))


def _beyond(scored: Table) -> np.ndarray:
    return np.isin(scored.text("verdict"), [side for side, _ in SIDES])


def _draw(axes: Axes, *, scored: Table, limit: float, unit: str, labels: list[Label]) -> Marks:
    efas, size = scored.number("efas"), np.abs(scored.number("t"))
    beyond = _beyond(scored)
    frame(axes, across="EFAS (correlation)", up=f"|t|, clustered by {unit}", signed="x")
    axes.grid(visible=False)
    top = max(float(size.max(initial=1.0)) * 1.08, 0.0 if np.isnan(limit) else limit * 1.15)
    reach = 1.3 * float(np.abs(efas).max(initial=0.01))
    axes.set_ylim(0, top)
    axes.set_xlim(-reach, reach)
    _null(axes, limit, top, reach)
    zero(axes, across=True)
    # What covaries, but no better than along other features' rows, is darker than what does not.
    for name, some, color in (
        ("dots-within", ~beyond & ~(size > limit), "dot"),
        ("dots-rows", ~beyond & (size > limit), "muted"),
    ):
        axes.plot(efas[some], size[some], "o", ms=3, mec="none", color=LIGHT[color], alpha=0.45,
                  gid=name, zorder=2)  # fmt: skip
    for side, marker in SIDES:
        some = np.array([verdict == side for verdict in scored.text("verdict")], dtype=bool)
        axes.plot(efas[some], size[some], marker, ms=6, mec=LIGHT["paper"], mew=0.7,
                  color=LIGHT[side], zorder=4)  # fmt: skip
    place(axes, labels, around=np.column_stack([efas, size])[beyond])
    return Marks(x=efas, y=size, rows=np.arange(scored.rows))


def _null(axes: Axes, limit: float, top: float, reach: float) -> None:
    unknown = np.isnan(limit)
    axes.axhspan(0, top if unknown else limit, color=LIGHT["null"], linewidth=0, zorder=0)
    if not unknown:
        axes.axhline(limit, color=LIGHT["muted"], linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    axes.annotate(
        "all within max-T .05" if unknown else "max-T .05", (reach, top if unknown else limit),
        xytext=(-2, -12 if unknown else 4), textcoords="offset points", ha="right", fontsize=11,
        color=LIGHT["muted"],
    )  # fmt: skip


def _labels(scored: Table, peaks: dict[tuple[str, int], str]) -> list[Label]:
    """The largest discovery, which the answer names, then the surest ones."""
    efas, size = scored.number("efas"), np.abs(scored.number("t"))
    rows = np.flatnonzero(_beyond(scored))
    if not len(rows):
        return []
    largest = rows[np.abs(efas[rows]).argmax()]
    labels = []
    for row in [largest, *rows[rows != largest]][:LABELLED]:
        one = scored.where([row])
        token = peaks.get((one.text("site")[0], int(one.number("feature")[0])), "")
        quoted = f" “{token[:14]}{'…' * (len(token) > 14)}”" if token else ""
        labels.append(Label(text=names(one)[0] + quoted, x=float(efas[row]), y=float(size[row])))
    return labels


def _answer(scored: Table, unit: str) -> str:
    if not scored.rows:
        return f"None could be scored: no feature was active often enough, in enough {unit}s."
    verdict = scored.text("verdict")
    attractors, repulsors = verdict.count("attractor"), verdict.count("repulsor")
    if not attractors + repulsors:
        return (
            f"None of {several(scored.rows, 'scored feature')} is beyond chance. The largest "
            f"{_largest(scored, np.arange(scored.rows))}."
        )
    beyond = np.flatnonzero(_beyond(scored))
    return (
        f"{attractors + repulsors:,} of {scored.rows:,} scored features: {attractors:,} attract "
        f"(●, active where they lower the energy) and {repulsors:,} repel (■). The largest "
        f"{_largest(scored, beyond)}."
    )


def _largest(scored: Table, rows: np.ndarray) -> str:
    one = scored.where([rows[np.abs(scored.number("efas")[rows]).argmax()]])
    value, low, high = (float(one.number(name)[0]) for name in ("efas", "low", "high"))
    return f"EFAS is {interval(value, low, high, signed=True)}, of {names(one)[0]}"


def _notes(features: Table, scored: Table, limit: float, *, unit: str, place: str) -> list[str]:
    sites = len(set(features.text("site")))
    documents = number(float(finite(scored.number("n_documents")).max(initial=0)))
    notes = [
        f"n = {several(scored.rows, 'feature')} of {several(sites, 'site')}, each active in up to "
        f"{documents} held-out {unit}s",
        f"{features.rows - scored.rows:,} undefined (dead, or too few active {place}s or {unit}s)",
        f"unit: {unit}",
        f"null (grey): signs flipped by {unit}, max-T over all features of all sites",
    ]
    if "p_rows" in features.columns:
        above = int((~_beyond(scored) & (np.abs(scored.number("t")) > limit)).sum())
        notes.append(
            f"second null: decoder rows dealt out among features; {above:,} grey points above the "
            "line covary with the energy, but no more than along other features' rows"
        )
    halves = finite(scored.number("replicated"))
    if len(halves):
        notes.append(f"{int(halves.sum()):,} of {len(halves):,} found in each half of the {unit}s")
    return notes
