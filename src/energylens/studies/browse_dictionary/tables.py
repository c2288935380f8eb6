"""The tables of a browsed dictionary: features, contexts, windows, pairs, labels."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from energylens.features.occurrences import AFTER, BEFORE, BINS, TopPlaces
from energylens.studies.browse_dictionary.material import Material
from energylens.studies.browse_dictionary.measures import LEVEL, class_names
from energylens.studies.browse_dictionary.reading import Reading

# Shares of the drawn windows that have a larger peak.
GROUPS = (("upper quarter", 0.25), ("median", 0.5), ("lower quarter", 0.75))


def all_tables(
    material: Material,
    reading: Reading,
    labels: dict[str, Tensor],
    together: dict[str, Tensor],
    found: dict[str, Tensor],
    record: dict[str, Any],
) -> dict[str, pa.Table]:
    contexts, windows = context_tables(material, reading)
    return {
        "browse_dictionary": pa.Table.from_pylist([record]),
        "browse_features": feature_table(material, reading, labels, found),
        "browse_coactivations": pair_table(reading, together),
        "browse_labels": label_table(material, labels),
        "browse_contexts": contexts, "browse_windows": windows,
    }  # fmt: skip


def feature_table(
    material: Material, reading: Reading, labels: dict[str, Tensor], found: dict[str, Tensor]
) -> pa.Table:
    """One row a feature."""
    seen = reading.seen
    fired = seen.active > 0
    names = np.array([name for _, name in class_names(material)])
    best = labels["label"].numpy()
    sizes = labels["sizes"] / labels["samples"][0]
    sure = (labels["q"] <= LEVEL).numpy()
    peak = _usual_peak(material.windows.ids.to(seen.active.device), seen.top)
    columns: dict[str, Any] = {
        "feature": np.arange(material.dictionary.width, dtype=np.int32),
        "density": (seen.active / seen.tokens).numpy(force=True),
        "n_active": seen.active.numpy(force=True), "n_windows": seen.windows.numpy(force=True),
        "n_documents": seen.documents.numpy(force=True),
        "mean_activation": torch.where(fired, seen.total / seen.active, torch.nan)
        .numpy(force=True),
        "max_activation": torch.where(fired, seen.top.score[:, 0], torch.nan).numpy(force=True),
        "decoder_norm": found["norm"].numpy(), "site_norms": _lists(found["site_norms"]),
        "stream_norm": found["stream_norm"].numpy(),
        "peak_token": pa.array(_words(material, peak), mask=~fired.numpy(force=True)),
        "class": pa.array(names[best.clip(0)], mask=best < 0),
        "auroc": labels["auroc"].numpy(), "auroc_null": labels["auroc_null"].numpy(),
        "p": labels["p"].numpy(), "q": labels["q"].numpy(),
        "label": np.where(sure, names[best.clip(0)], ""),
        "class_share": labels["share"].numpy(),
        "class_density": np.where(best < 0, np.nan, sizes.numpy()[best.clip(0)]),
        **_histograms(seen.histogram),
        "neighbour_features": _lists(found["near"]),
        "neighbour_cosines": _lists(found["cosine"]),
    }  # fmt: skip
    for way, name in (("up", "raised"), ("down", "lowered")):
        there = way in found
        tokens = _lists(found[f"{way}_at"], of=_words(material)) if there else None
        columns[f"{name}_tokens"] = tokens if there else _empty_lists(len(best), pa.string())
        columns[f"{name}_logits"] = (
            _lists(found[way]) if there else _empty_lists(len(best), pa.float32())
        )
    return pa.table(columns)


def _usual_peak(ids: Tensor, top: TopPlaces) -> Tensor:
    """The token on which each feature peaks most often in its top windows, the strongest first."""
    peaks = torch.where(top.filled, ids[top.window, top.position], -1)
    often = ((peaks[:, :, None] == peaks[:, None]) & top.filled[:, None]).sum(2)
    return peaks.gather(1, often.argmax(1, keepdim=True))[:, 0]


def _words(material: Material, ids: Tensor | None = None) -> Any:
    """Tokens as people read them: the vocabulary, or those of some ids."""
    if ids is None:
        return pa.array(material.words)
    return np.array(material.words, dtype=object)[ids.numpy(force=True)]


def _lists(rows: Tensor, *, of: pa.Array | None = None) -> pa.Array:
    """A matrix as a column of lists; with `of`, numbers stand for its values."""
    values = pa.array(rows.flatten().numpy(force=True))
    if of is not None:
        values = pa.DictionaryArray.from_arrays(values.cast(pa.int32()), of)
    edges = np.arange(0, rows.numel() + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(edges, values)


def _empty_lists(count: int, kind: Any) -> pa.Array:
    return pa.ListArray.from_arrays(np.zeros(count + 1, dtype=np.int32), pa.array([], kind))


def _histograms(counts: Tensor) -> dict[str, Any]:
    """Counts from the first bin that is not empty to the last."""
    there = counts > 0
    first = there.long().argmax(1)
    last = BINS - there.flip(1).long().argmax(1)
    length = torch.where(there.any(1), last - first, 0)
    place = torch.arange(BINS, device=counts.device)
    inside = (place >= first[:, None]) & (place < (first + length)[:, None])
    edges = torch.cat([length.new_zeros(1), length.cumsum(0)]).int()
    return {
        "histogram_first": first.int().numpy(force=True),
        "histogram": pa.ListArray.from_arrays(
            edges.numpy(force=True), pa.array(counts[inside].int().numpy(force=True))
        ),
    }


def pair_table(reading: Reading, together: dict[str, Tensor]) -> pa.Table:
    """One row a feature and partner, the largest φ first."""
    partners = together["feature"]
    row, rank = (partners >= 0).nonzero(as_tuple=True)
    both, expected = together["together"][row, rank], together["expected"][row, rank]
    value = together["phi"][row, rank]
    return pa.table({
        "feature": row.int().numpy(), "rank": rank.int().numpy(),
        "other": partners[row, rank].int().numpy(), "together": both.int().numpy(),
        "expected": expected.numpy(), "lift": (both / expected).numpy(), "phi": value.numpy(),
        "turned": together["turned"][row, rank].int().numpy(),
        "phi_null": together["phi_null"][row].numpy(),
        "above_turned": (value > together["phi_null"][row].nan_to_num(0.0)).numpy(),
    })  # fmt: skip


def label_table(material: Material, labels: dict[str, Tensor]) -> pa.Table:
    """One row a class: how common it is, and how many features are labelled by it."""
    sure, null = labels["q"] <= LEVEL, labels["null_q"] <= LEVEL
    rows = []
    for number, (family, name) in enumerate(class_names(material)):
        size = int(labels["sizes"][number])
        rows.append({
            "class": name, "family": family, "tokens": size,
            "share": size / int(labels["samples"][0]),
            "features": int((sure & (labels["label"] == number)).sum()),
            "features_null": int((null & (labels["null_label"] == number)).sum()),
        })  # fmt: skip
    return pa.Table.from_pylist(rows)


def context_tables(material: Material, reading: Reading) -> tuple[pa.Table, pa.Table]:
    """Contexts of every feature, and the windows that they are cut from, each once."""
    top, drawn = reading.seen.top, reading.seen.drawn
    parts = [_chosen(top, top.filled, "top")]
    quantile, chosen = _quantiles(top, drawn)
    for number, (group, _) in enumerate(GROUPS):
        column = quantile[:, number, None]
        parts.append(_chosen(_columns(drawn, column), chosen[:, number, None], group))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((whole["rank"], whole["group"], whole["feature"]))
    whole = {name: values[order] for name, values in whole.items()}
    used = np.unique(whole["window"])
    contexts = _contexts(whole, material.windows.ids.shape[1])
    return contexts, _windows(material, used)


def _columns(places: TopPlaces, column: Tensor) -> TopPlaces:
    deep = column[..., None].expand(-1, -1, places.trace.shape[2])
    return TopPlaces(
        score=places.score.gather(1, column), window=places.window.gather(1, column),
        position=places.position.gather(1, column), trace=places.trace.gather(1, deep),
    )  # fmt: skip


def _quantiles(top: TopPlaces, drawn: TopPlaces) -> tuple[Tensor, Tensor]:
    """Of the drawn windows that are not shown already, those at three quantiles of the peak."""
    taken = (drawn.window[:, :, None] == top.window[:, None]) & top.filled[:, None]
    open_to = drawn.filled & ~taken.any(2)
    peak = torch.where(open_to, drawn.trace[..., BEFORE], -torch.inf)
    order = peak.argsort(dim=1, descending=True, stable=True)
    count = open_to.sum(1)
    # One of n lies at share (i + ½) / n; fewer than three fill the groups from the top.
    shares = torch.tensor([share for _, share in GROUPS], device=peak.device)
    at = (count[:, None] * shares).floor().long().clamp(max=max(peak.shape[1] - 1, 0))
    few = torch.arange(len(GROUPS), device=peak.device).expand_as(at)
    at = torch.where(count[:, None] > len(GROUPS), at, few.clamp(max=peak.shape[1] - 1))
    return order.gather(1, at), at < count[:, None]


def _chosen(places: TopPlaces, there: Tensor, group: str) -> dict[str, np.ndarray]:
    feature, rank = there.nonzero(as_tuple=True)
    names = ["top", *(name for name, _ in GROUPS)]
    return {
        "feature": feature.numpy(force=True),
        "group": np.full(len(feature), names.index(group)), "rank": rank.numpy(force=True),
        "window": places.window[there].numpy(force=True),
        "position": places.position[there].numpy(force=True),
        "trace": places.trace[there].numpy(force=True),
    }  # fmt: skip


def _contexts(whole: dict[str, np.ndarray], context: int) -> pa.Table:
    first = np.maximum(whole["position"] - BEFORE, 0)
    last = np.minimum(whole["position"] + AFTER, context - 1)
    place = whole["position"][:, None] + np.arange(-BEFORE, AFTER + 1)
    inside = (place >= 0) & (place < context)
    edges = np.concatenate([[0], (last - first + 1).cumsum()]).astype(np.int32)
    names = pa.array(["top", *(name for name, _ in GROUPS)])
    return pa.table({
        "feature": whole["feature"].astype(np.int32),
        "group": pa.DictionaryArray.from_arrays(whole["group"].astype(np.int32), names),
        "rank": whole["rank"].astype(np.int32), "window": whole["window"].astype(np.int32),
        "first": first.astype(np.int32),
        "peak": (whole["position"] - first).astype(np.int32),
        "activation": pa.ListArray.from_arrays(edges, pa.array(whole["trace"][inside])),
    })  # fmt: skip


def _windows(material: Material, used: np.ndarray) -> pa.Table:
    windows = material.windows
    ids = windows.ids[torch.from_numpy(used)]
    document = windows.document[torch.from_numpy(used)].tolist()
    return pa.table({
        "window": used.astype(np.int32),
        "document": [windows.document_names[i] for i in document],
        "kind": [windows.kinds[i] for i in document],
        "start": windows.starts[torch.from_numpy(used)].int().numpy(),
        "tokens": _lists(ids, of=_words(material)),
    })  # fmt: skip
