"""Null worlds of watched trainings: when they settle, jump, and change together."""

from collections.abc import Mapping
from typing import Any

import torch
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.dynamics.critical_periods import coordination, loss_link
from energylens.dynamics.history import History
from energylens.dynamics.jump_types import jump_types
from energylens.dynamics.jumps import JumpOptions
from energylens.dynamics.order import order_of_settling
from energylens.dynamics.settling import settling
from energylens.stats.multiplicity import benjamini_hochberg
from energylens.studies.dynamics_analysis.events import jump_rows
from energylens.studies.dynamics_analysis.hypotheses import Material, hypothesis_rows

RUNS, SITES, SAMPLES, DRAWS = 5, 6, 200, 399
MEASURE = "stable_rank"
STEPS = 5 * torch.arange(SAMPLES)


def _noise(series: int, correlation: float, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(series, SAMPLES, generator=generator, dtype=torch.float64)
    for t in range(1, SAMPLES):
        drawn[:, t] = correlation * drawn[:, t - 1] + (1 - correlation**2) ** 0.5 * drawn[:, t]
    return drawn


def _with_q(p: list[float]) -> tuple[Tensor, Tensor]:
    found = torch.tensor(p, dtype=torch.float64)
    return found, benjamini_hochberg(found, draws=DRAWS)


def _orders(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Sites that settle at times of their own; planted: from the input up."""
    rows = []
    for _ in range(RUNS):
        pace = 10 + 200 * torch.rand(SITES, 1, generator=generator, dtype=torch.float64)
        pace = pace.sort(0).values if planted else pace
        values = 5 - 5 * torch.exp(-STEPS / pace) + 0.05 * _noise(SITES, 0.3, generator)
        found = settling(values, STEPS)
        depth = torch.linspace(0, 1, SITES)
        order = order_of_settling(found.step, found.censored, depth, 5 * SAMPLES, generator,
                                  draws=DRAWS)  # fmt: skip
        rows.append(order.p)
    p, q = _with_q(rows)
    return {"p": p, "q": q}


def _together(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Sites and a loss whose changes have nothing in common; planted: eight shared moments."""
    found: dict[str, list[float]] = {name: [] for name in ("sites", "whole", "loss", "turned")}
    for _ in range(RUNS):
        shared = torch.zeros(SAMPLES, dtype=torch.float64)
        if planted:
            shared[torch.randperm(SAMPLES, generator=generator)[:8]] = 6.0
        values = (_noise(SITES, 0.3, generator) + shared).cumsum(1)
        loss = (_noise(1, 0.3, generator)[0] - shared).cumsum(0)
        one = coordination(values, STEPS, generator, draws=DRAWS)
        other = loss_link(values, STEPS, loss, generator, draws=DRAWS)
        for name, p in zip(found, (one.beyond.p, one.whole.p, other.p, other.p_course),
                           strict=True):  # fmt: skip
            found[name].append(p)
    sites, sites_q = _with_q(found["sites"])
    loss_p, loss_q = _with_q(found["loss"])
    return {"sites": sites, "sites q": sites_q, "whole": torch.tensor(found["whole"]),
            "loss": loss_p, "loss q": loss_q, "turned": torch.tensor(found["turned"])}  # fmt: skip


def _jumps(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Smooth courses with noise that shrinks; planted: a step of six standard deviations."""
    steady = torch.exp(-STEPS / 300.0) + 0.5
    pace = 30 + 200 * torch.rand(SITES, 1, generator=generator, dtype=torch.float64)
    values = 20 * torch.exp(-STEPS / pace) + steady * _noise(SITES, 0.4, generator)
    if planted:
        values = values + 4.0 * (STEPS >= 600)
    history = History(
        steps=STEPS, sites=tuple(f"{i}" for i in range(SITES)), values={MEASURE: values},
        again={}, ceiling=torch.full((SITES,), 64), training={},
    )  # fmt: skip
    rows = jump_rows({"one": history}, {"one": 5 * SAMPLES}, (MEASURE,), generator, JumpOptions())
    return {name: torch.tensor([min((row[name] for row in rows), default=1.0)])
            for name in ("p", "q")}  # fmt: skip


def _types(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Jumps whose features are independent, or large where they are fast; planted: two types."""
    normal = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    if planted:
        normal[:30] += 3.0

    def judged(normal: Tensor) -> Any:
        phase, depth = torch.special.ndtr(normal[:, 0] / 2), torch.special.ndtr(normal[:, 3] / 2)
        features = torch.stack([phase, normal[:, 1].exp(), normal[:, 2].exp(), depth], 1)
        return jump_types(features, generator, most=2, draws=39, samples=1)

    dealt = judged(normal)
    mixed = normal.clone()
    mixed[:, 2] = 0.8 * normal[:, 1] + 0.6 * normal[:, 2]
    smooth = judged(mixed)
    return {"dealt": torch.tensor([dealt.p]), "smooth": torch.tensor([smooth.smooth_p]),
            "both": torch.tensor([1.0 - smooth.beyond_chance])}  # fmt: skip


def _hypotheses(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Tables of twenty trainings in which nothing goes with anything; planted: early jumps."""
    runs = 20
    rows = [
        {"run": f"{i}", "family": "abc"[i % 3], "dataset": "de"[i % 2], "depth": 3 + i % 5,
         "parameters": 100 * (1 + i % 7), "num_steps": 1000, "chance_accuracy": 0.1,
         "final_accuracy": float(torch.rand(1, generator=generator))} for i in range(runs)
    ]  # fmt: skip
    loss = 2 * torch.exp(-STEPS / 200.0)
    ones = torch.ones(3, SAMPLES)
    histories = {
        row["run"]: History(steps=STEPS, sites=("a", "b", "c"), values={MEASURE: ones}, again={},
                            ceiling=torch.ones(3).long(), training={"loss": loss})
        for row in rows
    }  # fmt: skip
    many = torch.poisson(torch.full((runs,), 4.0), generator=generator).long()
    jumps = []
    for i in range(runs):
        phase = torch.rand(int(many[i]), generator=generator)
        phase = phase * 0.1 if planted else phase
        jumps += [{"run": f"{i}", "site": "a", "phase": at} for at in phase.tolist()]
    noise = torch.randn(2, runs, generator=generator)
    p = ((1 + torch.randint(0, 1 + DRAWS, (3, runs), generator=generator)) / (1 + DRAWS)).tolist()
    known = {"strength": 1.0, "null_mean": 1.0, "strength_course": 1.0, "null_mean_course": 1.0}
    settled = 1000 * torch.rand(runs, 3, generator=generator)
    material = Material(
        measure=MEASURE, runs=rows, histories=histories, jumps=jumps, draws=DRAWS,
        settling=[{"run": f"{i}", "settled_step": step, "censored": False}
                  for i in range(runs) for step in settled[i].tolist()],
        order=[{"rho": float(x)} for x in noise[0]],
        coordination=[{**known, "p": a, "p_course": b} for a, b in zip(p[0], p[1], strict=True)],
        loss_link=[{"correlation": 0.1, "null_mean": 0.1, "p": a, "base_rate": 0.5,
                    "share_falling": 0.5 + float(x)} for a, x in zip(p[2], noise[1], strict=True)],
        watched=torch.tensor([[0.0, 1.0]] * runs, dtype=torch.float64),
    )  # fmt: skip
    found = hypothesis_rows([material], None, generator)
    if planted:
        found = [row for row in found if row["hypothesis"] == "jumps come early"]
    judged = [float(row["verdict"] not in ("supported", "contradicted")) for row in found]
    return {
        **{name: torch.tensor([row[name] for row in found]) for name in ("p", "q")},
        "verdict": torch.tensor(judged),
    }  # fmt: skip


WORLDS = (
    World(
        name="order of settling", draw=_orders,
        says=f"{RUNS} trainings of {SITES} sites, each of which approaches its plateau at a pace of"
        " its own. Planted: the paces are those of depth",
        claims=(
            Claim(name="p", columns=("order.p",), function="`ranking.rank_test`",
                  null="depth has nothing to do with when a site settles"),
            Claim(name="q", columns=("order.q",), family=True, null="the same, for all trainings",
                  function="`multiplicity.benjamini_hochberg`"),
        ),
    ),
    World(
        name="critical periods", draw=_together,
        says=f"{RUNS} trainings of {SITES} sites and a loss whose changes are autoregressive and"
        " have nothing in common. Planted: all move at eight moments",
        claims=(
            Claim(name="sites", columns=("coordination.p",),
                  function="`comovement.comovement_test`",
                  null="sites change each in its own time"),
            Claim(name="sites q", columns=("coordination.q",), family=True,
                  null="the same, for all trainings", function="`multiplicity.benjamini_hochberg`"),
            Claim(name="whole", columns=("coordination.p_course",),
                  function="`comovement.comovement_test`", null="the same, and no common course"),
            Claim(name="loss", columns=("loss_link.p",), function="`comovement.lagged_link`",
                  null="the loss changes in its own time"),
            Claim(name="loss q", columns=("loss_link.q",), family=True,
                  null="the same, for all trainings", function="`multiplicity.benjamini_hochberg`"),
            Claim(name="turned", columns=("loss_link.p_course",),
                  function="`comovement.lagged_link`", null="the same, and no common course"),
        ),
        note="Turns of the whole loss by fewer places than twice the lags looked at are left out of"
        " `loss_link.p_course`, or no p would be small, and with them the best of its null: it is a"
        " description of a common course. `loss_link.p` is the test.",
    ),
    World(
        name="jumps", draw=_jumps,
        says=f"{SITES} series of {SAMPLES} samples that approach a plateau, with autoregressive"
        " noise that shrinks. Planted: a step",
        claims=tuple(
            Claim(name=name, columns=(f"jumps.{name}", f"progress_jumps.{name}"), family=True,
                  function="`changepoint.tail_p`" if name == "p" else
                  "`multiplicity.benjamini_hochberg`",
                  null="no series jumps; the table has those with q ≤ .05 alone")
            for name in ("p", "q")
        ),
    ),
    World(
        name="types of jumps", draw=_types,
        says="60 jumps whose features are independent (the first row), or large where they are fast"
        " (the others). Planted: two types",
        claims=(
            Claim(name="dealt", columns=("jump_types.p",), function="`multiplicity.resampling_p`",
                  null="features have nothing to do with each other"),
            Claim(name="smooth", columns=("jump_types.smooth_p",),
                  function="`multiplicity.resampling_p`", null="features go together smoothly"),
            Claim(name="both", columns=("jump_types.beyond_chance",), levels=(0.05,),
                  function="both p at most .05", null="features go together smoothly"),
        ),
    ),
    World(
        name="five questions", draw=_hypotheses,
        says="Tables of 20 trainings in which nothing goes with anything. Planted: all jumps come"
        " in the first tenth",
        claims=(
            Claim(name="p", columns=("hypotheses.p",), function="the test of each question",
                  null="no effect"),
            Claim(name="q", columns=("hypotheses.q",), family=True,
                  null="no effect in any question", function="`multiplicity.benjamini_hochberg`"),
            Claim(name="verdict", columns=("hypotheses.verdict",), family=True, levels=(0.05,),
                  function="q ≤ .05", null="no effect in any question"),
        ),
    ),
)  # fmt: skip
