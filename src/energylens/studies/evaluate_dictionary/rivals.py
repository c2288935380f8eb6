"""The baselines of a dictionary, each with as many active features as it has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.stream import collect_rows
from energylens.core.errors import BadInput, InsufficientData
from energylens.core.ports import Progress
from energylens.features.baselines import (
    ica_dictionary,
    least_squares_map,
    pca_dictionary,
    pca_subspace,
    random_baseline,
)
from energylens.features.dictionary import Dictionary
from energylens.features.layered import Layered, one_a_layer
from energylens.features.ordinary import Ordinary
from energylens.features.train import train
from energylens.features.training import TrainOptions
from energylens.stats.nulls import permute_columns
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.material import Read
from energylens.studies.evaluate_dictionary.measuring import Rules

RANDOM_WEIGHTS = "random_weights"
RIVALS = ("pca", "pca_subspace", "ica", "random", "short", "shuffled", RANDOM_WEIGHTS)
WIDEST = 2_048
_L0_ROWS = 4_096


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """States that baselines are fitted on: ordinary rows of what is read and of what is written,
    None where that is the same, with the rules that tell them."""

    site: Float[Tensor, "sample d_in"]
    target: Float[Tensor, "sample d_out"] | None
    reads: Ordinary
    writes: Ordinary

    @property
    def written(self) -> Float[Tensor, "sample d_out"]:
        return self.site if self.target is None else self.target


@dataclass(frozen=True, kw_only=True, eq=False)
class Rivals:
    """Baselines by name, the rules of ordinary rows of site and target, the mean of what is
    written, and what is worth telling."""

    dictionaries: Mapping[str, Dictionary | Layered]
    reads: Ordinary
    writes: Ordinary
    mean: Float[Tensor, " d_out"]
    record: Mapping[str, Any]

    @property
    def rules(self) -> Rules:
        """Which rows are ordinary."""
        return Rules(reads=self.reads, writes=self.writes)


def rows_of(read: Read, entry: Entry, *, memory_mb: int, progress: Progress, label: str) -> Rows:
    """Ordinary rows of the documents to fit on.

    Raises:
        BadInput: If they need more memory than there is for activations.
        InsufficientData: If there are fewer rows than dimensions.
    """
    seat, scored = entry.seat, read.fit.ids.numel()
    values = sum(seat.read_widths) + seat.writes_elsewhere * sum(seat.write_widths)
    if (needed := 4 * scored * values / 1e6) > memory_mb:
        raise BadInput(
            f"{scored:,} tokens of {len(seat.sites)} sites are {needed:,.0f} MB and"
            f" {memory_mb:,} MB may be used for activations: lower --train-tokens or raise"
            " --memory-mb"
        )
    found = collect_rows(
        read.subject, read.fit.ids, read.fit.document, list(seat.sites), budget_mb=memory_mb,
        progress=progress, label=label,
    )  # fmt: skip
    ends = [(seat.read(found), seat.read_widths)]
    if seat.writes_elsewhere:
        ends.append((seat.written(found), seat.write_widths))
    rules = [Ordinary.of(rows, sites=widths) for rows, widths in ends]
    keep = torch.stack([rule.holds(ends[i][0]) for i, rule in enumerate(rules)]).all(0)
    inside = [rows[keep] for rows, _ in ends]
    wide = max(part.d_in for part in _parts_of(entry.dictionary))
    if len(inside[0]) <= wide:
        raise InsufficientData(
            f"principal directions of {wide} dimensions need more rows than that,"
            f" found {len(inside[0])}: raise --train-tokens or give more text"
        )
    target = inside[1] if seat.writes_elsewhere else None
    return Rows(site=inside[0], target=target, reads=rules[0], writes=rules[-1])


def _parts_of(dictionary: Dictionary | Layered) -> tuple[Dictionary, ...]:
    return dictionary.parts if isinstance(dictionary, Layered) else (dictionary,)


def layers_of(rows: Rows, entry: Entry) -> list[Rows]:
    """What the transcoder of each layer is fitted on; all of it, unless there are layers."""
    if not isinstance(entry.dictionary, Layered):
        return [rows]
    sites = rows.site.split(entry.seat.read_widths, 1)
    targets = rows.written.split(entry.seat.write_widths, 1)
    return [replace(rows, site=site, target=target)
            for site, target in zip(sites, targets, strict=True)]  # fmt: skip


def active_features(dictionary: Dictionary | Layered, rows: Float[Tensor, "sample d_in"]) -> int:
    """How many features baselines may use: as many as the dictionary does, on average."""
    code = dictionary.encode(rows[:_L0_ROWS])
    return max(1, round(float((code.values != 0).sum(1).double().mean())))


def short_options(entry: Entry, k: int, width: int) -> TrainOptions:
    """Of the dictionaries that are trained as baselines: TopK, which has the L0 asked for.

    Of layers, each has an equal share of the features and of those that are active.
    """
    own = max(1, round(k / len(_parts_of(entry.dictionary))))
    return TrainOptions(width=max(width or min(_width_of_layer(entry), WIDEST), own), k=own)


def _width_of_layer(entry: Entry) -> int:
    return -(-entry.dictionary.width // len(_parts_of(entry.dictionary)))


def fit_rivals(
    rows: Rows, entry: Entry, options: TrainOptions, generator: torch.Generator, progress: Progress
) -> Rivals:
    """All baselines that need no other model, of the rows of one layer where there are several."""
    k, width = options.k, _width_of_layer(entry)
    goal, through = rows.site, None
    if rows.target is not None:
        through = least_squares_map(rows.site, rows.target)
        goal = through(rows.site)
    ica, settled = ica_dictionary(goal, k, generator)
    made = {
        "pca": pca_dictionary(goal, k), "pca_subspace": pca_subspace(goal, k), "ica": ica,
        "random": random_baseline(goal, width, min(k, width), generator),
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
    return Rivals(
        dictionaries=made, reads=rows.reads, writes=rows.writes, mean=rows.written.mean(0),
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
    return Rivals(
        dictionaries={RANDOM_WEIGHTS: dictionary}, reads=rows.reads, writes=rows.writes,
        mean=rows.written.mean(0), record={"rows": len(rows.site), "steps": record.steps},
    )  # fmt: skip


def join_rivals(fitted: Sequence[Rivals]) -> Rivals:
    """Baselines of each layer as baselines of all of them; those of one are as they are."""
    first, *more = fitted
    if not more:
        return first
    alike = {name: [_one_piece(one.dictionaries[name]) for one in fitted]
             for name in first.dictionaries}  # fmt: skip
    return replace(
        first, mean=torch.cat([one.mean for one in fitted]),
        dictionaries={name: one_a_layer(parts) for name, parts in alike.items()},
    )  # fmt: skip


def _one_piece(dictionary: Dictionary | Layered) -> Dictionary:
    (only,) = _parts_of(dictionary)
    return only


def tensors_of(rivals: Rivals) -> dict[str, Tensor]:
    """What a store keeps of the baselines of one layer; `rivals_of` reads it back."""
    kept = {"mean": rivals.mean, "reads": rivals.reads.numbers(), "writes": rivals.writes.numbers()}
    for name, dictionary in rivals.dictionaries.items():
        kept |= {f"{name}.{part}": weight for part, weight in dictionary.weights.items()}
    return {name: tensor.clone() for name, tensor in kept.items()}


def record_of(rivals: Rivals) -> dict[str, Any]:
    made = {name: _one_piece(one) for name, one in rivals.dictionaries.items()}
    shapes = {name: {"architecture": d.architecture, "k": d.k, "subtracts": d.subtracts_b_dec}
              for name, d in made.items()}  # fmt: skip
    return {**rivals.record, "dictionaries": shapes}


def rivals_of(
    tensors: Mapping[str, Tensor], record: Mapping[str, Any], device: torch.device | str
) -> Rivals:
    """Baselines as `tensors_of` and `record_of` left them."""
    there = {name: tensor.to(device) for name, tensor in tensors.items()}
    made = {
        name: Dictionary(
            architecture=shape["architecture"], k=shape["k"], subtracts_b_dec=shape["subtracts"],
            W_enc=there[f"{name}.W_enc"], b_enc=there[f"{name}.b_enc"],
            W_dec=there[f"{name}.W_dec"], b_dec=there[f"{name}.b_dec"],
        )
        for name, shape in record["dictionaries"].items()
    }  # fmt: skip
    rules = {name: Ordinary.of_numbers(there[name], like=there["mean"])
             for name in ("reads", "writes")}  # fmt: skip
    return Rivals(dictionaries=made, **rules, mean=there["mean"], record=record)
