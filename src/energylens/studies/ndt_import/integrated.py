"""The original's integrated report, in its schema, with conclusions computed from the counts."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from energylens.results.format import number, percent
from energylens.studies.ndt_import.comparison import Compared
from energylens.studies.ndt_import.phase_two import CHOSEN

Row = dict[str, Any]
HYPOTHESES = {
    "layer_convergence": "Layers converge from the bottom up, or from the top down",
    "transformer_specialization": "Jumps of transformers are attention heads that specialise",
    "cnn_filter_differentiation": "In CNNs filters differentiate in jumps",
    "early_initialization_escape": "Early jumps are the escape from initialisation",
    "late_capability_acquisition": "Late jumps are the acquisition of capabilities",
}


def integrated_report(
    *,
    jumps: Sequence[Row],
    runs: Sequence[Row],
    convergence: Sequence[Row],
    phase_two: Row,
    conclusions: Sequence[str],
    results: Mapping[str, str],
    date: str,
) -> Row:
    """`integrated_report.json`.

    Args:
        jumps, runs, convergence: As in the other files of the same reading.
        phase_two: Its second phase.
        conclusions: Sentences, computed.
        results: What came of each of `HYPOTHESES`.
        date: Of the analysis.
    """
    patterns = Counter(row["convergence_pattern"] for row in convergence)
    families = {family: sum(family in row["arch_name"] for row in jumps)
                for family in ("transformer", "cnn", "mlp")}  # fmt: skip
    return {
        "metadata": {
            "total_experiments": len(runs), "total_jumps": len(jumps), "analysis_date": date,
            "phase_1_complete": True,
            "phase_2_complete": all(part is not None for part in phase_two.values()),
        },
        "phase_1_findings": {
            "convergence": {
                "simultaneous": patterns["simultaneous"], "unclear": patterns["unclear"],
                "bottom_up": patterns["bottom-up"], "top_down": patterns["top-down"],
            },
            "jumps": {"total": len(jumps), "by_architecture": families},
            "critical_periods": {
                "strong_coordination": sum(bool(row["strong"]) for row in runs),
                "mean_loss_correlation": float(np.mean([row["loss_correlation"] for row in runs])),
            },
        },
        "phase_2_findings": phase_two,
        "key_conclusions": list(conclusions),
        "hypotheses_tested": {
            name: {"hypothesis": hypothesis, "result": results[name]}
            for name, hypothesis in HYPOTHESES.items()
        },
    }  # fmt: skip


def original_conclusions(
    jumps: Sequence[Row], convergence: Sequence[Row], phase_two: Row, improving: Mapping[str, float]
) -> list[str]:
    """What the original concluded, as its own definitions have it on this folder."""
    at_once = sum(all(at == 0 for at in row["stabilization_points"].values())
                  for row in convergence)  # fmt: skip
    timing, beside = phase_two["temporal_distribution"], phase_two["cnn_mlp_comparison"]
    per_run = _per_run(jumps, convergence)
    told = [
        f"All layers are quiet from the first measurement in {at_once} of {len(convergence)} runs",
        f"{timing['late']:,} of {len(jumps):,} jumps come after half of training by a phase that"
        f" is at most {number(max((row['phase'] for row in jumps), default=math.nan), digits=4)}",
        f"{percent(timing['early_percentage'] / 100, digits=3)} of the jumps come before a phase"
        " of .1",
        "Jumps a run: " + ", ".join(f"{family} {number(count)}" for family, count in per_run),
    ]
    if beside is not None:
        ratio = beside["comparison"]["jump_ratio"]
        told.append(f"{CHOSEN['cnn']} has {number(ratio)} times the jumps of {CHOSEN['mlp']}")
    if math.isfinite(improving["early"]):
        told.append(f"The loss falls around {percent(improving['early'], digits=3)} of the early"
                    " jumps of the chosen runs")  # fmt: skip
    return told


def original_results(
    jumps: Sequence[Row], convergence: Sequence[Row], phase_two: Row
) -> dict[str, str]:
    """What became of the hypotheses by the original's rules; it had no null to judge by."""
    patterns = Counter(row["convergence_pattern"] for row in convergence)
    ordered = patterns["bottom-up"] + patterns["top-down"]
    timing, chosen = phase_two["temporal_distribution"], phase_two["transformer_analysis"]
    beside = phase_two["cnn_mlp_comparison"]
    said = ", ".join(f"{name} {count}" for name, count in patterns.most_common())
    absent = "NOT TESTED - the chosen runs are not in the folder"
    layers = chosen["layer_patterns"] if chosen else {}
    return {
        "layer_convergence": f"{'SUPPORTED' if ordered > len(convergence) / 2 else 'REJECTED'} -"
        f" {said} of {len(convergence)} runs",
        "transformer_specialization": f"{layers['linear2_jumps']} of"
        f" {chosen['num_jumps_analyzed']} chosen jumps are in linear2, which is no attention"
        if chosen else absent,
        "cnn_filter_differentiation": f"{number(beside['comparison']['jump_ratio'])} times the"
        " jumps of one MLP in one CNN" if beside else absent,
        "early_initialization_escape":
            f"{percent(phase_two['early_late_comparison']['early_fraction'], digits=3)} of the"
            " jumps early",
        "late_capability_acquisition": f"{timing['late']:,} of {len(jumps):,} jumps late",
    }  # fmt: skip


def _per_run(jumps: Sequence[Row], convergence: Sequence[Row]) -> list[tuple[str, float]]:
    """Mean jumps of a run by family, the most first."""
    found = []
    for family in ("transformer", "cnn", "mlp"):
        runs = sum(family in row["arch_name"] for row in convergence)
        if runs:
            found.append((family, sum(family in row["arch_name"] for row in jumps) / runs))
    return sorted(found, key=lambda pair: -pair[1])


def hypothesis_rows(compared: Mapping[str, Compared], ordered: Compared) -> list[Row]:
    """The original's five hypotheses, each with an effect, its interval and its null.

    Args:
        compared: By quantity.
        ordered: Share of runs whose layers settle in an order.
    """
    sources = {
        "layer_convergence": ordered,
        "transformer_specialization": compared.get("linear2_share"),
        "cnn_filter_differentiation": compared.get("cnn_mlp_ratio"),
        "early_initialization_escape": compared["early_share"],
        "late_capability_acquisition": compared["late_share"],
    }
    return [
        {
            "question": name, "hypothesis": HYPOTHESES[name], "quantity": found.quantity,
            "effect": float(found.corrected), "unit": found.unit, "low": found.ends[0],
            "high": found.ends[1], "null_mean": found.null_mean, "null_sd": found.null_sd,
            "p": math.nan, "q": math.nan, "n": found.n, "n_unit": found.n_unit,
            "verdict": verdict(found),
        }
        for name, found in sources.items() if found is not None
    ]  # fmt: skip


def verdict(found: Compared) -> str:
    """`more` or `less` than the null where the interval leaves it out; else `undecided`."""
    low, high = found.ends
    if not all(math.isfinite(x) for x in (low, high, found.null_mean)):
        return "undecided"
    return "more" if low > found.null_mean else "less" if high < found.null_mean else "undecided"


def sound_results(hypotheses: Sequence[Row]) -> dict[str, str]:
    """The same rows as the sentences of `hypotheses_tested`."""
    said = {
        row["question"]: f"{row['verdict'].upper()} - {row['quantity']} {number(row['effect'])}"
        f" [{number(row['low'])}, {number(row['high'])}], null {number(row['null_mean'])},"
        f" {row['n']} {row['n_unit'] if row['n'] != 1 else 'run'}"
        for row in hypotheses
    }
    absent = "NOT TESTED - no such run is in the folder"
    return {name: said.get(name, absent) for name in HYPOTHESES}
