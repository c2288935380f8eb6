"""What a training says in words and figures, computed from its rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from energylens.results.format import interval, number, percent
from energylens.results.record import Control, Estimate, Summary
from energylens.studies.train_dictionary import TrainDictionary
from energylens.studies.train_dictionary.material import Material

Row = Mapping[str, Any]
MANY_DEAD = 0.1
MANY_DENSE = 0.05
FIGURE_DICTIONARIES = 200


def summarise(options: TrainDictionary, material: Material, rows: Sequence[Row]) -> Summary:
    """Figures, the control, and the finding sentence."""
    best = _best(rows)
    figures: dict[str, Estimate] = {}
    for row in rows[:FIGURE_DICTIONARIES]:
        figures |= _figures(row)
    name = slug(best["label"])
    below = [row for row in rows if row["fvu_high"] < row["fvu_null"]]
    return Summary(
        study="train-dictionary",
        subject=f"{material.subject.loaded.name} · {material.text}",
        finding=_finding(best, len(rows)),
        detail=_detail(best),
        grade="quick" if best["tokens"] < 10 * best["width"] else "real",
        figures=figures,
        controls={"beyond_chance": Control(
            label="Beyond chance", value=len(below), expected=len(rows),
            passed=len(below) == len(rows),
            sentence=f"{len(below)} of {len(rows)} leave less unexplained, interval and all, than"
            " random directions of the same width and k (transcoders: than their own decoder rows"
            " dealt out).",
        )},
        cards=tuple(key for key in (f"fvu.{name}", f"l0.{name}", f"loss_recovered.{name}",
                                    f"dead_share.{name}") if key in figures),
        limits=tuple(_limits(options, rows)),
        suspicious=tuple(_suspicious(rows)),
    )  # fmt: skip


def slug(label: str) -> str:
    """A label as figures have it: lower case, other characters as underscores."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in label.lower())


def _best(rows: Sequence[Row]) -> Row:
    """The dictionary with the least FVU; of other sizes and k, so a place to begin, no verdict."""
    known = [row for row in rows if math.isfinite(row["fvu"])]
    return min(known or rows, key=lambda row: row["fvu"])


def _figures(row: Row) -> dict[str, Estimate]:
    name, n = slug(row["label"]), row["documents"]
    what = f"{row['architecture']}, {_features(row)}, k {row['k']}, seed {row['seed']}"
    found = {
        f"fvu.{name}": Estimate(
            row["fvu"], "share of variance", low=row["fvu_low"], high=row["fvu_high"],
            null_mean=row["fvu_null"], n=n, n_unit="documents",
            label=f"Variance unexplained (FVU), {_where(row)}",
            note=f"{what}; null: {_null(row)}",
        ),
        f"l0.{name}": Estimate(
            row["l0"], "active features a token", n=n, n_unit="documents",
            label=f"Active features (L0), {_where(row)}", note=what,
        ),
        f"dead_share.{name}": Estimate(
            row["dead_share"], "share of features", n=n, n_unit="documents",
            label=f"Dead on held-out text, {_where(row)}",
            note=f"{what}; of {row['held_out_tokens']:,} tokens none activates them",
        ),
    }  # fmt: skip
    if math.isfinite(row["loss_recovered"]):
        found[f"loss_recovered.{name}"] = Estimate(
            row["loss_recovered"],
            "share of the loss",
            low=row["loss_recovered_low"],
            high=row["loss_recovered_high"],
            null_mean=0.0,
            n=n,
            n_unit="documents",
            label=f"Loss recovered, {_where(row)}",
            note=f"{what}; null: the mean state in place of each",
        )
    return found


def _where(row: Row) -> str:
    """The place, or how many there are."""
    places = row["site"].count(", ") + 1
    if row["map"] == "cross-layer transcoder":
        return f"{row['map']} of {places} layers"
    if row["map"] == "crosscoder":
        return f"{row['map']} of {places} places"
    return str(row["site"]) + (f" to {row['target']}" if row["target"] else "")


def _null(row: Row) -> str:
    if row["map"] in ("autoencoder", "crosscoder"):
        return "random directions of the same width and k"
    return "its decoder rows dealt out"


def _features(row: Row) -> str:
    each = " a layer" if row["map"] == "cross-layer transcoder" else ""
    return f"{row['width']:,} features{each}"


def _finding(best: Row, count: int) -> str:
    what = f"({_where(best)}, {best['architecture']}, {_features(best)})"
    who = (
        f"The dictionary {what}" if count == 1 else f"The closest of {count:,} dictionaries {what}"
    )
    text = (
        f"{who} leaves {interval(best['fvu'], best['fvu_low'], best['fvu_high'])} of the variance"
        f" of held-out text unexplained with {number(best['l0'])} active features a token; by"
        f" chance {number(best['fvu_null'], digits=2)} would be left."
    )
    if not best["fvu_high"] < best["fvu_null"]:
        text += " That is not beyond chance."
    return text


def _detail(best: Row) -> str:
    text = f"{percent(best['dead_share'])} of its features are silent on the held-out text."
    if math.isfinite(best["loss_recovered"]):
        shown = interval(
            best["loss_recovered"], best["loss_recovered_low"], best["loss_recovered_high"]
        )
        text = f"In place of the state it recovers {shown} of the loss. " + text
    return text


def _limits(options: TrainDictionary, rows: Sequence[Row]) -> list[str]:
    told = [
        "Reconstruction says how much of a state a dictionary keeps, not that its features mean"
        " something: evaluate-dictionary and energy-lens ask that.",
        f"Judged on {rows[0]['documents']} held-out documents, {rows[0]['held_out_tokens']:,}"
        " tokens; a feature that is silent there may fire elsewhere.",
    ]
    if any(row["map"].startswith("cross") for row in rows):
        told.append(
            "Several places count each alike: FVU and L0 are means over them, and the loss is that"
            " of each changed alone; the table trained_sites has them apart."
        )
    massive = sum(row["held_out_massive"] for row in rows)
    if massive:
        told.append(f"{massive:,} held-out rows with massive activations are left out.")
    if len(rows) > FIGURE_DICTIONARIES:
        told.append(f"Of {len(rows):,} dictionaries the first {FIGURE_DICTIONARIES} have figures in"
                    " summary.json; the table has all.")  # fmt: skip
    return told


def _suspicious(rows: Sequence[Row]) -> list[str]:
    told = []
    if dead := [row for row in rows if row["dead_share"] > MANY_DEAD]:
        worst = max(dead, key=lambda row: row["dead_share"])
        told.append(
            f"{len(dead)} of {len(rows)} have more than a tenth of their features silent on"
            f" {worst['held_out_tokens']:,} held-out tokens, at most {percent(worst['dead_share'])}"
            f" ({worst['label']}): longer training or fewer features would use them."
        )
    if dense := [row for row in rows if row["dense_share"] > MANY_DENSE]:
        told.append(
            f"{len(dense)} of {len(rows)} have more than one feature in twenty active on a tenth of"
            " the tokens."
        )
    if undefined := sum(not math.isfinite(row["loss_recovered"]) for row in rows):
        told.append(
            f"Loss recovered is undefined for {undefined} of {len(rows)}: taking the site's mean"
            " costs no loss, or the model has none."
        )
    return told
