"""A run folder of a browsed dictionary: thousands of features, hostile tokens, some silent."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.report.records import HOSTILE, WORDS

SITE = "blocks.7.resid_post"
FEATURES, WINDOWS, CONTEXT = 3_000, 90, 40
LOGITS, NEAR, PARTNERS, CONTEXTS = 4, 3, 2, 4
SPAN, PEAK = 12, 7
SILENT = frozenset(range(0, FEATURES, 50))
CLASSES = ("number", "word", "speech")
GROUPS = ("top", "top", "median", "lower quarter")
MARKED = 1234  # peaks on a word that stands nowhere else


def write_browse_run(folder: Path, target: str = SITE) -> Path:
    (folder / "tables").mkdir(parents=True)
    random = np.random.default_rng(0)
    words = [*(f" {word}" for word in WORDS), *HOSTILE]
    windows = random.integers(0, len(words), (WINDOWS, CONTEXT))
    tokens = [[words[i] for i in row] for row in windows]
    tokens[5][10] = " zeugma"
    tables = {
        "browse_windows": pa.table({
            "window": np.arange(WINDOWS, dtype=np.int32) * 3,
            "document": [HOSTILE[0] if i == 0 else f"document {i // 2}" for i in range(WINDOWS)],
            "kind": ["text"] * WINDOWS, "start": np.arange(WINDOWS, dtype=np.int32) * 7,
            "tokens": tokens,
        }),
        "browse_features": _features(random, words), "browse_contexts": _contexts(random),
        "browse_coactivations": _pairs(random),
        "browse_labels": pa.table({
            "class": CLASSES, "family": ["token", "token", "text"], "tokens": [900, 5000, 700],
            "share": [0.1, 0.6, 0.08], "features": [500, 300, 2], "features_null": [0, 3, 0],
        }),
        "browse_dictionary": pa.table({
            name: [value] for name, value in {
                "site": SITE, "target": target, "kind": "dictionary",
                "architecture": "topk", "k": 8, "width": FEATURES, "d_in": 64,
                "tokens": 9000, "documents": 45, "windows": WINDOWS, "sample_tokens": 9000,
                "sample_documents": 45, "l0": 8.0, "dead": len(SILENT), "first_rows": 900,
                "fvu": 0.2, "fvu_random": 0.8, "tested": 2000, "labelled": 802, "labelled_null": 3,
                "paired": 2940, "paired_above": 2000, "phi_null": 0.1, "cosine_null": 0.3,
                "logit_null": 0.5,
            }.items()
        }),
    }  # fmt: skip
    for name, table in tables.items():
        pq.write_table(table, folder / "tables" / f"{name}.parquet")
    summary = {"schema": 1, "study": "browse-dictionary", "subject": f"noise · {SITE}",
               "finding": "Nothing was measured.", "detail": "", "grade": "control", "figures": {},
               "controls": {}, "cards": [], "limits": [], "suspicious": []}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "run.json").write_text(json.dumps({"schema": 1, "study": "browse-dictionary"}))
    return folder


def _features(random: np.random.Generator, words: list[str]) -> pa.Table:
    silent = np.array([f in SILENT for f in range(FEATURES)])
    density = np.where(silent, 0.0, 10 ** random.uniform(-4, -0.7, FEATURES))
    label = [CLASSES[f % 3] if f % 4 == 0 and f not in SILENT else "" for f in range(FEATURES)]
    peaks = [None if f in SILENT else words[f % len(words)] for f in range(FEATURES)]
    peaks[MARKED] = " zeugma"

    def some(low: float, high: float) -> np.ndarray:
        return np.where(silent, np.nan, random.uniform(low, high, FEATURES))

    def lists(of: np.ndarray) -> list[list[float]]:
        return of.tolist()

    return pa.table({
        "feature": np.arange(FEATURES, dtype=np.int32), "density": density,
        "n_active": (density * 9000).astype(np.int64) + ~silent,
        "n_windows": (~silent).astype(np.int64), "n_documents": (~silent).astype(np.int64),
        "mean_activation": some(1, 2), "max_activation": np.where(silent, np.nan, 4.0),
        "decoder_norm": np.ones(FEATURES), "stream_norm": np.full(FEATURES, 2.0),
        "site_norms": [[0.75, 0.25]] * FEATURES, "peak_token": peaks,
        "class": [None if f in SILENT else CLASSES[f % 3] for f in range(FEATURES)],
        "auroc": some(0.5, 1), "auroc_null": some(0.5, 0.6), "p": some(0, 1), "q": some(0, 1),
        "label": label, "class_share": some(0, 1), "class_density": some(0, 1),
        "histogram_first": np.full(FEATURES, 30, dtype=np.int32),
        "histogram": [[] if f in SILENT else [3, 0, f % 9] for f in range(FEATURES)],
        "neighbour_features": random.integers(0, FEATURES, (FEATURES, NEAR)).tolist(),
        "neighbour_cosines": lists(random.uniform(0, 1, (FEATURES, NEAR))),
        **{f"{way}_tokens": [[words[(f + i) % len(words)] for i in range(LOGITS)]
                             for f in range(FEATURES)] for way in ("raised", "lowered")},
        "raised_logits": lists(random.uniform(0, 2, (FEATURES, LOGITS))),
        "lowered_logits": lists(-random.uniform(0, 2, (FEATURES, LOGITS))),
    })  # fmt: skip


def _contexts(random: np.random.Generator) -> pa.Table:
    feature = np.repeat([f for f in range(FEATURES) if f not in SILENT], CONTEXTS)
    n = len(feature)
    activation = random.uniform(0, 3, (n, SPAN)) * (random.uniform(size=(n, SPAN)) < 0.3)
    group = np.tile(np.array(GROUPS), n // CONTEXTS)
    rank = np.tile([0, 1, 0, 0], n // CONTEXTS)
    activation[:, PEAK] = np.where(group == "top", 4.0 - rank, 2.0)
    window = random.integers(0, WINDOWS, n)
    first = random.integers(0, CONTEXT - SPAN + 1, n)
    here = np.flatnonzero(feature == MARKED)[0]
    window[here], first[here] = 5, 10 - PEAK
    return pa.table({
        "feature": feature.astype(np.int32),
        "group": pa.array(group.tolist()).dictionary_encode(), "rank": rank.astype(np.int32),
        "window": (window * 3).astype(np.int32), "first": first.astype(np.int32),
        "peak": np.full(n, PEAK, dtype=np.int32), "activation": activation.tolist(),
    })  # fmt: skip


def _pairs(random: np.random.Generator) -> pa.Table:
    feature = np.repeat([f for f in range(FEATURES) if f not in SILENT], PARTNERS)
    n = len(feature)
    phi = random.uniform(0, 1, n)
    return pa.table({
        "feature": feature.astype(np.int32),
        "rank": np.tile(np.arange(PARTNERS, dtype=np.int32), n // PARTNERS),
        "other": random.integers(0, FEATURES, n).astype(np.int32),
        "together": random.integers(1, 90, n).astype(np.int32),
        "expected": random.uniform(0, 5, n), "lift": random.uniform(1, 9, n), "phi": phi,
        "turned": random.integers(0, 9, n).astype(np.int32), "phi_null": np.full(n, 0.2),
        "above_turned": phi > 0.2,
    })  # fmt: skip
