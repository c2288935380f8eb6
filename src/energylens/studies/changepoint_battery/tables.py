"""From what every detector made of every kind of series to verdicts and curves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
# A detector is valid that finds so much of each kind, and is so seldom wrong on each null.
LEAST_RECALL, MOST_FALSE = 0.75, 2.0


def verdict_rows(battery: Rows) -> Iterator[Row]:
    """The worst case of each detector on either side, and whether it passes both bars."""
    for name in dict.fromkeys(row["detector"] for row in battery):
        mine = [row for row in battery if row["detector"] == name]
        found = [row for row in mine if row["kind"] == "planted"]
        quiet = [row for row in mine if row["kind"] == "null"]
        missed = min(found, key=lambda row: row["recall"])
        loud = max(quiet, key=lambda row: row["per_1000"])
        yield {
            "detector": name,
            "least_recall": missed["recall"], "least_recall_case": missed["case"],
            "mean_recall": _mean(found, "recall"),
            "most_per_1000": loud["per_1000"], "most_per_1000_case": loud["case"],
            "mean_per_1000": _mean(quiet, "per_1000"),
            "planted_per_1000": _mean(found, "per_1000"),
            "valid": missed["recall"] >= LEAST_RECALL and loud["per_1000"] <= MOST_FALSE,
        }  # fmt: skip


def roc_rows(looks: Rows) -> Iterator[Row]:
    """Over kinds: mean recall of planted jumps, mean and largest rate of false alarms on nulls."""
    for name, threshold in dict.fromkeys((row["detector"], row["threshold"]) for row in looks):
        mine = [row for row in looks if (row["detector"], row["threshold"]) == (name, threshold)]
        recalls = [row["found"] / row["n_jumps"] for row in mine if row["kind"] == "planted"]
        rates = [1000 * row["false_alarms"] / row["n_samples"]
                 for row in mine if row["kind"] == "null"]  # fmt: skip
        yield {
            "detector": name, "threshold": threshold, "unit": mine[0]["unit"],
            "recall": math.fsum(recalls) / len(recalls), "recall_least": min(recalls),
            "per_1000": math.fsum(rates) / len(rates), "per_1000_most": max(rates),
        }  # fmt: skip


def _mean(rows: Rows, name: str) -> float:
    return math.fsum(row[name] for row in rows) / len(rows)
