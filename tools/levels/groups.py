"""Null worlds of basins, kinds of text, runs of the ablation, and features of two models."""

from typing import Any

import torch
from tools.levels.effects import DOCUMENTS, SITES, Kept, tailed
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.energy.basins import find_basins
from energylens.results.record import Summary
from energylens.sources.tokenizer import Tokenizer
from energylens.stats.groups import class_differences
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.studies.children import Outcome
from energylens.studies.energy_lens.attractors import FEATURE, FEWEST, STATE, TEXT
from energylens.studies.energy_lens.basin_tables import attractor_tables
from energylens.studies.energy_lens.tables import table
from energylens.studies.energy_lens.tally import HEADLINE
from energylens.studies.energy_lens_ablation.changes import (
    BASE,
    COUNTS,
    ENERGY,
    SHARES,
    SITE,
    change_rows,
)
from energylens.studies.energy_lens_ablation.outcomes import OUTCOMES
from energylens.studies.energy_lens_models.consistency import columns, consistency, side

# ---- basins

READ, SHIFTED = 12, 27  # tokens that ends read; states run down with and without a feature


class Letters(Tokenizer):
    """A tokenizer of one letter a token."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [chr(97 + i % 26) for i in ids]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(c) % 26 for c in text]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(self.convert_ids_to_tokens(token_ids))


def _ended(generator: torch.Generator, *, planted: bool) -> dict[str, Tensor]:
    """Ends of one site: a few tokens are read by most, and some ends read nothing clearly."""
    source = torch.tensor([TEXT, STATE]).repeat_interleave(DOCUMENTS)
    likely = 1.0 / torch.arange(1, READ + 1)
    token = likely.multinomial(2 * DOCUMENTS, replacement=True, generator=generator)
    if planted:
        token[: DOCUMENTS // 2] = 0
        token[DOCUMENTS:] = token[DOCUMENTS:].clamp(min=1)
    blurred = torch.rand(2 * DOCUMENTS, 1, generator=generator) < 0.2
    noise = torch.rand(2 * DOCUMENTS, READ, generator=generator)
    ends = torch.eye(READ)[token] + noise * torch.where(blurred, 1.0, 1e-3)
    basins = find_basins(ends.double(), fewest=FEWEST)
    window = torch.randint(DOCUMENTS, (SHIFTED,), generator=generator)
    shared = torch.randn(DOCUMENTS, 1, generator=generator)[window].exp()
    angle = shared * torch.randn(SHIFTED, 2, generator=generator).exp()
    switched = torch.rand(SHIFTED, 2, generator=generator) < (0.3 * shared).clamp(max=0.8)
    if planted:
        angle[:, 0] *= 4
        switched[:, 0] |= torch.rand(SHIFTED, generator=generator) < 0.6
    ones = torch.ones(2 * DOCUMENTS)
    return {
        "source": torch.cat([source, torch.full((SHIFTED,), FEATURE)]),
        "window": torch.cat([torch.arange(DOCUMENTS).repeat(2), window]),
        "place": torch.zeros(2 * DOCUMENTS + SHIFTED, dtype=torch.long),
        "basin": torch.cat([basins.basin, torch.full((SHIFTED,), -1)]),
        "basin_token": basins.centers.argmax(1), "token": token, "start_token": token,
        "converged": ones.bool(), "diverged": ~ones.bool(), "steps": ones, "energy": ones,
        "start_energy": ones, "turned": ones, "map": torch.zeros(2 * DOCUMENTS, 4),
        "shift_feature": torch.arange(SHIFTED) // 3, "shift_window": window,
        "shift_angle": angle[:, 0], "shift_angle_random": angle[:, 1],
        "shift_switched": switched[:, 0], "shift_switched_random": switched[:, 1],
        "shift_barrier": torch.zeros(SHIFTED),
    }  # fmt: skip


def _basins(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    found = {f"attractors.{site}": _ended(generator, planted=planted) for site in SITES}
    for tensors in found.values():  # rows of descents that the tables of basins do not read
        extra = len(tensors["source"]) - len(tensors["token"])
        for name in ("token", "start_token", "converged", "diverged", "steps", "energy",
                     "start_energy", "turned"):  # fmt: skip
            tensors[name] = torch.cat([tensors[name], tensors[name][:extra]])
    kinds = torch.randint(5, (DOCUMENTS,), generator=generator)
    if planted:
        kinds[: DOCUMENTS // 2] = 0
    classes = [["start", f"class {kind}"] for kind in kinds.tolist()]
    documents = {site: torch.arange(DOCUMENTS) for site in SITES}
    tables = {
        name: rows.to_pylist()
        for name, rows in attractor_tables(Kept(found, {}), documents, classes, Letters()).items()
    }

    def column(name: str, value: str, *, first: bool = False) -> Tensor:
        return torch.tensor([
            row[value] for row in tables[name]
            if not first or (row["token"] == "a" and row.get("class", "class 0") == "class 0")
        ])  # fmt: skip

    return {
        **{f"{name} {value}": column(name, value, first=planted)
           for name in ("basins", "basin_labels") for value in ("p", "q")},
        **{name: column("attractors", f"{name}_p") for name in ("angle", "switched")},
    }  # fmt: skip


# ---- kinds of text

KINDS, QUANTITIES, KIND_DRAWS = (30, 26, 20, 14, 9, 5), 12, 1999


def _kinds(generator: torch.Generator, *, planted: bool, spread: bool) -> dict[str, Tensor]:
    """Log-normal quantities that go together; a third of the documents lacks a quarter of them."""
    kind = torch.arange(len(KINDS)).repeat_interleave(torch.tensor(KINDS))
    units = len(kind)
    shared = torch.randn(units, 1, generator=generator, dtype=torch.float64)
    own = torch.randn(units, QUANTITIES, generator=generator, dtype=torch.float64)
    values = (shared + own) / 2**0.5
    threefold = 1 + kind[:, None] % 2 * 2
    values = values * threefold if spread else (0.7 * values).exp()
    if planted:
        values[kind == 0] += 1.5 * values.std()
    lacking = torch.rand(units, QUANTITIES // 4, generator=generator) < 1 / 3
    values[:, : QUANTITIES // 4][lacking] = torch.nan
    found = class_differences(
        values, torch.nn.functional.one_hot(kind).bool(), draws=KIND_DRAWS, generator=generator
    )
    q = benjamini_hochberg(found.p, draws=KIND_DRAWS)
    some = slice(1) if planted else slice(None)
    return {"p": found.p[some], "q": q[some]}


def _densities(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """Shares of active tokens: nil in most documents, skewed where not."""
    kind = torch.arange(len(KINDS)).repeat_interleave(torch.tensor(KINDS))
    frequent = 0.1 + 0.6 * torch.rand(QUANTITIES, generator=generator)
    there = torch.rand(len(kind), QUANTITIES, generator=generator) < frequent
    if planted:
        there[kind == 0] = True
    size = torch.randn(len(kind), QUANTITIES, generator=generator).exp()
    values = torch.where(there, 0.02 * size, 0.0).clamp(max=1)
    found = class_differences(
        values, torch.nn.functional.one_hot(kind).bool(), draws=KIND_DRAWS, generator=generator
    )
    q = benjamini_hochberg(found.p, draws=KIND_DRAWS)
    some = slice(1) if planted else slice(None)
    return {"p": found.p[some], "q": q[some]}


def _kind_claims(of: str, null: str) -> tuple[Claim, ...]:
    return (
        Claim(name="p", columns=(f"{of}.p",), function="`groups.class_differences`", null=null),
        Claim(name="q", columns=(f"{of}.q",), family=True, null="the same, for all rows",
              function="`multiplicity.benjamini_hochberg`"),
    )  # fmt: skip


# ---- runs of the ablation

SEEDS, CHANGED = 4, 5
ENERGIES = (HEADLINE, "tuned", "surprisal", "free_energy", "entropy")


def _changes(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """Runs that differ in their seeds alone; counts vary more than counting makes them."""
    runs, outcomes = [], []
    rate = 2 * float(torch.randn(1, generator=generator).exp())
    for number in range(SEEDS + CHANGED):
        base = number < SEEDS
        name = f"run-{number}"
        shift = 30.0 if planted and not base else 0.0
        normal = torch.randn(len(OUTCOMES), generator=generator, dtype=torch.float64)
        for place, outcome in enumerate(OUTCOMES):
            value = float(normal[place].mul(0.3).exp()) + shift
            if outcome in COUNTS:
                value = float(torch.poisson(torch.tensor(rate * value), generator=generator))
            if outcome in SHARES:
                mean = min(0.9, 0.02 * rate * value)
                value = float(torch.bernoulli(torch.full((500,), mean), generator=generator).mean())
            runs.append({
                "run": name, "factor": BASE if base else f"factor {number}", "level": number,
                "unit": "",
                "seed": number if base else 0, "outcome": outcome, "value": value, "low": value - 1,
                "high": value + 1, "n": 500,
            })  # fmt: skip
        outcomes.append(Outcome(name=name, summary=_summary(), tables={
            "layers": table(_layers(generator, rate, planted)),
        }))  # fmt: skip
    rows = change_rows(runs, outcomes)
    within = [row["factor"] in (ENERGY, SITE) for row in rows]
    p, q = (torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in "pq")
    here = torch.tensor(within)
    if planted:  # one site against all of them holds the planted energies on both sides
        here = torch.tensor([row["factor"] == ENERGY for row in rows])
    return {"options": p[~torch.tensor(within)], "pairs": p[here], "q": q}


def _layers(generator: torch.Generator, rate: float, planted: bool) -> list[dict[str, object]]:
    """Features beyond chance by site and energy; a run's energies see the same documents."""
    run = float((0.5 * torch.randn(1, generator=generator)).exp())
    rows = []
    for energy in ENERGIES:
        for site in SITES:
            mean = rate * run * (8 if planted and energy != HEADLINE else 1)
            count = int(torch.poisson(torch.tensor(mean), generator=generator))
            rows.append({"energy": energy, "site": site, "scored": 300, "beyond": min(count, 300)})
    return rows


def _summary() -> Summary:
    return Summary(study="energy-lens", subject="made up", finding="", detail="", grade="control",
                   figures={}, controls={}, cards=(), limits=(), suspicious=())  # fmt: skip


# ---- features of two models

PASSAGES, SEGMENTS, FEATURES, MATCH_DRAWS = 40, 6, 20, 99
STATISTICS = ("correlation", "efas_rank_correlation", "same_sign")


def _fires(generator: torch.Generator, topic: Tensor) -> Tensor:
    """Activations by passage and segment: oftener where the topic is, with tails."""
    shape = (PASSAGES, SEGMENTS, FEATURES)
    on = torch.rand(*shape, generator=generator) < 0.05 + 0.6 * topic
    return on * torch.randn(*shape, generator=generator).exp()


def _topics(generator: torch.Generator) -> Tensor:
    return torch.rand(PASSAGES, 1, FEATURES, generator=generator) < 0.3


def _matched(generator: torch.Generator, *, planted: bool, shared: str) -> dict[str, Tensor]:
    """Two models whose features share nothing, their topics alone, or everything but EFAS."""
    topic = _topics(generator)
    one = _fires(generator, topic)
    other = one if planted or shared == "features" else _fires(
        generator, topic if shared == "topics" else _topics(generator)
    )  # fmt: skip
    order = torch.randperm(FEATURES, generator=generator)
    other = (other + 0.1 * torch.rand(one.shape, generator=generator))[..., order]
    efas, unlike = (tailed(generator, FEATURES) for _ in range(2))
    found = consistency(side(one, efas), side(other, efas[order] if planted else unlike),
                        draws=MATCH_DRAWS, generator=generator)  # fmt: skip
    row = columns(found) if found else {}
    return {
        f"{name}_{null}": torch.tensor([row.get(f"{name}_{null}_p", torch.nan)])
        for name in STATISTICS for null in ("dealt", "turned")
    }  # fmt: skip


def _match_claims(names: tuple[str, ...], null: str) -> tuple[Claim, ...]:
    return tuple(
        Claim(name=name, columns=(f"models_matching.{name}_p",), null=null,
              function=f"`permutation.permutation_test`, {MATCH_DRAWS} draws")
        for name in names
    )  # fmt: skip


def _given(draw: Any, **kind: Any) -> Any:
    return lambda generator, planted: draw(generator, planted=planted, **kind)


_ALL_MATCHED = tuple(f"{name}_{null}" for name in STATISTICS for null in ("dealt", "turned"))
_OF_EFAS = tuple(name for name in _ALL_MATCHED if not name.startswith("correlation"))
_KINDS_SAY = (
    f"{sum(KINDS)} documents of kinds of {', '.join(map(str, KINDS))}, {QUANTITIES} quantities that"
    f" go together, {KIND_DRAWS:,} draws"
)
WORLDS = (
    World(
        name="basins",
        says=f"{DOCUMENTS} states of the text and as many random ones at each of three sites,"
        f" ends by one law, basins found from them; {SHIFTED} states of some documents run down"
        " without a feature and after a random step. Planted: half of the text runs into one"
        " basin, from tokens of one class; features turn ends four times as far",
        draw=_basins,
        note="The hypergeometric p of a small basin or class takes few values and is conservative"
        " for it.",
        claims=(
            Claim(name="basins p", columns=("basins.p",), function="`enrichment.enrichment_p`",
                  null="states of the text end as random states do"),
            Claim(name="basins q", columns=("basins.q", "basins.sink", "attractors.sinks"),
                  family=True, function="`multiplicity.benjamini_hochberg`",
                  null="the same, for all basins"),
            Claim(name="basin_labels p", columns=("basin_labels.p",),
                  function="`enrichment.enrichment_p`",
                  null="the basin has nothing to do with the class of the token"),
            Claim(name="basin_labels q", columns=("basin_labels.q",), family=True,
                  function="`multiplicity.benjamini_hochberg`", null="the same, for all rows"),
            *(Claim(name=name, columns=(f"attractors.{name}_p",),
                    function="`robust.cluster_robust_t`",
                    null="an ablation moves an end as far as a random step does")
              for name in ("angle", "switched")),
        ),
    ),
    World(
        name="kinds of text", draw=_given(_kinds, spread=False),
        says=f"{_KINDS_SAY}, log-normal (σ = .7). Planted: one kind is higher",
        claims=_kind_claims("text_classes", "documents are of kinds blindly"),
    ),
    World(
        name="kinds of text that differ in spread", draw=_given(_kinds, spread=True),
        says=f"{_KINDS_SAY}, normal; every other kind has three times the spread. Planted: one kind"
        " is higher",
        claims=_kind_claims("text_classes", "kinds have one mean and unlike variances"),
        note="Permutation is exact where nothing differs and nearly so where only variances do; a"
        " kind of five documents with three times the spread is where it is not.",
    ),
    World(
        name="densities by kind", draw=_densities,
        says=f"as above, of {QUANTITIES} features: nil in 30 to 90 % of the documents, log-normal"
        " in the others. Planted: active in every document of one kind",
        claims=_kind_claims("feature_classes", "documents are of kinds blindly"),
    ),
    World(
        name="ablation of the method",
        says=f"{SEEDS} seeds and {CHANGED} changed runs by one law: sizes log-normal, counts of a"
        " log-normal mean about 2, five energies at three sites that share the run. Planted:"
        " changed runs are far off, other energies find 8 times as many",
        draw=_changes,
        note="The spread is never taken below what counting alone gives, which for energies and"
        " sites of one run, whose counts go together, is more than they differ by.",
        claims=(
            Claim(name="options", function="`spread.change_from_repeats`",
                  columns=("ablation_changes.p", "ablation_changes.exceeds"),
                  null="a changed run is one more seed"),
            Claim(name="pairs", function="`spread.change_in_pairs`",
                  columns=("ablation_changes.p", "ablation_changes.exceeds"),
                  null="energies and sites find as many"),
            Claim(name="q", columns=("ablation_changes.q",), family=True,
                  function="`multiplicity.benjamini_hochberg`", null="both, for all rows"),
        ),
    ),
    World(
        name="two models",
        says=f"{FEATURES} features a model on {PASSAGES} passages of {SEGMENTS} segments, bound to"
        " topics of passages; the models share nothing. Planted: the same features with the same"
        " EFAS",
        draw=_given(_matched, shared="nothing"),
        claims=_match_claims(_ALL_MATCHED, "nothing is shared"),
    ),
    World(
        name="two models of one text",
        says="as above; features have the same topics, each its own places in a passage",
        draw=_given(_matched, shared="topics"),
        claims=_match_claims(("correlation_turned", *_OF_EFAS),
                             "topics are shared, places and EFAS are not"),
    ),
    World(
        name="two models of one kind",
        says="as above; features are the same, their EFAS are not",
        draw=_given(_matched, shared="features"),
        claims=_match_claims(_OF_EFAS, "features are shared, EFAS is not"),
    ),
)  # fmt: skip
