"""The runs of the comparison: each model and its random-weight control, then the matching."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Nested, Progress, Store
from energylens.results.record import Summary
from energylens.sources.aligned import AlignedWindows, choose_passages, read_aligned
from energylens.sources.text import load_text
from energylens.studies.children import Outcome, joined, run_child
from energylens.studies.energy_lens.material import MIN_DOCUMENTS, gather
from energylens.studies.energy_lens.tables import table
from energylens.studies.energy_lens_models import EnergyLensModels
from energylens.studies.energy_lens_models.consistency import (
    Side,
    columns,
    consistency,
    side,
)
from energylens.studies.energy_lens_models.finding import summarise
from energylens.studies.energy_lens_models.measures import (
    depth_rows,
    fingerprints,
    relative_depth,
)
from energylens.studies.energy_lens_models.subjects import (
    RANDOM_WEIGHTS,
    TRAINED,
    Facts,
    available,
    read_all,
)
from energylens.studies.study import pin_inputs

KEPT = ("layers", "dictionaries", "controls", "features")
Row = dict[str, Any]


def run(
    options: EnergyLensModels, *, store: Store, progress: Progress, say: Callable[[str], None]
) -> Summary:
    """Energy-lens on every model and its control, |EFAS| by depth, and features matched."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    names, missing = available(options, say)
    models = read_all(names, options, store, say)
    pin_inputs(store, _inputs(models))
    aligned = _aligned(models, options)
    passages = _common(aligned, models, options)
    outcomes = []
    with progress.task("models, trained and random", len(models), "run") as advance:
        for facts in models:
            outcomes.append(_one(facts, aligned[facts.run], passages, options, store, progress,
                                 say))  # fmt: skip
            advance(1)
    depth = [row for facts in models for row in store.record(f"depth.{facts.run}")]
    say("matching features across models")
    matching, matches = _match(models, outcomes, options, store, progress)
    tables = {
        "models": table([_described(facts, outcome) for facts, outcome
                         in zip(models, outcomes, strict=True)]),
        "models_depth": table(depth),
        "models_matching": table(matching),
        "models_matches": table(matches),
        **{f"{name}_by_run": joined(outcomes, name) for name in KEPT},
    }  # fmt: skip
    store.save("tables", tables=tables)
    rows = {name: found.to_pylist() for name, found in tables.items()}
    return summarise(options, rows, outcomes, missing=missing, passages=len(passages))


def _inputs(models: Sequence[Facts]) -> dict[str, Any]:
    """The text, and every model by name; random weights are made from the model's own shape."""
    trained = [facts for facts in models if facts.weights == TRAINED]
    return {
        "text": trained[0].inputs["text"],
        **{f"model {facts.run}": facts.inputs["model"] for facts in trained},
    }


def _aligned(
    models: Sequence[Facts], options: EnergyLensModels
) -> dict[str, dict[int, AlignedWindows]]:
    """The same passages in each model's tokens; none is from a document that any dictionary was
    trained on."""
    corpus = load_text([Path(path) for path in options.text] or "default")
    passages = choose_passages(
        corpus, leave_out=frozenset().union(*(facts.read for facts in models)),
        count=options.passages, characters=options.passage,
        generator=torch.Generator().manual_seed(options.seed + 3),
    )  # fmt: skip
    if len(passages) < MIN_DOCUMENTS:
        raise BadInput(
            f"matching needs {MIN_DOCUMENTS} documents of {options.passage} characters that no"
            f" dictionary is trained on, and found {len(passages)}: give more text, or lower"
            " --train-tokens or --passage"
        )
    return {
        facts.run: read_aligned(passages, facts.tokenizer, options.context, segment=options.segment)
        for facts in models
    }


def _common(
    aligned: Mapping[str, Mapping[int, AlignedWindows]],
    models: Sequence[Facts],
    options: EnergyLensModels,
) -> list[int]:
    """Passages that every model reads; refuse if too few are left."""
    common = sorted(set.intersection(*(set(found) for found in aligned.values())))
    if len(common) < MIN_DOCUMENTS:
        worst = min(models, key=lambda facts: len(aligned[facts.run]))
        raise BadInput(
            f"the windows of the models cannot be aligned: of the passages of {options.passage}"
            f" characters, {len(aligned[worst.run])} have {options.context} tokens for"
            f" {worst.name} and {MIN_DOCUMENTS} are needed: raise --passage or lower --context"
        )
    return common


def _one(
    facts: Facts,
    aligned: Mapping[int, AlignedWindows],
    passages: Sequence[int],
    options: EnergyLensModels,
    store: Store,
    progress: Progress,
    say: Callable[[str], None],
) -> Outcome:
    def harvest(child: Nested) -> None:
        material = gather(facts.options, child, say)
        segments = -(-options.passage // options.segment)
        seen = fingerprints(material, facts, child, aligned, passages, segments)
        store.save(
            f"seen.{facts.run}", tensors={f"seen.{facts.run}": seen},
            records={f"depth.{facts.run}": depth_rows(material, facts, child)}, scratch=True,
        )  # fmt: skip

    return run_child("energy-lens", facts.options, facts.run, tables=KEPT, store=store,
                     progress=progress, say=say, harvest=harvest)  # fmt: skip


def _described(facts: Facts, outcome: Outcome) -> Row:
    beyond = outcome.summary.figures["features_beyond_chance.downstream"]
    layers = [row for row in outcome.tables["layers"].to_pylist() if row["energy"] == "downstream"]
    loss = outcome.summary.figures["model_loss"]
    return {
        "run": facts.run, "model": facts.name, "weights": facts.weights,
        "parameters": facts.parameters, "n_layers": facts.n_layers, "d_model": facts.d_model,
        "loss": float(loss.value), "loss_low": float(loss.low), "loss_high": float(loss.high),
        "scored": sum(row["scored"] for row in layers), "beyond": int(beyond.value),
        "beyond_low": float(beyond.low), "beyond_high": float(beyond.high),
        "n_documents": beyond.n,
    }  # fmt: skip


def _match(
    models: Sequence[Facts],
    outcomes: Sequence[Outcome],
    options: EnergyLensModels,
    store: Store,
    progress: Progress,
) -> tuple[list[Row], list[Row]]:
    """Every pair of models at like depths, both with their weights and both with random ones."""
    efas = {outcome.name: _efas(outcome) for outcome in outcomes}
    pairs = [pair for weights in (TRAINED, RANDOM_WEIGHTS)
             for pair in combinations([f for f in models if f.weights == weights], 2)]  # fmt: skip
    usable = _read_by_all(models, store)
    rows: list[Row] = []
    matches: list[Row] = []
    with progress.task("pairs of models", len(pairs), "pair") as advance:
        for number, (one, other) in enumerate(pairs):
            generator = torch.Generator().manual_seed(options.seed + 1000 + number)
            for site, other_site in _paired_sites(one, other):
                sides = [
                    side(store.tensor(f"seen.{facts.run}", at)[usable], efas[facts.run][at])
                    for facts, at in ((one, site), (other, other_site))
                ]
                found = consistency(*sides, draws=options.match_draws, generator=generator)
                if found is None:
                    continue
                place = {
                    "model": one.name, "other": other.name, "weights": one.weights,
                    "site": site, "other_site": other_site,
                }  # fmt: skip
                rows.append({
                    **place, "relative_depth": relative_depth(site, one.n_layers),
                    "features": len(sides[0].feature), "others": len(sides[1].feature),
                    "mutual": int(found.matches.mutual.sum()), **columns(found),
                })  # fmt: skip
                matches += _match_rows(place, sides, found.matches, found.judge)
            advance(1)
    return rows, matches


def _efas(outcome: Outcome) -> dict[str, Tensor]:
    """EFAS of every feature of each site; nan where undefined."""
    found: dict[str, list[float]] = {}
    for row in outcome.tables["features"].to_pylist():
        scored = row["status"] == "scored"
        found.setdefault(row["site"], []).append(row["efas"] if scored else float("nan"))
    return {site: torch.tensor(values, dtype=torch.float64) for site, values in found.items()}


def _read_by_all(models: Sequence[Facts], store: Store) -> Tensor:
    """Passages in which every segment has a scored token for every model."""
    masks = [store.tensor(f"seen.{facts.run}", facts.options.sites[0]).isfinite().all(2).all(1)
             for facts in models]  # fmt: skip
    usable = torch.stack(masks).all(0)
    if int(usable.sum()) < MIN_DOCUMENTS:
        raise BadInput(
            f"the windows of the models cannot be aligned: every segment has a scored token in"
            f" {int(usable.sum())} passages and {MIN_DOCUMENTS} are needed: raise --segment"
        )
    return usable


def _paired_sites(one: Facts, other: Facts) -> Iterator[tuple[str, str]]:
    """Each site of the first with the site of the second at the nearest relative depth."""
    for site in one.options.sites:
        depth = relative_depth(site, one.n_layers)
        yield site, min(other.options.sites,
                        key=lambda s: abs(relative_depth(s, other.n_layers) - depth))  # fmt: skip


def _match_rows(place: Row, sides: Sequence[Side], matches: Any, judge: Tensor) -> Iterator[Row]:
    """Features that are each other's best partner."""
    for i in matches.mutual.nonzero()[:, 0].tolist():
        j = int(matches.partner[i])
        yield {
            **place, "feature": int(sides[0].feature[i]), "other_feature": int(sides[1].feature[j]),
            "correlation_chosen": float(matches.correlation[i]), "correlation": float(judge[i]),
            "efas": float(sides[0].efas[i]), "other_efas": float(sides[1].efas[j]),
        }  # fmt: skip
