"""Tables and figures of behaviour, from what the parts of the run left in the store."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.core.ports import Store
from energylens.core.sites import layer_of
from energylens.results.record import Estimate
from energylens.sources.task import TASKS
from energylens.sources.token_classes import TOKEN_CLASSES
from energylens.stats.matched_sets import MatchedSets, matched_set_test
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.stats.rates import poisson_interval
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.behaviour import (
    INTERVENTIONS,
    MATCHED,
    MATCHES,
    TOP,
    Member,
    mean_by_unit,
    members_of,
)
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.proof import ABLATE, KINDS
from energylens.studies.energy_lens.tables import Row, table

LEVEL = 0.05
FEWEST_SETS = 3  # with two matches to each, fewer cannot give a p of .05
EVERY_TASK = "all tasks"
NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One task that the model can do; the members of a set stand together, the top one first.

    Attributes:
        effects: Mean change over the items of each unit.
        preference: Preference of each item in the unchanged model.
    """

    name: str
    effects: Float[Tensor, "unit set member intervention"]
    by_item: Float[Tensor, "changed intervention item"]
    preference: Float[Tensor, " item"]
    active: Float[Tensor, "changed item"]


def behaviour_tables(
    material: Material,
    trained: Pass,
    classes: Sequence[Sequence[str]],
    store: Store,
    options: EnergyLens,
) -> dict[str, pa.Table]:
    """Every table of behaviour that has rows; none if the run was told to leave it out."""
    if not options.behaviour_features:
        return {}
    members, measured = members_of(store), list(_measured(store))
    generator = torch.Generator().manual_seed(options.seed + 400)
    tables = {
        "behaviour_tasks": table(list(_task_rows(store))),
        "behaviour": table(_effect_rows(members, measured)),
        "behaviour_contrast": table(list(_contrast_rows(measured, generator))),
        "behaviour_classes": table(list(_class_rows(material, trained, classes, store))),
    }
    return {name: rows for name, rows in tables.items() if rows.num_rows}


def _task_rows(store: Store) -> Iterator[Row]:
    for task in TASKS.values():
        record = store.record(f"behaviour.{task.name}")
        yield {
            "task": task.name, "question": task.question, "items": record["items"],
            "units": record["units"], "unit": task.unit,
            **{name: record.get(name, NAN) for name in ("accuracy", "low", "high", "chance")},
            "can": record["can"], "why": record["why"], "left_out": len(record["left_out"]),
            "left_out_words": record["left_out"],
        }  # fmt: skip


def _measured(store: Store) -> Iterator[Measured]:
    for name in TASKS:
        if store.record(f"behaviour.{name}")["can"]:
            kept = store.tensors(f"behaviour.{name}")
            by_unit = mean_by_unit(kept["effects"], kept["unit"])
            yield Measured(
                name=name, by_item=kept["effects"], preference=kept["base"],
                active=kept["active"],
                effects=by_unit.unflatten(1, (-1, 1 + MATCHES)),
            )  # fmt: skip


def _effect_rows(members: Sequence[Member], measured: Sequence[Measured]) -> list[Row]:
    """One row a task, feature and intervention; the strongest ones beside their matches.

    The strongest are one family of hypotheses. So are the matches of each rank, which are set
    against the other matches: what a feature is found to do there, any feature is.
    """
    rows = [
        _effect_row(task, members, number, kind)
        for task in measured for number in range(len(members))
        for kind in range(len(INTERVENTIONS))
    ]  # fmt: skip
    p = torch.tensor([row["p"] for row in rows], dtype=torch.float64)
    rank = torch.arange(len(rows)) // len(INTERVENTIONS) % (1 + MATCHES)
    q = torch.full_like(p, torch.nan)
    for family in range(1 + MATCHES):
        q[rank == family] = benjamini_hochberg(p[rank == family])
    return [row | {"q": value} for row, value in zip(rows, q.tolist(), strict=True)]


def _effect_row(task: Measured, members: Sequence[Member], number: int, kind: int) -> Row:
    member, place = members[number], number % (1 + MATCHES)
    mine = task.effects[:, number // (1 + MATCHES), :, kind]
    others = [match for match in range(1, 1 + MATCHES) if match != place]
    effect = cluster_mean_interval(mine[:, place, None])
    change = task.by_item[number, kind]
    was, now = (value > 0 for value in (task.preference, task.preference + change))
    return {
        "task": task.name, "site": member.site, "layer": layer_of(member.site),
        "feature": member.feature, "role": member.role, "set": member.set,
        "intervention": INTERVENTIONS[kind], "items": len(change),
        "active_items": int((task.active[number] > 0).sum()), "units": len(mine),
        "effect": float(effect.estimate), "low": float(effect.low), "high": float(effect.high),
        "accuracy_change": float(now.double().mean() - was.double().mean()),
        **against(mine[:, place], mine[:, others].mean(1)),
    }  # fmt: skip


def against(effect: Float[Tensor, " unit"], matched: Float[Tensor, " unit"]) -> dict[str, float]:
    """Paired difference of a feature's effect and its matches' mean, over units.

    p is by the signs of the differences: nan where there is none.
    """
    gap = (effect - matched)[:, None]
    mean = cluster_mean_interval(gap)
    return {
        "difference": float(mean.estimate), "difference_low": float(mean.low),
        "difference_high": float(mean.high), "p": float(cluster_robust_t(gap).p),
    }  # fmt: skip


def _contrast_rows(measured: Sequence[Measured], generator: torch.Generator) -> Iterator[Row]:
    """Do the strongest features as a kind do more than their matches? The unit is the feature."""
    if not measured or measured[0].effects.shape[1] < FEWEST_SETS:
        return
    # [task set member intervention]
    sizes = torch.stack([task.effects.mean(0).abs() for task in measured])
    typical = sizes.square().mean((1, 2), keepdim=True).sqrt()
    scaled = (sizes / torch.where(typical > 0, typical, 1.0)).mean(0)
    names = [task.name for task in measured]
    apart = matched_set_test(sizes.movedim(0, 2).flatten(2), generator=generator)
    together = matched_set_test(scaled, generator=generator)
    yield from _contrasts(apart, sizes.movedim(0, 2).flatten(2), names, unit="nats")
    yield from _contrasts(together, scaled, [EVERY_TASK], unit="typical effects")


def _contrasts(
    test: MatchedSets, sizes: Float[Tensor, "set member column"], names: Sequence[str], *, unit: str
) -> Iterator[Row]:
    columns = [(name, kind) for name in names for kind in INTERVENTIONS]
    spread = cluster_mean_interval(sizes[:, 0] - sizes[:, 1:].mean(1))
    for at, (name, kind) in enumerate(columns):
        yield {
            "task": name, "intervention": kind, "sets": len(sizes),
            "top": float(sizes[:, 0, at].mean()), "matched": float(sizes[:, 1:, at].mean()),
            "difference": float(test.difference[at]), "low": float(spread.low[at]),
            "high": float(spread.high[at]), "null_sd": float(test.null_sd[at]),
            "p": float(test.p[at]), "p_max_t": float(test.p_adjusted[at]), "unit": unit,
        }  # fmt: skip


def _class_rows(
    material: Material, trained: Pass, classes: Sequence[Sequence[str]], store: Store
) -> Iterator[Row]:
    """Next-token loss by class of the token that follows, and what ablations change of it."""
    uniform = math.log(material.subject.loaded.vocab_size)
    document = trained.documents_of_half_b.unique(return_inverse=True)[1]
    follows = torch.tensor([[TOKEN_CLASSES.index(c) for c in window] for window in classes])
    follows = follows.roll(-1, dims=1)
    loss = torch.cat([piece["loss"] for piece in trained.scored.pieces[1::2]])
    windows = torch.arange(len(loss))
    own = _by_class(loss[:, :-1], windows, follows[:, :-1], document)
    changed = {
        rule: [
            torch.stack(sums).sum(0)
            for sums in zip(*_ablated(trained, store, rule, follows, document), strict=True)
        ]
        for rule in ("efas", "random")
    }
    for number, name in enumerate(TOKEN_CLASSES):
        mean, documents = _over_documents(*(part[:, number] for part in own))
        if not documents:
            continue
        row = {
            "class": name, "n_tokens": int(own[1][:, number].sum()), "n_documents": documents,
            "loss": mean[0], "low": mean[1], "high": mean[2], "chance": uniform,
            "can": mean[2] < uniform,
        }  # fmt: skip
        for rule, parts in changed.items():
            change, documents = _over_documents(*(part[:, number] for part in parts))
            row |= dict(zip((f"change_{rule}", f"change_{rule}_low", f"change_{rule}_high"),
                            change, strict=True))  # fmt: skip
            row[f"documents_{rule}"] = documents
        yield row


def _over_documents(
    sums: Float[Tensor, " document"], counts: Float[Tensor, " document"]
) -> tuple[tuple[float, float, float], int]:
    """Mean over documents of each one's own mean, its interval, and the documents behind it."""
    there = counts > 0
    means = (sums[there] / counts[there])[:, None]
    if len(means) < 2:
        return (float(means.mean()) if len(means) else NAN, NAN, NAN), len(means)
    mean = cluster_mean_interval(means)
    return (float(mean.estimate), float(mean.low), float(mean.high)), len(means)


def _ablated(
    trained: Pass, store: Store, rule: str, follows: Int[Tensor, "window pos"],
    document: Int[Tensor, " window"],
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """By site: change of the loss under ablation of features chosen by a rule, from the first
    changed position on."""
    for site in trained.benches:
        proof = store.tensors(f"proof.{site}")
        chosen = [f for f, by in store.record(f"proof.{site}")["choices"] if by == rule]
        mine = (proof["kind"] == KINDS.index(ABLATE)) & torch.isin(
            proof["feature"], torch.tensor(chosen, dtype=torch.long)
        )
        window, change = proof["window"][mine], proof["surprisal"][mine][:, :-1]
        reached = torch.arange(change.shape[1]) >= proof["first"][mine][:, None]
        yield _by_class(change, window, follows[window][:, :-1], document, reached)


def _by_class(
    values: Float[Tensor, "row pos"],
    window: Int[Tensor, " row"],
    follows: Int[Tensor, "row pos"],
    document: Int[Tensor, " window"],
    keep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums and counts of values by document and class, [document class]."""
    shape = (int(document.max()) + 1, len(TOKEN_CLASSES))
    where = (document[window][:, None].expand_as(follows), follows)
    weight = torch.ones(values.shape, dtype=torch.float64) if keep is None else keep.double()
    empty = torch.zeros(shape, dtype=torch.float64)
    return (
        empty.index_put(where, values.double() * weight, accumulate=True),
        empty.index_put(where, weight, accumulate=True),
    )


def behaviour_figures(tables: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, Estimate]:
    """Figures of the summary: accuracies beside chance, and the strongest beside their matches."""
    figures = {}
    for row in tables.get("behaviour_tasks", ()):
        if row["units"]:
            figures[f"behaviour_accuracy.{row['task']}"] = Estimate(
                row["accuracy"], "share of items", low=row["low"], high=row["high"],
                null_mean=row["chance"], null_sd=0.0, n=row["units"], n_unit=row["unit"],
                label=f"Accuracy, {row['task'].replace('_', ' ')}",
                note="null: the same answers judged by other units' questions",
            )  # fmt: skip
    for row in tables.get("behaviour_contrast", ()):
        if row["task"] == EVERY_TASK:
            figures[f"behaviour_contrast.{row['intervention']}"] = Estimate(
                row["difference"], "typical effects", low=row["low"], high=row["high"],
                null_mean=0.0, null_sd=row["null_sd"], p=row["p"], n=row["sets"],
                n_unit="features",
                label=f"Effect on behaviour beyond matched features, {row['intervention']}",
                note="null: any member of a matched set chosen in place of the strongest;"
                f" family-wise p {row['p_max_t']:.3f}",
            )  # fmt: skip
    if tables.get("behaviour"):
        figures["behaviour_beyond_matched"] = _beyond_matched(tables["behaviour"])
    return figures


def _beyond_matched(effects: Sequence[dict[str, Any]]) -> Estimate:
    """Effects apart from their matches', beside matches apart from each other."""
    top = [row for row in effects if row["role"] == TOP]
    tested = [row for row in top if not math.isnan(row["p"])]
    found = sum(is_beyond(row) for row in top)
    null = sum(is_beyond(row) for row in effects if row["role"] == MATCHED) / MATCHES
    bounds = poisson_interval(torch.tensor(found))
    return Estimate(
        found, f"of {len(tested):,} tested effects", low=float(bounds.low),
        high=float(bounds.high), null_mean=null, null_sd=math.sqrt(null),
        n=min(row["units"] for row in top), n_unit="units a task", undefined=len(top) - len(tested),
        label="Effects on behaviour apart from matched features",
        note="q ≤ .05 over units; null: a matched feature against the other matches",
    )  # fmt: skip


def is_beyond(row: Mapping[str, Any]) -> bool:
    """Whether an effect differs from its matches' at a false discovery rate of .05, on the far
    side of them."""
    return row["q"] <= LEVEL and row["effect"] * row["difference"] > 0
