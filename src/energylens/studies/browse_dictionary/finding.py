"""What a browsed dictionary comes to in words and figures, computed from its tables."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from energylens.results.format import number, percent
from energylens.results.record import Control, Estimate, Grade, Summary
from energylens.stats.rates import wilson_interval
from energylens.studies.browse_dictionary import BrowseDictionary
from energylens.studies.browse_dictionary.material import Material
from energylens.studies.browse_dictionary.measures import NULL_QUANTILE

QUICK_DOCUMENTS = 100
DENSE, ALIKE, MOSTLY_DEAD = 0.5, 0.98, 0.5
Row = Mapping[str, Any]


def summarise(
    material: Material, options: BrowseDictionary, whole: Row, tables: Mapping[str, pa.Table]
) -> Summary:
    """Figures, controls and the finding sentence."""
    features = tables["browse_features"]
    figures = _figures(whole, features)
    return Summary(
        study="browse-dictionary",
        subject=f"{material.subject.loaded.name} · {_where(whole)} · {material.corpus}",
        finding=_finding(whole, tables["browse_labels"].to_pylist()),
        detail=_detail(whole),
        grade=_grade(options),
        figures=figures,
        controls=_controls(whole),
        cards=tuple(figures),
        limits=tuple(_limits(material, options, whole)),
        suspicious=tuple(_suspicious(whole, features)),
    )


def _where(whole: Row) -> str:
    """What is read, and what is written where that is something else."""
    read, written = (str(whole[name]).replace("+", ", ") for name in ("site", "target"))
    return read if read == written else f"{read} to {written}"


def _at(whole: Row) -> str:
    of = "" if whole["kind"] == "dictionary" else f"of a {whole['kind']} "
    if str(whole["kind"]).startswith("layer"):
        of = f"of {whole['kind']} "
    return f"{of}{'at' if whole['site'] == whole['target'] else 'from'} {_where(whole)}"


def _grade(options: BrowseDictionary) -> Grade:
    if options.model.startswith("random:"):
        return "control"
    return "quick" if options.documents < QUICK_DOCUMENTS else "real"


def _figures(whole: Row, features: pa.Table) -> dict[str, Estimate]:
    nearest = np.array([row[0] for row in features["neighbour_cosines"].to_pylist() if row])
    nearest = nearest[np.isfinite(nearest)]
    alike = int((nearest > whole["cosine_null"]).sum())
    return {
        "labelled_share": _share(
            whole["labelled"], whole["tested"], "Told apart by a class of tokens or texts",
            whole["labelled_null"] / whole["tested"] if whole["tested"] else math.nan,
            "null: classes turned within documents, texts dealt out",
        ),
        "paired_share": _share(
            whole["paired_above"], whole["paired"], "With a partner closer than turned text", 0.5,
            "null: half of the features, as in two draws of one law",
        ),
        "neighbour_share": _share(
            alike, len(nearest), "With a neighbour nearer than random directions have",
            1 - NULL_QUANTILE, "null: as many random directions",
        ),
        "fvu": Estimate(
            whole["fvu"], "of variance", null_mean=whole["fvu_random"],
            label="Unexplained, first rows", n=whole["first_rows"], n_unit="rows",
            note="null: a random dictionary of the same width and k",
        ),
    }  # fmt: skip


def _share(found: int, of: int, label: str, null: float, note: str) -> Estimate:
    bounds = wilson_interval(torch.tensor(found), torch.tensor(of))
    return Estimate(
        float(bounds.estimate),
        "of features",
        low=float(bounds.low),
        high=float(bounds.high),
        null_mean=null,
        n=of,
        n_unit="features",
        label=label,
        note=note,
    )


def _finding(whole: Row, labels: list[dict[str, Any]]) -> str:
    tested, found = whole["tested"], whole["labelled"]
    if not tested:
        return (
            f"None of {whole['width']:,} features was active on enough tokens to be judged: read"
            " more text."
        )
    text = (
        f"{found:,} of {tested:,} features with enough evidence tell a class of tokens or a kind"
        f" of text apart beyond chance"
    )
    if found:
        best = max(labels, key=lambda row: row["features"])
        text += f", most often “{best['class']}” ({best['features']:,})"
    return f"{text}; with the classes turned, {whole['labelled_null']:,} do."


def _detail(whole: Row) -> str:
    return (
        f"{whole['width']:,} features {_at(whole)}, read on {whole['tokens']:,} tokens of"
        f" {whole['documents']:,} documents: {number(whole['l0'])} active a token,"
        f" {percent(whole['dead'] / whole['width'])} never. Search them below by what they are"
        " active on, what they write and what they are called."
    )


def _controls(whole: Row) -> dict[str, Control]:
    found, tested = whole["labelled_null"], whole["tested"]
    allowed = max(1, round(0.005 * tested))
    chance = whole["fvu_random"]
    known = math.isfinite(chance)
    fits = whole["fvu"] < (min(1.0, chance) if known else 1.0)
    return {
        "labels_turned": Control(
            label="labels of turned text", value=found, expected=f"at most {allowed:,}",
            passed=found <= allowed,
            sentence=f"Judged as the real ones are, classes turned within documents label"
            f" {found:,} of {tested:,} features.",
        ),
        "dictionary_fits": Control(
            label="the dictionary fits its place", value=whole["fvu"],
            expected=f"below {number(chance)}, a random dictionary's" if known else "below 1",
            passed=fits,
            sentence=f"It leaves {percent(whole['fvu'])} of the variance of the first"
            f" {whole['first_rows']:,} rows unexplained; "
            + (f"a random dictionary as sparse leaves {percent(chance)}." if known else
               "these are too few for a linear map, which a random one would have to write by."),
        ),
    }  # fmt: skip


def _limits(material: Material, options: BrowseDictionary, whole: Row) -> Iterator[str]:
    yield (
        "What a feature is active on is not what it does: nothing here was intervened on. Labels"
        " name a class that the activation tells apart, not what the feature means."
    )
    yield (
        f"Labels are seven classes of tokens and {len(set(material.windows.kinds))} kinds of text;"
        " a feature without one may well stand for something else. One with fewer than 30 active"
        " tokens in 5 documents is not judged."
    )
    yield (
        "Turning a document's classes breaks every bond to its tokens, also that of classes and"
        " features that change at the same places: in simulations 5 % of unrelated features have"
        " p ≤ .05, and 14 % where both change together. Read an area near its null with that."
    )
    if whole["sample_tokens"] < whole["tokens"]:
        yield (
            f"Pairs and labels are counted on the first {whole['sample_tokens']:,} of"
            f" {whole['tokens']:,} tokens, as many as --sample-tokens and --memory-mb allow."
        )
    if material.stream is not None:
        yield (
            "Logits are those of the direct path at the mean state: what later blocks make of a"
            " feature is not in them."
        )
    else:
        yield f"No lens reads what is written to {whole['target']}, so no logits are attributed."
    yield (
        "The text was drawn without knowing what the dictionary was trained on: contexts may be"
        " from its training text. How well it reconstructs is only glanced at here."
    )


def _suspicious(whole: Row, features: pa.Table) -> Iterator[str]:
    if whole["dead"] > MOSTLY_DEAD * whole["width"]:
        yield (
            f"{whole['dead']:,} of {whole['width']:,} features are never active: more text may"
            " wake some, or the dictionary is of another model or place."
        )
    dense = int((features["density"].to_numpy() > DENSE).sum())
    if dense:
        yield f"Features active on more than half of the tokens: {dense:,}."
    alike = sum(bool(row) and row[0] is not None and row[0] > ALIKE
                for row in features["neighbour_cosines"].to_pylist())  # fmt: skip
    if alike:
        yield f"Features whose decoder row is within cosine {ALIKE} of another's: {alike:,}."
    if not whole["fvu"] < 1.0:
        yield (
            f"The dictionary leaves {percent(whole['fvu'])} of the variance unexplained, no better"
            " than the mean: it may be of another model, place or scale."
        )
