"""Rows over networks: the network is the unit, and every share has its interval over them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from energylens.stats.rates import wilson_interval
from energylens.stats.robust import cluster_mean_interval
from energylens.studies.planted_energies.networks import Subject

Row = dict[str, Any]
Rows = Sequence[Row]
_NUMBERS = ("planted", "minima", "own_minima", "shared_minima", "basins", "basins_planted",
            "reached", "converged", "at_fixed", "as_own", "cosine_other")  # fmt: skip
_RECOVERED = ("recovered", "recovered_random", "recovered_other")
_OVERLAPS = ("overlap", "overlap_random", "overlap_other")
NULLS = ("signs", "rows", "both")
VERDICTS = ("attractors", "repulsors")


def named(subject: Subject) -> Row:
    return {"subject": subject.name, "size": subject.size, "dial": subject.dial,
            "setting": float(subject.setting)}  # fmt: skip


def minima_row(subject: Subject, networks: Rows) -> Row:
    """What holds of the networks of one setting, over all noises."""
    found = {name: _mean(networks, name) for name in _NUMBERS}
    all_found = sum(row["own_minima"] == row["reached"] == row["planted"] for row in networks)
    share = wilson_interval(torch.tensor(all_found), torch.tensor(len(networks)))
    return {
        **named(subject), "n_networks": len(networks), **found,
        **_ends(networks, "basins"), **_ends(networks, "cosine_other"),
        "cosine": min(row["cosine"] for row in networks),
        "off_fixed": max(row["off_fixed"] for row in networks),
        "rise": max(row["rise"] for row in networks),
        "unsettled": sum(row["unsettled"] for row in networks),
        "complete": all_found, "complete_share": float(share.estimate),
        "complete_low": float(share.low), "complete_high": float(share.high),
    }  # fmt: skip


def recovery_rows(subject: Subject, noises: Rows) -> Iterator[Row]:
    """Shares of starts that come back, by noise, beside both nulls."""
    for noise, rows in _grouped(noises, "noise"):
        row = {**named(subject), "noise": noise, "n_networks": len(rows),
               "n_starts": sum(row["n_starts"] for row in rows)}  # fmt: skip
        for name in _RECOVERED:
            row |= {name: _mean(rows, name), **_ends(rows, name, within=(0, 1))}
        yield row | {name: _mean(rows, name) for name in _OVERLAPS}


def path_table(subject: Subject, noise: float, looks: Rows) -> Iterator[Row]:
    """Energy left, by route and look."""
    for route, each in _grouped(looks, "route"):
        for look, rows in _grouped(each, "look"):
            yield {**named(subject), "noise": noise, "route": route, "look": look,
                   "left": _mean(rows, "left"), **_ends(rows, "left", as_name=""),
                   "n_networks": len(rows)}  # fmt: skip


def force_table(subject: Subject, forces: Rows) -> Iterator[Row]:
    """EFAS by analysis and kind of feature, with the shares beyond each null."""
    for analysis, each in _grouped(forces, "analysis"):
        for kind, rows in _grouped(each, "kind"):
            families = int(sum(row["any_both"] for row in rows))
            wrong = wilson_interval(torch.tensor(families), torch.tensor(len(rows)))
            row = {
                **named(subject), "analysis": analysis, "kind": kind, "n_networks": len(rows),
                "features": sum(row["features"] for row in rows),
                "undefined": sum(row["undefined"] for row in rows),
                "efas": _mean(rows, "efas"), **_ends(rows, "efas", as_name=""),
                "null_sd": _mean(rows, "null_sd"),
                "any_both": families, "any_low": float(wrong.low), "any_high": float(wrong.high),
                "closed_form_error": max(row["closed_form_error"] for row in rows),
            }  # fmt: skip
            for verdict in VERDICTS:
                for null in NULLS:
                    name = f"{verdict}_{null}"
                    row |= {name: _mean(rows, name)}
                row |= _ends(rows, f"{verdict}_both", within=(0, 1))
            yield row


def _grouped(rows: Rows, column: str) -> Iterator[tuple[Any, list[Row]]]:
    for value in dict.fromkeys(row[column] for row in rows):
        yield value, [row for row in rows if row[column] == value]


def _mean(rows: Rows, name: str) -> float:
    return float(torch.tensor([float(row[name]) for row in rows], dtype=torch.float64).mean())


def _ends(
    rows: Rows, name: str, *, as_name: str | None = None, within: tuple[int, int] | None = None
) -> Row:
    """Ends of Student's interval over networks; of a share, no further than a share can be."""
    found = cluster_mean_interval(
        torch.tensor([[float(row[name])] for row in rows], dtype=torch.float64)
    )
    low, high = float(found.low), float(found.high)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    prefix = f"{name}_" if as_name is None else as_name
    return {f"{prefix}low": low, f"{prefix}high": high}
