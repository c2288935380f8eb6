"""What a conversion kept and what it did not, in words and figures, from the tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from energylens.features.agreement import Agreement
from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import Dictionary
from energylens.results.format import number, percent
from energylens.results.record import Control, Estimate, Summary

Row = dict[str, Any]
Plain = Dictionary | CrossLayerTranscoder
Tables = Mapping[str, Sequence[Row]]
# A fold of b_dec rounds twice where the source rounds once, and a sum of the other order once more.
ROUNDINGS = 8
# The least that a wrong file has to differ by, in roundings, for the comparison to be one.
SEEN = 1_000


def summarise(
    to: str, source: Mapping[str, Any], dictionary: Plain, found: Agreement, tables: Tables
) -> Summary:
    """Figures, controls and the finding sentence."""
    tensors, settings = tables["conversion_tensors"], tables["conversion_settings"]
    limits = list(_limits(to, source, dictionary, found, settings))
    return Summary(
        study="convert",
        subject=f"{source['name']} of {source['format']} as {to}",
        finding=_finding(to, dictionary, found, tensors),
        detail=f"The dictionary is in the folder dictionary of the run. {_told(limits)}",
        grade="control",
        figures=_figures(dictionary, found, tensors),
        controls=_controls(found),
        cards=("difference",),
        limits=tuple(limits),
        suspicious=tuple(_suspicious(dictionary, found)),
    )


def held(found: Agreement) -> bool:
    """Whether two dictionaries do the same, as far as their type of numbers can tell."""
    return found.identical or found.difference <= ROUNDINGS * found.rounding


def _finding(to: str, dictionary: Plain, found: Agreement, tensors: Sequence[Row]) -> str:
    same = sum(row["state"] == "same bits" for row in tensors)
    read = f"Read back from the files of {to}, the {dictionary.architecture} dictionary"
    if not held(found):
        return (
            f"{read} is not the same: a reconstruction differs by {number(found.difference)} of its"
            f" length, where rounding makes {number(found.rounding)}."
        )
    how = (
        "gives every activation and reconstruction to the bit"
        if found.identical
        else f"gives every reconstruction to {number(found.difference)} of its length (rounding"
        f" alone: {number(found.rounding)})"
    )
    return (
        f"{read} {how}, on {found.rows:,} random rows; {same} of {len(tensors)} tensors have the"
        " same bits."
    )


def _told(limits: Sequence[str]) -> str:
    return limits[0] if limits else "Nothing of it was lost."


def _figures(dictionary: Plain, found: Agreement, tensors: Sequence[Row]) -> dict[str, Estimate]:
    told = replace(
        Estimate(math.nan, "of its length", null_mean=found.dealt_out),
        n=found.rows - found.silent, n_unit="rows", undefined=found.silent,
    )  # fmt: skip
    return {
        "difference": replace(
            told, value=found.difference, label="Largest difference of a reconstruction",
            note="null: the source with its decoder rows dealt out, as a wrong file would do",
        ),
        "rounding": replace(
            told, value=found.rounding, label="The same of the source from itself in float64",
            note="what its own type of numbers costs",
        ),
        "activation": Estimate(
            found.activations, "of the largest", label="Largest difference of an activation",
            n=found.rows, n_unit="rows",
        ),
        "fired": Estimate(
            found.fired, "features", n=dictionary.width, n_unit="features",
            label="Features that fire on some row",
        ),
        "same_bits": Estimate(
            sum(row["state"] == "same bits" for row in tensors), "tensors", n=len(tensors),
            n_unit="tensors", label="Tensors read back to the bit",
        ),
    }  # fmt: skip


def _controls(found: Agreement) -> dict[str, Control]:
    same, bound = held(found), ROUNDINGS * found.rounding
    seen = found.dealt_out > SEEN * max(found.rounding, math.ulp(1.0))
    return {
        "round_trip": Control(
            label="The files hold the same dictionary", value=found.difference,
            expected=f"at most {number(bound)}", passed=same,
            sentence=f"Read back, a reconstruction differs by {number(found.difference)} of its"
            f" length at most; {ROUNDINGS} times rounding is {number(bound)}.",
        ),
        "wrong_file": Control(
            label="A wrong file would be seen", value=found.dealt_out,
            expected=f"over {SEEN:,} times rounding", passed=seen,
            sentence="With its decoder rows dealt out among the features the source differs from"
            f" itself by {number(found.dealt_out)} of a reconstruction's length.",
        ),
    }  # fmt: skip


def _limits(
    to: str,
    source: Mapping[str, Any],
    dictionary: Plain,
    found: Agreement,
    settings: Sequence[Row],
) -> list[str]:
    """What the files cannot hold, and what was not read; one sentence each."""
    rows = {row["setting"]: row for row in settings}
    told = []
    lost = [row for row in settings if row["setting"].startswith("metadata.")
            and row["state"] == "not held"]  # fmt: skip
    if lost:
        named = ", ".join(f"{row['setting'].partition('.')[2]} ({row['source']})" for row in lost)
        told.append(f"{to} has no place for some metadata, which is not in the files: {named}.")
    if rows["architecture"]["state"] != "same":
        told.append(
            f"{to} has no {rows['architecture']['source']}, which is written as a"
            f" {rows['architecture']['written']} with the same activations."
        )
    if rows["k"]["state"] != "same":
        told.append(
            f"{to} has no place for k = {rows['k']['source']}: read back it is"
            f" {rows['k']['written']}, which nothing depends on."
        )
    if rows.get("subtracts_b_dec", {"state": "same"})["state"] != "same":
        told.append(
            f"{to} subtracts no b_dec from such a dictionary's input: it is folded into b_enc."
        )
    changed = [row for row in settings if row["setting"].startswith("metadata.")
               and row["state"] == "changed"]  # fmt: skip
    told += [
        f"{row['setting'].partition('.')[2]} was {row['source']} and is read back as"
        f" {row['written']}." for row in changed
    ]  # fmt: skip
    if source["not_read"]:
        told.append(
            f"Beside the dictionary lay {', '.join(source['not_read'][:8])}, which was not read."
        )
    if found.fired < dictionary.width:
        told.append(
            f"Of the features {percent(found.fired / dictionary.width)} fired on the random rows;"
            " the others are compared by their tensors alone."
        )
    return told


def _suspicious(dictionary: Plain, found: Agreement) -> list[str]:
    told = []
    if found.fired == 0:
        told.append("No feature fired on any row: the reconstructions compare b_dec alone.")
    if math.isnan(found.difference) and not found.identical:
        told.append("No row gave a reconstruction other than b_dec: no difference is defined.")
    return told
