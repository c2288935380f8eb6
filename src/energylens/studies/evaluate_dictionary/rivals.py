"""The baselines of a dictionary, each with as many active features as it has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.core.errors import InsufficientData
from energylens.core.ports import Progress
from energylens.features.baselines import (
    ica_dictionary,
    least_squares_map,
    pca_dictionary,
    pca_subspace,
    random_baseline,
)
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary
from energylens.features.train import train
from energylens.features.training import TrainOptions
from energylens.stats.nulls import permute_columns
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.material import Read

RANDOM_WEIGHTS = "random_weights"
RIVALS = ("pca", "pca_subspace", "ica", "random", "short", "shuffled", RANDOM_WEIGHTS)
WIDEST = 2_048
_L0_ROWS = 4_096


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """States that baselines are fitted on: ordinary rows of the site and of the target."""

    site: Float[Tensor, "sample d_in"]
    target: Float[Tensor, "sample d_out"] | None
    ordinary: Mapping[str, Ordinary]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rivals:
    """Baselines by name, the rules of ordinary rows of site and target, the mean of what is
    written, and what is worth telling."""

    dictionaries: Mapping[str, Dictionary]
    reads: Ordinary
    writes: Ordinary
    mean: Float[Tensor, " d_out"]
    record: Mapping[str, Any]


def rows_of(read: Read, entry: Entry, *, memory_mb: int, progress: Progress, label: str) -> Rows:
    """Ordinary rows of the documents to fit on."""
    sites = list(dict.fromkeys([entry.site, entry.target]))
    found = collect_rows(
        read.subject, read.fit.ids, read.fit.document, sites, budget_mb=memory_mb,
        progress=progress, label=label,
    )  # fmt: skip
    ordinary = {site: Ordinary.of(rows) for site, rows in found.items()}
    keep = torch.stack([ordinary[site].holds(rows) for site, rows in found.items()]).all(0)
    inside = {site: rows[keep] for site, rows in found.items()}
    if len(inside[entry.site]) <= entry.dictionary.d_in:
        raise InsufficientData(
            f"principal directions of {entry.dictionary.d_in} dimensions need more rows than that,"
            f" found {len(inside[entry.site])}: raise --train-tokens or give more text"
        )
    target = inside[entry.target] if entry.is_transcoder else None
    return Rows(site=inside[entry.site], target=target, ordinary=ordinary)


def active_features(dictionary: Dictionary, rows: Float[Tensor, "sample d_in"]) -> int:
    """How many features baselines may use: as many as the dictionary does, on average."""
    code = dictionary.encode(rows[:_L0_ROWS])
    return max(1, round(float((code.values != 0).sum(1).double().mean())))


def short_options(entry: Entry, k: int, width: int) -> TrainOptions:
    """Of the dictionaries that are trained as baselines: TopK, which has the L0 asked for."""
    wide = width or min(entry.dictionary.width, WIDEST)
    return TrainOptions(width=max(wide, k), k=k)


def fit_rivals(
    rows: Rows, entry: Entry, k: int, options: TrainOptions, generator: torch.Generator,
    progress: Progress,
) -> Rivals:  # fmt: skip
    """All baselines that need no other model."""
    goal, through = rows.site, None
    if rows.target is not None:
        through = least_squares_map(rows.site, rows.target)
        goal = through(rows.site)
    ica, settled = ica_dictionary(goal, k, generator)
    made = {
        "pca": pca_dictionary(goal, k), "pca_subspace": pca_subspace(goal, k), "ica": ica,
        "random": random_baseline(goal, entry.dictionary.width, min(k, entry.dictionary.width),
                                  generator),
    }  # fmt: skip
    if through is not None:
        made = {name: through.before(dictionary) for name, dictionary in made.items()}
    made["short"], record = train(
        rows.site, options, generator, target=rows.target, progress=progress,
        label=f"{entry.label}: short training",
    )  # fmt: skip
    mixed = [None if x is None else permute_columns(x, generator) for x in (rows.site, rows.target)]
    assert mixed[0] is not None
    made["shuffled"], _ = train(
        mixed[0], options, generator, target=mixed[1], progress=progress,
        label=f"{entry.label}: shuffled activations",
    )  # fmt: skip
    written = rows.site if rows.target is None else rows.target
    return Rivals(
        dictionaries=made, reads=rows.ordinary[entry.site], writes=rows.ordinary[entry.target],
        mean=written.mean(0),
        record={"k": k, "rows": len(rows.site), "steps": record.steps, "width": options.width,
                "ica_settled": settled, "ica_components": ica.width // 2},
    )  # fmt: skip


def fit_random_weights(
    rows: Rows, entry: Entry, options: TrainOptions, generator: torch.Generator, progress: Progress
) -> Rivals:
    """The same short training on what a model does that has learned nothing."""
    dictionary, record = train(
        rows.site, options, generator, target=rows.target, progress=progress,
        label=f"{entry.label}: random-weight model",
    )  # fmt: skip
    written = rows.site if rows.target is None else rows.target
    return Rivals(
        dictionaries={RANDOM_WEIGHTS: dictionary}, reads=rows.ordinary[entry.site],
        writes=rows.ordinary[entry.target], mean=written.mean(0),
        record={"rows": len(rows.site), "steps": record.steps},
    )  # fmt: skip


def tensors_of(rivals: Rivals) -> dict[str, Tensor]:
    """What a store keeps; `rivals_of` reads it back."""
    kept = {"mean": rivals.mean}
    for name, rule in (("reads", rivals.reads), ("writes", rivals.writes)):
        radius = torch.tensor([rule.radius], dtype=torch.float64)
        kept |= {f"{name}.center": rule.center, f"{name}.radius": radius}
    for name, dictionary in rivals.dictionaries.items():
        kept |= {f"{name}.{part}": weight for part, weight in dictionary.weights.items()}
    return {name: tensor.clone() for name, tensor in kept.items()}


def record_of(rivals: Rivals) -> dict[str, Any]:
    shapes = {name: {"architecture": d.architecture, "k": d.k, "subtracts": d.subtracts_b_dec}
              for name, d in rivals.dictionaries.items()}  # fmt: skip
    return {**rivals.record, "dictionaries": shapes}


def rivals_of(
    tensors: Mapping[str, Tensor], record: Mapping[str, Any], device: torch.device | str
) -> Rivals:
    """Baselines as `tensors_of` and `record_of` left them."""
    there = {name: tensor.to(device) for name, tensor in tensors.items()}

    def weight(name: str, part: str) -> Tensor:
        return there[f"{name}.{part}"]

    made = {
        name: Dictionary(
            architecture=shape["architecture"], k=shape["k"], subtracts_b_dec=shape["subtracts"],
            W_enc=weight(name, "W_enc"), b_enc=weight(name, "b_enc"), W_dec=weight(name, "W_dec"),
            b_dec=weight(name, "b_dec"),
        )
        for name, shape in record["dictionaries"].items()
    }  # fmt: skip
    rules = {
        name: Ordinary(center=weight(name, "center"), radius=float(weight(name, "radius")))
        for name in ("reads", "writes")
    }
    return Rivals(dictionaries=made, **rules, mean=there["mean"], record=record)
