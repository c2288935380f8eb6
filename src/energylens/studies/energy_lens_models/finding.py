"""What the comparison of models says in words and figures, computed from its tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from energylens.results.compare import difference
from energylens.results.format import interval, number, p_value, percent
from energylens.results.record import Estimate, Summary
from energylens.stats.jackknife import slope_of_estimates
from energylens.stats.rates import wilson_interval
from energylens.studies.children import Outcome, controls_of
from energylens.studies.energy_lens_models import EnergyLensModels
from energylens.studies.energy_lens_models.subjects import RANDOM_WEIGHTS, TRAINED

Row = dict[str, Any]
Rows = Mapping[str, Sequence[Row]]
LEVEL = 0.05


def summarise(
    options: EnergyLensModels,
    rows: Rows,
    outcomes: Sequence[Outcome],
    *,
    missing: str,
    passages: int,
) -> Summary:
    """Figures, controls and the finding sentence."""
    figures = (
        _shares(rows["models"]) | _sizes(rows["models_depth"]) | _pairs(rows["models_matching"])
    )
    names = [row["model"] for row in rows["models"] if row["weights"] == TRAINED]
    text = outcomes[0].summary.subject.split(" · ")[-1]
    return Summary(
        study="energy-lens-models",
        subject=f"{', '.join(names)} · {text}",
        finding=_finding(rows, figures),
        detail=_detail(rows, figures) + (f" {missing}" if missing else ""),
        grade="quick" if any(o.summary.grade != "real" for o in outcomes) else "real",
        figures=figures,
        controls=controls_of(outcomes),
        cards=_cards(figures),
        limits=_limits(options, rows, missing, passages),
        suspicious=tuple(_suspicious(rows, outcomes)),
    )


def slug(words: str) -> str:
    """A model's name as figures have it: lower case, other characters as underscores."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in words.lower())


def _share(row: Row) -> Estimate:
    rate = wilson_interval(torch.tensor(row["beyond"]), torch.tensor(row["scored"]))
    return Estimate(
        float(rate.estimate), "share of scored features", low=float(rate.low),
        high=float(rate.high), n=row["n_documents"], n_unit="documents",
    )  # fmt: skip


def _shares(models: Sequence[Row]) -> dict[str, Estimate]:
    """Share of features beyond chance of each model beside its random-weight control."""
    figures = {}
    for row in (row for row in models if row["weights"] == TRAINED):
        control = next(r for r in models if r["weights"] == RANDOM_WEIGHTS
                       and r["model"] == row["model"])  # fmt: skip
        mine, null = _share(row), _share(control)
        sd = (null.high - null.low) / (2 * 1.96)
        name = slug(row["run"])
        figures[f"beyond_share.{name}"] = Estimate(
            mine.value, mine.unit, low=mine.low, high=mine.high, null_mean=null.value,
            null_sd=sd, n=mine.n, n_unit=mine.n_unit, undefined=0,
            label=f"Features beyond chance, {row['model']}",
            note=f"{row['beyond']:,} of {row['scored']:,}; null: the same with random weights",
        )  # fmt: skip
        gap = difference(name, null, mine)
        figures[f"beyond_share_gained.{name}"] = Estimate(
            gap.value, "share of scored features", low=gap.low, high=gap.high, null_mean=0.0,
            null_sd=sd, n=mine.n, n_unit=mine.n_unit,
            label=f"More features beyond chance than with random weights, {row['model']}",
            note="features are not independent: the interval is narrow",
        )  # fmt: skip
    return figures


def _sizes(depth: Sequence[Row]) -> dict[str, Estimate]:
    """Median |EFAS| beyond flipped signs: by model, by depth, and by size."""
    figures = {}
    points: list[tuple[float, float, float]] = []
    for run in dict.fromkeys(row["run"] for row in depth if row["weights"] == TRAINED):
        rows = [row for row in depth if row["run"] == run and math.isfinite(_nan(row["efas_50"]))]
        if not rows:
            continue
        values = [row["efas_50"] for row in rows]
        # Sites share their documents: errors are added as if they moved together.
        error = math.fsum(row["efas_50_error"] for row in rows) / len(rows)
        mean, null = _mean(values), _mean([row["efas_50_null_mean"] for row in rows])
        figures[f"efas_median.{slug(run)}"] = Estimate(
            mean, "correlation", low=mean - 1.96 * error, high=mean + 1.96 * error, null_mean=null,
            null_sd=_mean([row["efas_50_null_sd"] for row in rows]),
            n=rows[0]["n_documents"], n_unit="documents",
            label=f"Median |EFAS|, {rows[0]['model']}",
            note="mean over sites; null: signs flipped by document",
        )  # fmt: skip
        points.append((math.log10(rows[0]["parameters"]), mean - null, error))
        if len(rows) > 1:
            figures[f"efas_slope.depth.{slug(run)}"] = _slope(
                [(row["relative_depth"], row["efas_50"] - row["efas_50_null_mean"],
                  row["efas_50_error"]) for row in rows],
                "correlation per whole depth", f"Median |EFAS| from first to last block,"
                f" {rows[0]['model']}", rows[0]["n_documents"],
            )  # fmt: skip
    if len({point[0] for point in points}) > 1:
        figures["efas_slope.size"] = _slope(
            points, "correlation per tenfold size",
            f"Median |EFAS| with size, over {len(points)} models", len(points), unit="models",
        )  # fmt: skip
    return figures


def _slope(
    points: Sequence[tuple[float, float, float]],
    of: str,
    label: str,
    n: int,
    *,
    unit: str = "documents",
) -> Estimate:
    x, y, error = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True)
    )
    found = slope_of_estimates(x, y, error)
    half = float(found.high - found.low) / 2
    return Estimate(
        float(found.estimate), of, low=float(found.low), high=float(found.high), null_mean=0.0,
        null_sd=half / 1.96, n=n, n_unit=unit, label=label,
        note="over what flipped signs give; errors over documents",
    )  # fmt: skip


_PAIRED = {
    "correlation": ("match_correlation", "correlation", "Correlation with the partner"),
    "efas_rank_correlation": ("match_efas", "rank correlation", "EFAS of partners"),
    "same_sign": ("match_same_sign", "share of features", "Partners with EFAS of one sign"),
}  # fmt: skip


def _pairs(matching: Sequence[Row]) -> dict[str, Estimate]:
    """Each pair of models: mean over their sites, beside documents dealt out anew."""
    figures = {}
    for key in dict.fromkeys((row["model"], row["other"], row["weights"]) for row in matching):
        rows = [row for row in matching if (row["model"], row["other"], row["weights"]) == key]
        pair = f"{slug(key[0])}_{slug(key[1])}"
        contender = "trained" if key[2] == TRAINED else "random_weights"
        for column, (name, unit, label) in _PAIRED.items():
            low, high = (
                _mean([row[end] for row in rows]) if column == "correlation" else math.nan
                for end in ("low", "high")
            )
            figures[f"{name}.{contender}.{pair}"] = Estimate(
                _mean([row[column] for row in rows]), unit, low=low,
                high=high,
                null_mean=_mean([row[f"{column}_dealt_mean"] for row in rows]),
                null_sd=_mean([row[f"{column}_dealt_sd"] for row in rows]),
                # The largest over the sites: each must beat its null by itself.
                p=max(_nan(row[f"{column}_dealt_p"]) for row in rows),
                n=rows[0]["n_documents"], n_unit="documents",
                label=f"{label}, {key[0]} and {key[1]}"
                + ("" if key[2] == TRAINED else ", random weights"),
                note="mean over sites, p the largest; null: documents dealt out anew",
            )  # fmt: skip
    return figures


def _cards(figures: Mapping[str, Estimate]) -> tuple[str, ...]:
    wanted = {
        "beyond_share.": 2, "match_correlation.trained": 2, "match_efas.trained": 1,
        "efas_slope.size": 1,
    }  # fmt: skip
    return tuple(
        name for start, most in wanted.items()
        for name in [n for n in figures if n.startswith(start)][:most]
    )  # fmt: skip


def _finding(rows: Rows, figures: Mapping[str, Estimate]) -> str:
    trained = [row for row in rows["models"] if row["weights"] == TRAINED]
    found = [row["model"] for row in trained
             if figures[f"beyond_share_gained.{slug(row['run'])}"].low > 0]  # fmt: skip
    text = (
        f"{_some(len(found), len(trained))} models {'have' if len(found) > 1 else 'has'} more"
        f" features beyond chance than with random weights{_listed(found)}."
    )
    pairs = [row for row in rows["models_matching"] if row["weights"] == TRAINED]
    if not pairs:
        return text + " No two models had enough features in common text to match."
    real = _mean([row["correlation"] for row in pairs])
    dealt, turned = (_mean([row[f"correlation_{null}_mean"] for row in pairs])
                     for null in ("dealt", "turned"))  # fmt: skip
    text += (
        f" A feature and its partner in another model correlate {number(real, digits=2)} on text"
        f" that did not choose them; with documents dealt out anew, {number(dealt, digits=2)},"
        f" with segments turned within documents, {number(turned, digits=2)}"
    )
    empty = [row for row in rows["models_matching"] if row["weights"] == RANDOM_WEIGHTS]
    if empty:
        text += (f"; between random-weight models,"
                 f" {number(_mean([row['correlation'] for row in empty]), digits=2)}")  # fmt: skip
    return text + "."


def _detail(rows: Rows, figures: Mapping[str, Estimate]) -> str:
    pairs = [row for row in rows["models_matching"] if row["weights"] == TRAINED]
    told = []
    if pairs:
        rank = _mean([row["efas_rank_correlation"] for row in pairs])
        sure = sum(_nan(row["efas_rank_correlation_dealt_p"]) < LEVEL for row in pairs)
        told.append(
            f"EFAS of partners agree in rank {number(rank, digits=2)} on average, beyond chance at"
            f" {sure} of {len(pairs)} pairs of sites."
        )
    if slope := figures.get("efas_slope.size"):
        size = interval(slope.value, slope.low, slope.high, signed=True)
        told.append(f"Median |EFAS| changes by {size} per tenfold size.")
    told += [
        f"{row['model']}: {percent(row['beyond'] / row['scored'])} of {row['scored']:,} beyond"
        f" chance." for row in rows["models"] if row["weights"] == TRAINED and row["scored"]
    ]  # fmt: skip
    return " ".join(told)


def _limits(options: EnergyLensModels, rows: Rows, missing: str, passages: int) -> tuple[str, ...]:
    count = sum(row["weights"] == TRAINED for row in rows["models"])
    limits = [
        f"{count} models are {count} points: a slope with size tells of these models on this text,"
        " and its interval holds documents alone.",
        f"Features are compared by their mean activation over {options.segment} characters of"
        f" {passages} passages: two features that differ within such a stretch look alike.",
        "EFAS of two models is estimated on text that is partly the same, so that partners may"
        " share some of its noise.",
        "A feature has one partner, and a partner may have several features.",
        "The intervals of matched correlations take the partners as chosen.",
    ]
    return (*limits, *([missing] if missing else []))


def _suspicious(rows: Rows, outcomes: Sequence[Outcome]) -> list[str]:
    odd = [
        f"{row['model']} ({row['weights']}): only {row['scored']} features have enough evidence."
        for row in rows["models"] if row["scored"] < 30
    ]  # fmt: skip
    odd += [
        f"{row['model']} and {row['other']} ({row['weights']}), {row['site']}: partners do not"
        f" correlate beyond documents dealt out (p {p_value(row['correlation_dealt_p'])})."
        for row in rows["models_matching"] if not _nan(row["correlation_dealt_p"]) < LEVEL
    ]  # fmt: skip
    return odd + [f"{o.name}: {sentence}" for o in outcomes for sentence in o.summary.suspicious]


def _some(found: int, count: int) -> str:
    return {0: f"None of {count}", count: f"All {count}"}.get(found, f"{found} of {count}")


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _nan(value: float | int | None) -> float:
    return math.nan if value is None else float(value)


def _mean(values: Sequence[float | int | None]) -> float:
    known = [_nan(value) for value in values]
    return math.fsum(known) / len(known) if known else math.nan
