"""Data that lies packed in the page, and what the browser shows of features and their energy."""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from energylens.report.feature_table import by_strength, columns
from energylens.report.figure import Column, cell
from energylens.report.records import Records, Table
from energylens.results.format import p_value, several

INLINE_BYTES = 24_000  # below this, JSON is put in as it is
MOST_PACKED_BYTES = 8_000_000  # of the pages together, so that the whole page stays below 12 MB
STILL_ROWS = 30
MOST_POINTS = 400  # of a feature's scatter
TABLE_DIGITS, PAGE_DIGITS = 6, 3  # significant; the Parquet files have all of them
PLAIN: tuple[str, ...] = (
    "scatter_slope", "scatter_intercept", "scatter_null_low", "scatter_null_high",
    "ablation_measured", "ablation_low", "ablation_high", "ablation_predicted",
    "ablation_contexts", "ablation_random", "kl_mean", "double_measured",
    "shift_states", "shift_angle", "shift_angle_random", "shift_switched", "shift_switched_random",
)  # fmt: skip
LISTS: tuple[str, ...] = (
    "activation_edges", "activation_counts", "raised_tokens", "raised_logits", "lowered_tokens",
    "lowered_logits", "neighbour_features", "neighbour_cosines", "classes", "class_effects",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Inert data of the page."""

    name: str
    kind: str
    """Media type of the element that holds it: plain JSON, or gzip in base64."""
    text: str
    value: Any
    """The data itself where it is plain, for the template to escape; None where packed."""


@dataclass(frozen=True, kw_only=True)
class Still:
    """A table of a few features, for paper and for browsers without scripts."""

    note: str
    columns: Sequence[tuple[str, bool]]
    """Head of each column, and whether it holds numbers."""
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """What the browser shows."""

    view: str
    """Which of the page's scripts shows it."""
    placeholder: str
    note: str
    data: Sequence[Packed]
    still: Still
    title: str = "The features"
    short: str = "Features"
    """What the page's contents call it."""


def pack(name: str, value: Any, *, digits: int = TABLE_DIGITS) -> Packed:
    """Data for the page: plain where small, compressed where large. nan becomes null."""
    clean = plain(value, digits)
    text = json.dumps(clean, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text) <= INLINE_BYTES:
        return Packed(name=name, kind="application/json", text="", value=clean)
    squeezed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
    return Packed(
        name=name, kind="application/gzip", text=base64.b64encode(squeezed).decode(), value=None
    )


def plain(value: Any, digits: int) -> Any:
    """Python values that JSON can hold, numbers to some significant digits."""
    if isinstance(value, np.ndarray):
        return [plain(item, digits) for item in value.tolist()]
    if isinstance(value, float):
        return _short(value, digits)
    if isinstance(value, Mapping):
        return {key: plain(item, digits) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item, digits) for item in value]
    return value


def _short(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    if value.is_integer() and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.{digits}g}")


def table_data(shown: Sequence[Column]) -> dict[str, Any]:
    """Columns as the page's script reads them."""
    return {
        "columns": [{"name": c.name, "label": c.label, "signed": c.signed} for c in shown],
        "cells": [list(c.cells) for c in shown],
    }


def alignment_explorer(records: Records) -> Explorer | None:
    """Pages of the featured features, as many as the page has room for; None without features."""
    featured, features = records.table("featured"), records.table("features")
    if features is None:
        return None
    if featured is None:
        pages = pack("pages", {"tokens": [], "documents": [], "pages": {}})
        return _explorer(features, pages, "No feature of this run has a page of its own.")
    order = _by_strength(featured, features)
    contexts = _contexts_by_feature(records.table("contexts"))
    keep = len(order)
    while True:
        pages = pack("pages", _pages(featured, order[:keep], contexts), digits=PAGE_DIGITS)
        if len(pages.text) <= MOST_PACKED_BYTES or keep <= 1:
            break
        keep = max(1, int(keep * 0.9 * MOST_PACKED_BYTES / len(pages.text)))
    return _explorer(features, pages, _note(keep, len(order), features.rows))


def _explorer(features: Table, pages: Packed, note: str) -> Explorer:
    return Explorer(view="alignment", placeholder="/ search tokens, ids", note=note, data=(pages,),
                    still=_still(features))  # fmt: skip


def _still(features: Table) -> Still:
    """The strongest features."""
    top = by_strength(features).where(slice(0, STILL_ROWS))
    values = {column.name: column.cells for column in columns(top)}
    return Still(
        note=f"The {top.rows} with the surest alignment; all are in tables/features.parquet.",
        columns=(("feature", False), ("EFAS", True), ("95 %", True), ("p, family-wise", True),
                 ("q", True), ("density", True), ("verdict", False)),
        rows=[
            (
                values["name"][i], cell(values["efas"][i], signed=True),
                f"{cell(values['low'][i], signed=True)} to {cell(values['high'][i], signed=True)}",
                *(p_value(float(values[name][i]), relation=False) for name in ("p_max_t", "q")),
                cell(values["density"][i]), values["verdict"][i],
            )
            for i in range(top.rows)
        ],
    )  # fmt: skip


def _note(kept: int, featured: int, features: int) -> str:
    note = f"{several(features, 'feature')}, {kept:,} of them with a page: contexts, histogram, "
    note += "force, logits, neighbours, effects."
    if kept < featured:
        note += (
            f" The pages of {featured - kept:,} more did not fit into this file: they are in "
            "tables/featured.parquet and tables/contexts.parquet."
        )
    return note


def _by_strength(featured: Table, features: Table) -> list[int]:
    """Rows of `featured`, the surest alignment first."""
    keys = zip(features.text("site"), features.number("feature"), strict=True)
    sure = dict(zip(keys, np.nan_to_num(np.abs(features.number("t")), nan=-1.0), strict=True))
    own = list(zip(featured.text("site"), featured.number("feature"), strict=True))
    return sorted(range(featured.rows), key=lambda row: -sure.get(own[row], -1.0))


def _contexts_by_feature(contexts: Table | None) -> dict[tuple[str, int], list[dict[str, Any]]]:
    if contexts is None:
        return {}
    cells: dict[str, Any] = {
        "group": contexts.text("group"), "document": contexts.text("document"),
        "position": contexts.number("position"), "peak": contexts.number("peak"),
        "tokens": contexts.lists("tokens"), "activation": contexts.lists("activation"),
        "force": contexts.lists("force"),
    }  # fmt: skip
    sites, features = contexts.text("site"), contexts.number("feature")
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in np.argsort(contexts.number("rank"), kind="stable"):
        context = {name: column[row] for name, column in cells.items()}
        found.setdefault((sites[row], int(features[row])), []).append(context)
    return found


class _Vocabulary:
    """Strings by number: a token that stands in a thousand contexts is stored once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def _pages(
    featured: Table,
    rows: Sequence[int],
    contexts: Mapping[tuple[str, int], list[dict[str, Any]]],
) -> dict[str, Any]:
    tokens, documents = _Vocabulary(), _Vocabulary()
    kept = featured.where(list(rows))
    pages: dict[str, Any] = {}
    for row in range(kept.rows):
        site, feature = kept.text("site")[row], int(kept.number("feature")[row])
        page = _page(kept, row)
        page["contexts"] = [
            context | {
                "tokens": [tokens(token or "") for token in context["tokens"]],
                "document": documents(context["document"]),
            }
            for context in contexts.get((site, feature), [])
        ]  # fmt: skip
        pages[f"{site}/{feature}"] = page
    return {"tokens": list(tokens.numbers), "documents": list(documents.numbers), "pages": pages}


def _page(featured: Table, row: int) -> dict[str, Any]:
    page: dict[str, Any] = {name: float(featured.number(name)[row]) for name in PLAIN}
    page |= {name: featured.lists(name)[row] for name in LISTS}
    across, force = (featured.lists(f"scatter_{n}")[row] for n in ("activation", "force"))
    step = max(1, -(-len(across) // MOST_POINTS))
    return page | {"scatter_activation": across[::step], "scatter_force": force[::step]}
