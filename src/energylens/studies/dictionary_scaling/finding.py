"""What a sweep says in words and figures, computed from its rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from energylens.results.format import interval, number, p_value
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.dictionary_scaling import DictionaryScaling

Row = Mapping[str, Any]
LEVEL = 0.05
UNITS = "dictionaries"


def summarise(
    options: DictionaryScaling,
    model: str,
    points: Sequence[Row],
    laws: Sequence[Row],
    slopes: Sequence[Row],
) -> Summary:
    """Figures, the control, and the finding sentence."""
    figures = dict(_figures(laws, slopes))
    law = _headline(laws)
    below = [row for row in points if row["fvu_high"] < row["fvu_null"]]
    name = _slug(law)
    wanted = [f"{what}.{name}" for what in ("width_exponent", "tokens_exponent", "floor", "slope")]
    return Summary(
        study="dictionary-scaling",
        subject=f"{model} · {len(points)} dictionaries ({options.architecture})",
        finding=_finding(law, _beside(law, slopes)),
        detail=_detail(law, laws, points),
        grade="quick" if _small(points) else "real",
        figures=figures,
        controls={"beyond_chance": Control(
            label="Beyond chance", value=len(below), expected=len(points),
            passed=len(below) == len(points),
            sentence=f"{len(below)} of {len(points)} dictionaries leave less unexplained, interval"
            " and all, than random directions of the same width and k.",
        )},
        cards=tuple(key for key in wanted if math.isfinite(figures[key].value)),
        limits=_limits(options),
        suspicious=tuple(_suspicious(points, laws)),
    )  # fmt: skip


def _slug(row: Row) -> str:
    site = "".join(c if c.isalnum() and c.isascii() else "_" for c in row["site"].lower())
    return f"{site}.k{row['k']}"


def _headline(laws: Sequence[Row]) -> Row:
    """The law of the largest k at the first site."""
    first = [row for row in laws if row["site"] == laws[0]["site"]]
    return max(first, key=lambda row: row["k"])


def _beside(law: Row, slopes: Sequence[Row]) -> Row:
    """The slopes at the least text, where the shuffled states are, of the same site and k."""
    mine = [row for row in slopes if (row["site"], row["k"]) == (law["site"], law["k"])]
    return min(mine, key=lambda row: row["tokens"])


def _figures(laws: Sequence[Row], slopes: Sequence[Row]) -> Iterator[tuple[str, Estimate]]:
    for law in laws:
        where, beside = f"{law['site']}, k {law['k']}", _beside(law, slopes)
        for key, label in (("width_exponent", "Exponent in width"),
                           ("tokens_exponent", "Exponent in tokens")):  # fmt: skip
            yield f"{key}.{_slug(law)}", Estimate(
                law[key], "exponent", low=law[f"{key}_low"], high=law[f"{key}_high"],
                null_mean=0.0, n=law["points"], n_unit=UNITS, label=f"{label}, {where}",
                undefined=int(not math.isfinite(law[key])),
                note=law["why"] or "of FVU above its floor; null: no trend",
            )  # fmt: skip
        yield f"floor.{_slug(law)}", Estimate(
            law["floor"], "share of variance", low=law["floor_low"], high=law["floor_high"],
            n=law["points"], n_unit=UNITS, label=f"Floor of FVU, {where}",
            undefined=int(not math.isfinite(law["floor"])),
            note=law["why"] or "what no width and no text would remove, by the law",
        )  # fmt: skip
        yield f"slope.{_slug(law)}", Estimate(
            beside["slope"], "d ln FVU / d ln width", low=beside["slope_low"],
            high=beside["slope_high"], null_mean=beside["shuffled"], n=beside["points"],
            n_unit=UNITS, undefined=int(not math.isfinite(beside["slope"])),
            label=f"Slope of FVU with width, {where}",
            note=f"at {beside['tokens']:,} tokens; null: the same on shuffled states",
        )  # fmt: skip


def _finding(law: Row, beside: Row) -> str:
    where = f"At {law['site']} with k {law['k']}"
    tokens = f"with tokens by {_exponent(law, 'tokens')}"
    if law["why"]:
        text = f"{where} no law can be fitted: {law['why']}."
    elif not math.isfinite(law["width_exponent"]):
        text = f"{where} FVU falls {tokens}, {_floor(law)}; widths do not vary."
    elif not law["width_exponent_low"] > 0:
        text = (
            f"{where} no power law in width can be told from none: its exponent is"
            f" {_exponent(law, 'width')}."
        )
    else:
        text = f"{where} FVU falls with width by an exponent of {_exponent(law, 'width')}"
        text += f" and {tokens}" if math.isfinite(law["tokens_exponent"]) else ""
        text += f", {_floor(law)}."
    if law["misfit_p"] < LEVEL:
        text += f" The law is not the whole of it: repeats agree better (p {_p(law)})."
    return text + _against(beside)


def _exponent(law: Row, axis: str) -> str:
    key = f"{axis}_exponent"
    return interval(law[key], law[f"{key}_low"], law[f"{key}_high"])


def _floor(law: Row) -> str:
    return f"above a floor of {interval(law['floor'], law['floor_low'], law['floor_high'])}"


def _p(law: Row) -> str:
    return p_value(law["misfit_p"])


def _against(beside: Row) -> str:
    if not math.isfinite(beside["slope"]):
        return ""
    text = f" In logs its slope with width is {_ends(beside, 'slope')}"
    nulls = [f"{_ends(beside, key)} for {words}" for key, words in
             (("shuffled", "shuffled states"), ("random", "random directions"))
             if math.isfinite(beside[key])]  # fmt: skip
    return f"{text}; {' and '.join(nulls)}." if nulls else f"{text}."


def _ends(row: Row, key: str) -> str:
    return interval(row[key], row[f"{key}_low"], row[f"{key}_high"], signed=True)


def _detail(law: Row, laws: Sequence[Row], points: Sequence[Row]) -> str:
    best = min(points, key=lambda row: row["fvu"])
    text = (
        f"Least is left by width {best['width']:,} and k {best['k']} on {best['tokens']:,} tokens:"
        f" {interval(best['fvu'], best['fvu_low'], best['fvu_high'])}."
    )
    if not law["why"]:
        text += f" The law explains {number(100 * law['explained'], digits=3)} % of ln FVU."
    others = [row for row in laws if row["width_exponent_low"] > 0]
    return f"{text} An exponent in width is above 0 in {len(others)} of {len(laws)} laws."


def _small(points: Sequence[Row]) -> bool:
    """Fewer than ten tokens a feature at the largest: far from what is trained in earnest."""
    return max(row["tokens"] for row in points) < 10 * max(row["width"] for row in points)


def _limits(options: DictionaryScaling) -> tuple[str, ...]:
    told = [
        "The floor is that of this law between these sizes: what much larger ones would reach, a"
        " fit of small ones cannot tell.",
        "Learning rates follow one rule for all sizes; a size that would need another one looks"
        " worse than it is.",
        "Intervals take errors of ln FVU as independent and of one size; what documents of a seed"
        " have in common is taken out before.",
    ]
    if options.epochs > 1:
        told.append(f"Tokens count once: each was learned from {options.epochs} times.")
    if not options.shuffled:
        told.append("The null on shuffled states was left out.")
    return tuple(told)


def _suspicious(points: Sequence[Row], laws: Sequence[Row]) -> list[str]:
    told = []
    if short := {row["asked_tokens"] for row in points
                 if row["tokens"] < 0.9 * row["asked_tokens"]}:  # fmt: skip
        asked = ", ".join(f"{tokens:,}" for tokens in sorted(short))
        told.append(f"The text gives fewer tokens than were asked for ({asked}): the law is in the"
                    " tokens that there were.")  # fmt: skip
    if misfit := sum(row["misfit_p"] < LEVEL for row in laws):
        told.append(
            f"In {misfit} of {len(laws)} laws the points are farther from the law than repeats are"
            " from one another (p < .05)."
        )
    if dead := sum(row["dead_share"] > 0.5 for row in points):
        told.append(f"{dead} of {len(points)} dictionaries have more than half of their features"
                    " silent on the held-out text.")  # fmt: skip
    if undefined := sum(bool(row["why"]) for row in laws):
        told.append(f"{undefined} of {len(laws)} laws are undefined.")
    return told
