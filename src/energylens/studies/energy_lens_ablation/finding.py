"""What the ablation says in words and figures, computed from its rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from energylens.results.format import count, interval, number, percent
from energylens.results.record import Estimate, Summary
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.children import Outcome, controls_of
from energylens.studies.energy_lens_ablation import EnergyLensAblation
from energylens.studies.energy_lens_ablation.changes import BASE, ENERGY, LEVEL, SITE
from energylens.studies.energy_lens_ablation.outcomes import OUTCOMES

Row = dict[str, Any]
WITHIN = (ENERGY, SITE)


def summarise(
    options: EnergyLensAblation,
    runs: Sequence[Row],
    changes: Sequence[Row],
    outcomes: Sequence[Outcome],
) -> Summary:
    """Figures, controls and the finding sentence."""
    figures = _base(runs) | _changes(changes) | _counts(changes)
    return Summary(
        study="energy-lens-ablation",
        subject=outcomes[0].summary.subject,
        finding=_finding(options, figures, changes),
        detail=_detail(figures, changes),
        grade="quick" if any(o.summary.grade != "real" for o in outcomes) else "real",
        figures=figures,
        controls=controls_of(outcomes),
        cards=_cards(figures, changes),
        limits=_limits(options, changes),
        suspicious=tuple(_suspicious(runs, changes, outcomes)),
    )


def _base(runs: Sequence[Row]) -> dict[str, Estimate]:
    """Each outcome at the base point: mean over the seeds, with the wider of two intervals: that of
    the seeds, and the mean one of a run (a few small counts are often equal by luck)."""
    figures = {}
    for name, (label, unit) in OUTCOMES.items():
        rows = [row for row in runs if row["factor"] == BASE and row["outcome"] == name]
        values = torch.tensor([[row["value"]] for row in rows], dtype=torch.float64)
        mean = cluster_mean_interval(values)
        nulls = [row["null_mean"] for row in rows]
        within = [math.fsum(row[end] for row in rows) / len(rows) for end in ("low", "high")]
        figures[f"{name}.base"] = Estimate(
            float(mean.estimate), unit, low=min(float(mean.low), within[0]),
            high=max(float(mean.high), within[1]), null_mean=math.fsum(nulls) / len(nulls),
            null_sd=math.fsum(row["null_sd"] for row in rows) / len(rows),
            n=len(rows), n_unit="seeds", label=f"{label[0].upper()}{label[1:]}, base point",
            note="mean over the seeds; interval: the wider of seeds and a run; null: that of a run",
        )  # fmt: skip
    return figures


def _changes(changes: Sequence[Row]) -> dict[str, Estimate]:
    return {
        figure_name(row): Estimate(
            row["change"], row["unit"], low=row["low"], high=row["high"], null_mean=0.0,
            null_sd=row["spread"], p=row["p"], q=row["q"], n=row["n_seeds"], n_unit="seeds",
            label=f"{row['label'][0].upper()}{row['label'][1:]}: change with {_named(row)}",
            note="null: the spread between seeds",
        )
        for row in changes
    }  # fmt: skip


def figure_name(row: Row) -> str:
    """As in `change.fvu.width_128`."""
    level = "".join(c if c.isalnum() else "_" for c in row["level"].lower())
    return f"change.{row['outcome']}.{row['factor']}_{level}"


def _named(row: Row) -> str:
    return f"{row['factor'].replace('_', ' ')} {row['level']}"


def _counts(changes: Sequence[Row]) -> dict[str, Estimate]:
    """Changes of options that exceed the spread between seeds; chance gives one in twenty."""
    tested = [row for row in changes if row["factor"] not in WITHIN and math.isfinite(row["p"])]
    asked = sum(row["factor"] not in WITHIN for row in changes)
    null = LEVEL * len(tested)
    return {
        f"{name}.options": Estimate(
            sum(row[mark] <= LEVEL for row in tested), f"of {len(tested):,} changes",
            null_mean=null if mark == "p" else LEVEL,
            null_sd=math.sqrt(null * (1 - LEVEL)) if mark == "p" else math.sqrt(LEVEL),
            n=len({row["level"] + row["factor"] for row in tested}), n_unit="changed options",
            undefined=asked - len(tested), label=label, note=note,
        )
        for name, mark, label, note in (
            ("changes_exceeding", "p", "Changes beyond the spread between seeds",
             "p < .05 one by one; null: what chance gives"),
            ("changes_discovered", "q", "Changes beyond it as a family",
             "q ≤ .05 after Benjamini–Hochberg over all changes"),
        )
    }  # fmt: skip


def _strongest(changes: Sequence[Row]) -> list[Row]:
    """Changes of options that exceed the spread, the surest first."""
    found = [row for row in changes if row["exceeds"] and row["factor"] not in WITHIN]
    return sorted(found, key=lambda row: row["p"])


def _cards(figures: Mapping[str, Estimate], changes: Sequence[Row]) -> tuple[str, ...]:
    first = ["changes_exceeding.options", "beyond_share.base", "largest_efas.base", "fvu.base"]
    return (*first, *(figure_name(row) for row in _strongest(changes)[:2]))


def _finding(
    options: EnergyLensAblation, figures: Mapping[str, Estimate], changes: Sequence[Row]
) -> str:
    exceeding = figures["changes_exceeding.options"]
    tested = int(exceeding.unit.split()[1].replace(",", ""))
    verb = "exceed" if exceeding.value != 1 else "exceeds"
    text = (
        f"{count(int(exceeding.value), tested)} changes {verb} the spread between {options.repeats}"
        f" seeds (chance: {number(exceeding.null_mean, digits=2)})"
    )
    about = [row for row in _strongest(changes) if row["outcome"] in ("beyond", "beyond_share")]
    if about:
        told = ", ".join(dict.fromkeys(_named(row) for row in about))
        return f"{text}. How many features are beyond chance changes with {told}."
    return f"{text}. None changes how many features are beyond chance."


def _detail(figures: Mapping[str, Estimate], changes: Sequence[Row]) -> str:
    base = figures["beyond_share.base"]
    share = " to ".join(percent(max(0.0, x)) for x in (base.low, base.high))
    text = (
        f"At the base point {percent(base.value)} of the scored features are beyond chance"
        f" (95 %: {share})."
    )
    strongest = _strongest(changes)[:3]
    for row in strongest:
        size = interval(row["change"], row["low"], row["high"], signed=True)
        text += f" With {_named(row)}, {row['label']}: {size}."
    return text if strongest else f"{text} No single change stands out."


def _limits(options: EnergyLensAblation, changes: Sequence[Row]) -> tuple[str, ...]:
    return (
        f"The spread is that of {options.repeats} seeds: an interval of {options.repeats - 1}"
        " degrees of freedom is wide, and what does not exceed it may still be there.",
        "One choice is changed at a time: what two changes do together is not seen.",
        "A seed chooses documents, trains dictionaries and draws nulls: the spread between seeds"
        " holds all three. A changed run has the first seed, so it shares its documents with one of"
        " the runs it is compared with, which makes the comparison cautious.",
        "Energies and sites are compared within the runs of the base point, seed by seed; those"
        " read through a raw lens are scored on fewer places, so they find less.",
        "Means over sites of FVU and loss recovered have no interval over sites.",
    )  # fmt: skip


def _suspicious(
    runs: Sequence[Row], changes: Sequence[Row], outcomes: Sequence[Outcome]
) -> list[str]:
    odd = [
        f"{label}: the same in every run of the base point, so no change of it can be judged."
        for name, (label, _) in OUTCOMES.items()
        if len({row["value"] for row in runs if row["outcome"] == name and row["factor"] == BASE})
        == 1
    ]
    undefined = sum(not math.isfinite(row["p"]) for row in changes)
    if undefined:
        odd.append(f"{undefined} of {len(changes)} changes are undefined.")
    said: dict[str, list[str]] = {}
    for outcome in outcomes:
        for sentence in outcome.summary.suspicious:
            said.setdefault(sentence, []).append(outcome.name)
    return odd + [f"{sentence} ({', '.join(names)})" for sentence, names in said.items()]
