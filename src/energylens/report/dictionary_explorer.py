"""The browser's data of a whole dictionary: an index that is searched, blocks unpacked on demand.

Texts are kept once and contexts point into them; tokens are numbers of a vocabulary; activations
are in 255 steps of each feature's largest, for the picture alone. The tables have all in full.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from energylens.report.explorer import STILL_ROWS, Explorer, Packed, Still, pack
from energylens.report.figure import cell
from energylens.report.places import feature_name, site_label
from energylens.report.records import Records, Stored
from energylens.results.format import percent, several
from energylens.results.text import visible

MOST_PACKED_BYTES = 36_000_000  # of all blocks together, so that the page stays below 40 MB
FEATURES_A_BLOCK, WINDOWS_A_BLOCK = 256, 512
STEPS = 255  # of an activation
# Tokens around a peak that a search looks through.
SEARCHED_BEFORE, SEARCHED_AFTER = 3, 2
FEWER = (8, 5, 3, 1)  # contexts of a feature, until they fit
DIGITS = 3
INDEX = ("density", "n_active", "auroc", "max_activation")
PAGE = ("n_windows", "n_documents", "mean_activation", "decoder_norm", "stream_norm", "auroc_null",
        "q", "class_share", "class_density")  # fmt: skip
PAIRS = ("other", "together", "expected", "phi", "turned", "above_turned")


class Vocabulary:
    """Strings by number: what stands in a thousand contexts is stored once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str | None) -> int:
        return self.numbers.setdefault(visible(text or ""), len(self.numbers))

    def all_of(self, column: Any) -> np.ndarray:
        """Numbers of a column of texts."""
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        coded = whole if pa.types.is_dictionary(whole.type) else pc.dictionary_encode(whole)
        known = np.array([self(text) for text in coded.dictionary.to_pylist()] or [0])
        return known[coded.indices.fill_null(0).to_numpy(zero_copy_only=False)]


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The windows that contexts are cut from, by number."""

    place: Mapping[int, int]
    tokens: np.ndarray
    about: list[tuple[int, int]]
    """Document, and where in it the window starts."""


def dictionary_explorer(records: Records) -> Explorer | None:
    """Every feature of a browsed dictionary; None where the run has none."""
    whole, features = records.table("browse_dictionary"), records.stored.get("browse_features")
    if whole is None or features is None or not features.rows:
        return None
    site = whole.text("site")[0]
    tried = iter(FEWER)
    while True:
        kept = next(tried)
        data = list(_packed(records, features, site, kept))
        size = sum(len(one.text) for one in data)
        if size <= MOST_PACKED_BYTES or kept == FEWER[-1]:
            break
    note = (
        f"{several(features.rows, 'feature')} with contexts, histogram, logits, neighbours and"
        " partners; a search looks through the tokens around every peak, the tokens a feature"
        " raises and lowers, its label and its number."
    )
    if kept < FEWER[0]:
        note += (
            f" Only the first {kept} contexts of each fitted into this file: all are in"
            " tables/browse_contexts.parquet."
        )
    return Explorer(view="dictionary", placeholder="/ search", note=note,
                    data=data, still=_still(features, site))  # fmt: skip


def _packed(records: Records, features: Stored, site: str, kept: int) -> Iterator[Packed]:
    words, documents = Vocabulary(), Vocabulary()
    texts = _texts(records.stored["browse_windows"], words, documents)
    contexts = records.stored["browse_contexts"].blocks(
        "feature", FEATURES_A_BLOCK, "group", "rank", "window", "first", "peak", "activation"
    )
    pairs = records.stored["browse_coactivations"].blocks("feature", FEATURES_A_BLOCK, "rank",
                                                          "phi_null", *PAIRS)  # fmt: skip
    index: dict[str, list[Any]] = {name: [] for name in (*INDEX, "peak", "label", "spark")}
    searched: list[list[int]] = []
    labels = Vocabulary()
    used: set[int] = set()
    whole = records.table("browse_dictionary")
    assert whole is not None
    places = whole.text("target")[0].split("+")
    targets = [site_label(one) for one in places] if len(places) > 1 else []
    for number, own, cut, joint in _together(features, contexts, pairs):
        rows = own.to_pydict()
        limits = np.asarray(own.column("max_activation"), dtype=np.float64)
        first = number * FEATURES_A_BLOCK
        pieces, around = _contexts(cut, texts, limits, first, kept)
        used |= {piece[1] for some in pieces for piece in some}
        raised = {name: _numbers(own.column(name), words)
                  for name in ("raised_tokens", "lowered_tokens")}  # fmt: skip
        partners = _partners(joint, first, own.num_rows)
        yield pack(f"features-{number}", {
            "contexts": pieces, **raised, "partners": partners,
            **({"site_norms": rows["site_norms"]} if targets else {}),
            **{name: rows[name] for name in ("raised_logits", "lowered_logits",
               "neighbour_features", "neighbour_cosines", "histogram_first", *PAGE)},
        }, digits=DIGITS)  # fmt: skip
        for name in INDEX:
            index[name] += rows[name]
        index["peak"] += words.all_of(own.column("peak_token")).tolist()
        index["label"] += [labels(text) if text else -1 for text in rows["label"]]
        index["spark"] += rows["histogram"]
        for feature, near in enumerate(around):
            written = [token for lists in raised.values() for token in lists[feature]]
            searched.append([*near, *(part for token in written for part in (token, -1))])
    yield from _windows(texts, used)
    name = feature_name(site, 0)
    yield pack("index", {
        "site": site, "prefix": name.removesuffix("0"), "block": FEATURES_A_BLOCK,
        "windows": WINDOWS_A_BLOCK, "steps": STEPS, "labels": list(labels.numbers),
        "targets": targets,
        "words": list(words.numbers), "documents": list(documents.numbers),
        **{key: float(whole.number(key)[0])
           for key in ("cosine_null", "logit_null", "tokens", "sample_tokens")},
        "columns": index,
    }, digits=DIGITS)  # fmt: skip
    yield pack("searched", searched)


Blocks = Iterator[tuple[int, pa.Table]]


def _together(
    features: Stored, *others: Blocks
) -> Iterator[tuple[int, pa.Table, pa.Table | None, pa.Table | None]]:
    """The blocks of several tables side by side; None where a table has no row of a block."""
    ahead = [next(other, None) for other in others]
    own = [name for name in features.columns if name != "feature"]
    for number, block in features.blocks("feature", FEATURES_A_BLOCK, *own):
        found: list[pa.Table | None] = []
        for i, other in enumerate(others):
            here = ahead[i]
            if here is not None and here[0] == number:
                found.append(here[1])
                ahead[i] = next(other, None)
            else:
                found.append(None)
        yield number, block, found[0], found[1]


def _texts(windows: Stored, words: Vocabulary, documents: Vocabulary) -> Texts:
    place: dict[int, int] = {}
    rows: list[np.ndarray] = []
    about: list[tuple[int, int]] = []
    for _, block in windows.blocks("window", WINDOWS_A_BLOCK, "document", "start", "tokens"):
        for window in block.column("window").to_pylist():
            place[window] = len(place)
        lists = block.column("tokens").combine_chunks()
        rows.append(words.all_of(lists.flatten()).reshape(len(lists), -1).astype(np.int32))
        about += zip(documents.all_of(block.column("document")).tolist(),
                     block.column("start").to_pylist(), strict=True)  # fmt: skip
    return Texts(place=place, tokens=np.concatenate(rows), about=about)


def _contexts(
    cut: pa.Table | None, texts: Texts, limits: np.ndarray, first: int, kept: int
) -> tuple[list[list[list[Any]]], list[list[int]]]:
    """Of each feature: its contexts, and the tokens around their peaks with −1 between."""
    pieces: list[list[list[Any]]] = [[] for _ in limits]
    searched: list[list[int]] = [[] for _ in limits]
    if cut is None:
        return pieces, searched
    own = cut.column("feature").to_numpy() - first
    lists = cut.column("activation").combine_chunks()
    edges, values = lists.offsets.to_numpy() - lists.offsets[0].as_py(), lists.flatten().to_numpy()
    share = values / np.repeat(limits[own], np.diff(edges))
    steps = np.where(values > 0, np.maximum(np.rint(STEPS * share), 1), 0).astype(int)
    groups = cut.column("group").cast(pa.string()).to_pylist()
    numbers = (cut.column(name).to_pylist() for name in ("window", "first", "peak"))
    for row, (feature, group, window, start, peak) in enumerate(
        zip(own.tolist(), groups, *numbers, strict=True)
    ):
        if len(pieces[feature]) >= kept:
            continue
        place = texts.place[window]
        shown = steps[edges[row] : edges[row + 1]].tolist()
        pieces[feature].append([group, place, start, peak, shown])
        at = start + peak
        near = texts.tokens[place, max(0, at - SEARCHED_BEFORE) : at + SEARCHED_AFTER + 1]
        searched[feature] += [*near.tolist(), -1]
    return pieces, searched


def _partners(joint: pa.Table | None, first: int, count: int) -> list[list[list[Any]]]:
    partners: list[list[list[Any]]] = [[] for _ in range(count)]
    if joint is not None:
        columns = [joint.column(name).to_pylist() for name in ("feature", *PAIRS)]
        for feature, *cells in zip(*columns, strict=True):
            partners[feature - first].append(cells)
    return partners


def _numbers(column: Any, words: Vocabulary) -> list[list[int]]:
    """A column of lists of texts, as numbers."""
    lists = column.combine_chunks()
    edges = lists.offsets.to_numpy() - lists.offsets[0].as_py()
    flat = words.all_of(lists.flatten()) if len(lists.flatten()) else np.zeros(0, dtype=int)
    return [flat[a:b].tolist() for a, b in pairwise(edges.tolist())]


def _windows(texts: Texts, used: set[int]) -> Iterator[Packed]:
    """The texts of the contexts that are shown, a block of windows at a time."""
    for start in range(0, len(texts.tokens), WINDOWS_A_BLOCK):
        here = range(start, min(start + WINDOWS_A_BLOCK, len(texts.tokens)))
        yield pack(f"windows-{start // WINDOWS_A_BLOCK}", [
            [*texts.about[i], texts.tokens[i].tolist()] if i in used else None for i in here
        ])  # fmt: skip


def _still(features: Stored, site: str) -> Still:
    """The features that tell their class apart best."""
    table = features.table("feature", "peak_token", "label", "auroc", "density", "n_active")
    labelled = np.array([bool(name) for name in table.text("label")])
    strength = np.where(labelled, np.nan_to_num(table.number("auroc"), nan=0.0), -1.0)
    top = table.where(np.argsort(-strength, kind="stable")[:STILL_ROWS])
    columns: Sequence[tuple[str, bool]] = (
        ("feature", False), ("peaks on", False), ("tells apart", False), ("AUROC", True),
        ("density", True), ("active tokens", True),
    )  # fmt: skip
    return Still(
        note=f"The {top.rows} that tell a class of tokens or texts apart best; all are in"
        " tables/browse_features.parquet.",
        columns=columns,
        rows=[
            (feature_name(site, number), token, name or "–", cell(auroc), percent(density),
             cell(active))
            for number, token, name, auroc, density, active in zip(
                top.number("feature"), top.text("peak_token"), top.text("label"),
                top.number("auroc"), top.number("density"), top.number("n_active"), strict=True,
            )
        ],
    )  # fmt: skip
