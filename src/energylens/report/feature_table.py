"""The features as one table, the surest first: behind the volcano, the browser and the paper."""

import numpy as np

from energylens.report.figure import Column
from energylens.report.places import feature_name
from energylens.report.records import Table

COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("efas", "EFAS", True), ("low", "95 % from", True), ("high", "to", True), ("t", "t", True),
    ("p", "p", False), ("q", "q", False), ("p_max_t", "p, family-wise", False),
    ("p_documents", "of documents", False), ("p_rows", "of rows", False),
    ("attribution", "attribution (nats/token)", True), ("density", "density", False),
    ("n_active", "active tokens", False), ("n_documents", "documents", False),
    ("efas_surprisal", "EFAS, surprisal", True),
    ("p_max_t_surprisal", "p, family-wise, surprisal", False),
    ("efas_free_energy", "EFAS, free energy", True),
    ("p_max_t_free_energy", "p, family-wise, free energy", False),
    ("efas_entropy", "EFAS, entropy", True),
    ("p_max_t_entropy", "p, family-wise, entropy", False),
    ("efas_tuned", "EFAS, tuned lens", True),
    ("p_max_t_tuned", "p, family-wise, tuned lens", False),
    ("efas_class_energy", "EFAS, class energy", True),
    ("p_max_t_class_energy", "p, family-wise, class energy", False),
)  # fmt: skip


def by_strength(features: Table) -> Table:
    """Features by family-wise p, then by |t|; undefined ones last."""
    p = np.nan_to_num(features.number("p_max_t"), nan=2.0)
    t = np.nan_to_num(np.abs(features.number("t")), nan=-1.0)
    return features.where(np.lexsort((-t, p)))


def columns(features: Table) -> list[Column]:
    """The numbers of every feature as the table view and the browser have them."""
    numbers = [
        Column(name=name, label=label, cells=features.number(name), signed=signed)
        for name, label, signed in COLUMNS
        if name in features.columns
    ]
    return [
        Column(name="name", label="feature", cells=names(features)),
        Column(name="site", label="site", cells=features.text("site")),
        Column(name="layer", label="layer", cells=features.number("layer")),
        Column(name="feature", label="index", cells=features.number("feature")),
        *numbers,
        Column(name="verdict", label="verdict", cells=verdicts(features)),
        Column(name="replicated", label="in both halves", cells=_again(features)),
    ]


def names(features: Table) -> list[str]:
    """Short names, as in L15·2904."""
    own = zip(features.text("site"), features.number("feature"), strict=True)
    return [feature_name(site, float(feature)) for site, feature in own]


def verdicts(features: Table) -> list[str]:
    """The verdict, with the reason where there is none."""
    return [
        verdict if status == "scored" else f"undefined: {status}"
        for verdict, status in zip(features.text("verdict"), features.text("status"), strict=True)
    ]


def _again(features: Table) -> list[str]:
    words = {1.0: "yes", 0.0: "no"}
    return [words.get(again, "") for again in features.number("replicated").tolist()]


def peak_tokens(contexts: Table | None) -> dict[tuple[str, int], str]:
    """The token on which each feature peaks most often in its top contexts."""
    if contexts is None:
        return {}
    top = contexts.equal("group", "top")
    seen: dict[tuple[str, int], list[str]] = {}
    cells = (top.text("site"), top.number("feature"), top.lists("tokens"), top.number("peak"))
    for site, feature, tokens, peak in zip(*cells, strict=True):
        if 0 <= int(peak) < len(tokens):
            seen.setdefault((site, int(feature)), []).append(tokens[int(peak)].strip())
    return {key: max(peaks, key=peaks.count) for key, peaks in seen.items()}
