"""What the detectors are worth, in words and figures, from the tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from energylens.results.format import number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.changepoint_battery import ChangepointBattery
from energylens.studies.changepoint_battery.detectors import OURS
from energylens.studies.changepoint_battery.tables import LEAST_RECALL, MOST_FALSE

Row = Mapping[str, Any]
Rows = Sequence[Row]
NAMES = {
    OURS: "Energylens", "global_z": "the global z of the original NDT",
    "ndtracker": "the rolling z of ndtracker", "pelt": "PELT alone",
}  # fmt: skip
# Share of Gaussian increments beyond two standard deviations, and how near a simulation comes.
BEYOND_TWO, NEAR = 0.0455, 0.004
COVERAGE = 0.9


def summarise(options: ChangepointBattery, tables: Mapping[str, Rows]) -> Summary:
    """Figures, controls and the finding sentence."""
    battery, verdicts = tables["battery"], tables["battery_verdicts"]
    figures = {**_recalls(battery), **_alarms(battery), **_valid(verdicts)}
    ours = next(row for row in verdicts if row["detector"] == OURS)
    others = [row for row in verdicts if row["detector"] != OURS]
    return Summary(
        study="changepoint-battery",
        subject=f"{battery[0]['n_series']} series of {battery[0]['n_samples']} samples of each of"
        f" {len({row['case'] for row in battery})} kinds",
        finding=_finding(ours, others),
        detail=_detail(battery),
        grade="quick" if options.quick else "control",
        figures=figures,
        controls=_controls(battery, ours),
        cards=(*(f"valid.{name}" for name in NAMES),
               f"recall.{OURS}.{ours['least_recall_case']}",
               f"false_alarms_per_1000.{OURS}.{ours['most_per_1000_case']}"),
        limits=(
            "False alarms of one series come together, so their Poisson interval is too narrow"
            " where a detector marks many samples.",
            "What no detector can tell from a smooth course is not planted: a rise that takes more"
            " than a quarter of the series, or one within its first samples.",
            "Each series is a question of its own here; where many are looked at together, our"
            " detector controls false discoveries among them and is stricter.",
        ),
        suspicious=tuple(_suspicious(battery)),
    )  # fmt: skip


def _recalls(battery: Rows) -> dict[str, Estimate]:
    return {
        f"recall.{row['detector']}.{row['case']}": Estimate(
            row["recall"], "share of jumps", low=row["recall_low"], high=row["recall_high"],
            null_mean=row["recall_chance"], null_sd=0.0, n=row["n_series"], n_unit="series",
            label=f"Found by {NAMES[row['detector']]}: {_words(row['case'])}",
            note="null: as many marks, each series' turned to a random place",
        )
        for row in battery if row["kind"] == "planted"
    }  # fmt: skip


def _alarms(battery: Rows) -> dict[str, Estimate]:
    return {
        f"false_alarms_per_1000.{row['detector']}.{row['case']}": Estimate(
            row["per_1000"], "per 1,000 samples", low=row["per_1000_low"],
            high=row["per_1000_high"], null_mean=0.0, null_sd=0.0, n=row["n_series"],
            n_unit="series", undefined=row["undefined"],
            label=f"False alarms of {NAMES[row['detector']]}: {_words(row['case'])}",
            note="series without a jump; Poisson interval of the count",
        )
        for row in battery if row["kind"] == "null"
    }  # fmt: skip


def _valid(verdicts: Rows) -> dict[str, Estimate]:
    return {
        f"valid.{row['detector']}": Estimate(
            int(row["valid"]), "1 is valid", label=f"Valid: {NAMES[row['detector']]}",
            note=f"finds {percent(LEAST_RECALL)} of every kind of jump, and at most"
            f" {number(MOST_FALSE)} false alarms per 1,000 samples on every null; least found:"
            f" {percent(row['least_recall'])} of {_words(row['least_recall_case'])}; most alarms:"
            f" {number(row['most_per_1000'])} on {_words(row['most_per_1000_case'])}",
        )
        for row in verdicts
    }  # fmt: skip


def _finding(ours: Row, others: Rows) -> str:
    bad = [row for row in others if not row["valid"]]
    told = "; ".join(
        f"{NAMES[row['detector']]} {percent(row['least_recall'])} and"
        f" {number(row['most_per_1000'])}" for row in others
    )  # fmt: skip
    return (
        f"{NAMES[OURS]} is {'' if ours['valid'] else 'not '}valid: it finds"
        f" {percent(ours['least_recall'])} or more of every kind of planted jump, and raises at"
        f" most {number(ours['most_per_1000'])} false alarms per 1,000 samples on any null. Not"
        f" valid are {len(bad)} of {len(others)} others ({told})."
    )


def _detail(battery: Rows) -> str:
    mine = [row for row in battery if row["detector"] == OURS]
    quiet = [row for row in mine if row["kind"] == "null"]
    alarmed = math.fsum(row["alarmed"] * row["n_series"] for row in quiet)
    covered = _coverage(mine)
    return (
        f"Of {sum(row['n_series'] for row in quiet):,} series without a jump it marks"
        f" {percent(alarmed / sum(row['n_series'] for row in quiet))}; of the jumps it finds"
        f" {percent(covered)} lie within the interval of their date."
    )


def _coverage(rows: Rows) -> float:
    known = [row for row in rows if row["dated"]]
    total = sum(row["dated"] for row in known)
    return math.fsum(row["covered"] * row["dated"] for row in known) / total if total else math.nan


def _controls(battery: Rows, ours: Row) -> dict[str, Control]:
    rate = next(row["per_1000"] for row in battery
                if (row["detector"], row["case"]) == ("global_z", "noise")) / 1000  # fmt: skip
    covered = _coverage([row for row in battery if row["detector"] == OURS])
    return {
        "battery_passed": Control(
            label="Our detector is valid", value=bool(ours["valid"]),
            expected=f"recall ≥ {LEAST_RECALL}, at most {number(MOST_FALSE)} per 1,000",
            passed=bool(ours["valid"]),
            sentence=f"Least recall {percent(ours['least_recall'])}"
            f" ({_words(ours['least_recall_case'])}), most false alarms"
            f" {number(ours['most_per_1000'])} per 1,000"
            f" ({_words(ours['most_per_1000_case'])}).",
        ),
        "gaussian_rate": Control(
            label="Global z on noise", value=rate, expected=BEYOND_TWO,
            passed=abs(rate - BEYOND_TWO) <= NEAR,
            sentence=f"It marks {percent(rate)} of white noise; Gaussian increments are beyond two"
            f" standard deviations at {percent(BEYOND_TWO)}.",
        ),
        "dates_covered": Control(
            label="Dates", value=covered, expected=f"at least {percent(COVERAGE)}",
            passed=covered >= COVERAGE,
            sentence=f"{percent(covered)} of the jumps that are found lie within the interval of"
            " their date.",
        ),
    }  # fmt: skip


def _suspicious(battery: Rows) -> list[str]:
    undefined = sum(row["undefined"] for row in battery)
    return [f"{undefined} series could not be judged."] if undefined else []


def _words(case: str) -> str:
    return case.replace("_", " ")
