"""Five questions about trainings, answered with effect sizes, intervals and nulls.

The unit is the training run: sites of one network and samples of one training depend on each
other. A hypothesis is supported where q is at most .05 and the effect lies on the side that it
names, contradicted where it lies on the other, and otherwise not beyond its null. Nothing here says
what causes what: architectures were not dealt out to runs, and they differ in more than one way.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.dynamics.history import History
from energylens.dynamics.jump_types import JumpTypes
from energylens.stats.groups import class_differences
from energylens.stats.multiplicity import benjamini_hochberg, combined_p, two_sided_p
from energylens.stats.nulls import unit_permutation
from energylens.stats.placement import placement_test
from energylens.stats.ranking import rank_test, spearman_interval
from energylens.stats.rates import clustered_rate_interval
from energylens.stats.robust import cluster_mean_interval, cluster_robust_t
from energylens.stats.survival import log_rank
from energylens.studies.dynamics_analysis.events import dated

Row = dict[str, Any]
LEVEL = 0.05
EARLY, HALFWAY = 0.1, 0.5  # of the training
ESCAPED = 0.5  # of the fall of the loss
NEAR = 0.02  # of the training, within which two jumps are one event
SMOOTHED = 5  # samples of the loss
NAN = math.nan
ORDER, WHEN, WHY, ESCAPE, TOGETHER = (
    "In which order do layers settle?",
    "When do changes happen?",
    "Why do architectures differ?",
    "Escape from initialisation, or capability?",
    "Do changes go together?",
)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the questions are asked of, in one measure.

    Attributes:
        runs: Rows of the table of runs.
        jumps, settling, order, coordination, loss_link: Rows of those tables, of this measure.
        watched: First and last step, as shares of each run, at which a jump could be found.
        draws: Of every null.
    """

    measure: str
    runs: Sequence[Row]
    histories: Mapping[str, History]
    jumps: Sequence[Row]
    settling: Sequence[Row]
    order: Sequence[Row]
    coordination: Sequence[Row]
    loss_link: Sequence[Row]
    watched: Tensor
    draws: int

    @property
    def number(self) -> dict[str, int]:
        return {row["run"]: i for i, row in enumerate(self.runs)}

    def column(self, name: str) -> Tensor:
        """A column of the table of runs; nan where there is none."""
        return _tensor([row.get(name) for row in self.runs])

    def coded(self, name: str) -> Tensor:
        """A column of words as numbers."""
        words = [str(row.get(name)) for row in self.runs]
        return torch.tensor([sorted(set(words)).index(word) for word in words])

    def sites(self) -> Tensor:
        return _tensor([len(self.histories[row["run"]].sites) for row in self.runs])

    def placed(self) -> tuple[Tensor, Tensor]:
        """When each dated jump came, as a share of the watched part of its run, and of which."""
        jumps = dated(self.jumps)
        unit = torch.tensor([self.number[row["run"]] for row in jumps], dtype=torch.long)
        phase = _tensor([row["phase"] for row in jumps])
        return self.inside(phase, unit), unit

    def inside(self, phase: Tensor, unit: Tensor) -> Tensor:
        """Shares of a run as shares of its watched part."""
        first, last = self.watched[unit].T
        return ((phase - first) / (last - first)).clamp(0, 1)

    def rate(self, after: Tensor | None = None) -> Tensor:
        """Jumps by site and 1,000 steps of each run, or dated jumps by site after some phase."""
        unit = torch.tensor([self.number[row["run"]] for row in self.jumps], dtype=torch.long)
        counted = torch.ones(len(unit), dtype=torch.float64)
        if after is not None:
            counted = (_tensor([row["phase"] for row in self.jumps]) >= after[unit]).double()
        count = torch.zeros(len(self.runs), dtype=torch.float64).index_add(0, unit, counted)
        per = self.sites() if after is not None else self.sites() * self.column("num_steps") / 1000
        return count / per


def hypothesis_rows(
    materials: Sequence[Material], types: JumpTypes | None, generator: torch.Generator
) -> list[Row]:
    """Every hypothesis of every question, with q over all of them, and a verdict."""
    rows = []
    for material in materials:
        for question in (_order, _when, _why, _escape, _together):
            rows += [{"measure": material.measure, **row} for row in question(material, generator)]
    if len(materials) > 1:
        rows.append(_across(materials[0], materials[1], generator))
    rows.append(_of_types(types))
    p = _tensor([row["p"] for row in rows])
    q = benjamini_hochberg(p, draws=min(material.draws for material in materials)).tolist()
    for row, adjusted in zip(rows, q, strict=True):
        row["q"] = adjusted
        row["verdict"] = _verdict(row["effect"] - row["null_mean"], row.pop("side"), adjusted)
    return rows


def _verdict(beyond: float, side: int, q: float) -> str:
    if math.isnan(q) or math.isnan(beyond):
        return "undefined"
    if q > LEVEL:
        return "not beyond the null"
    return "supported" if side == 0 or beyond * side > 0 else "contradicted"


def _row(question: str, hypothesis: str, quantity: str, **found: Any) -> Row:
    """A row, nan where nothing is said; `side` is where the effect lies under the hypothesis, 0
    for either."""
    none = dict.fromkeys(("effect", "low", "high", "null_mean", "null_sd", "p"), NAN)
    return {
        "question": question, "hypothesis": hypothesis, "quantity": quantity, "unit": "", **none,
        "n": 0, "n_unit": "runs", "side": 1, **found,
    }  # fmt: skip


# ---- the questions


def _order(m: Material, generator: torch.Generator) -> Iterator[Row]:
    yield _mean(
        ORDER, "layers settle from the input up", "Spearman's ρ of depth and settling step",
        "correlation", _tensor([row["rho"] for row in m.order]),
    )  # fmt: skip
    unit = torch.tensor([m.number[row["run"]] for row in m.settling])
    length = m.column("num_steps")[unit]
    step = _tensor([row["settled_step"] for row in m.settling])
    share = torch.where(step.isfinite(), step / length, 1.0)
    spread = _spread(share, unit, len(m.runs))
    null = torch.stack([
        _spread(unit_permutation(share, generator), unit, len(m.runs)).nanmean()
        for _ in range(m.draws)
    ])  # fmt: skip
    yield _row(
        ORDER, "layers of one network settle together", "spread of their settling steps",
        unit="share of training", **_mean_of(spread), null_mean=float(null.mean()),
        null_sd=float(null.std()), p=float(two_sided_p(spread.nanmean(), null)), side=-1,
    )  # fmt: skip


def _when(m: Material, generator: torch.Generator) -> Iterator[Row]:
    for hypothesis, quantity, at in (
        ("jumps come early", "rate in the first tenth over that after it", EARLY),
        ("jumps cease half-way", "rate in the first half over that in the second", HALFWAY),
    ):
        yield _placed(m, WHEN, hypothesis, quantity, torch.full((len(m.runs),), at), generator)


def _why(m: Material, generator: torch.Generator) -> Iterator[Row]:
    rate, dataset = m.rate(), m.coded("dataset")
    names = sorted({str(row.get("family")) for row in m.runs})
    family = m.coded("family")
    member = torch.nn.functional.one_hot(family, len(names)).bool()
    found = (
        class_differences(rate[:, None], member, draws=m.draws, generator=generator)
        if len(m.runs) > 1 else None
    )  # fmt: skip
    for i, name in enumerate(names):
        ends = () if found is None else (found.difference.estimate, found.difference.low,
                                         found.difference.high, found.p)  # fmt: skip
        effect, low, high, p = (float(end[i, 0]) for end in ends) if ends else (NAN,) * 4
        yield _row(
            WHY, f"{name} networks jump at another rate than the others", "difference of means",
            effect=effect, unit="jumps by site and 1,000 steps", low=low, high=high,
            null_mean=0.0, p=p, n=int(member[:, i].sum()), side=0,
        )  # fmt: skip
    for name, of in (("depth", "deeper"), ("parameters", "larger")):
        yield _ranked(m, WHY, f"{of} networks jump more often", m.column(name), rate, dataset,
                      generator)  # fmt: skip
    yield _families_settle(m, family, generator)


def _families_settle(m: Material, family: Tensor, generator: torch.Generator) -> Row:
    unit = torch.tensor([m.number[row["run"]] for row in m.settling])
    censored = torch.tensor([row["censored"] for row in m.settling])
    length = m.column("num_steps")[unit]
    step = _tensor([row["settled_step"] for row in m.settling]) / length
    time = torch.where(censored, 1.0, step)
    found = log_rank(time, censored, family[unit], generator, unit=unit, draws=m.draws)
    pace = (found.excess + found.expected) / found.expected
    return _row(
        WHY, "families settle at different times", "most over least of settled over expected",
        effect=float(pace.amax() / pace.amin()), unit="ratio", null_mean=1.0, p=found.p,
        n=len(m.runs), side=0,
    )  # fmt: skip


def _escape(m: Material, generator: torch.Generator) -> Iterator[Row]:
    escaped = _tensor([_escape_phase(m.histories[row["run"]], row) for row in m.runs])
    yield _placed(
        m, ESCAPE, "jumps come while the loss falls first",
        "rate until half of the fall of the loss over that after it", escaped, generator,
    )  # fmt: skip
    chance = m.column("chance_accuracy")
    skill = (m.column("final_accuracy") - chance) / (1 - chance)
    dataset = m.coded("dataset")
    for hypothesis, count in (
        ("networks that jump more often are more accurate", m.rate()),
        (
            "networks that jump after the first fall are more accurate",
            m.rate(escaped.nan_to_num(2)),
        ),
    ):
        yield _ranked(m, ESCAPE, hypothesis, count, skill, dataset, generator)


def _together(m: Material, generator: torch.Generator) -> Iterator[Row]:
    for hypothesis, end in (
        ("layers change together", "_course"), ("layers change together beyond a common course", "")
    ):  # fmt: skip
        null = _tensor([row[f"null_mean{end}"] for row in m.coordination])
        strength = _tensor([row[f"strength{end}"] for row in m.coordination])
        p, _ = combined_p(_tensor([row[f"p{end}"] for row in m.coordination]), draws=m.draws)
        yield _row(TOGETHER, hypothesis, "variance of coordination over that of turned series",
                   unit="ratio", **_mean_of(strength / null), null_mean=1.0, p=p)  # fmt: skip
    size = _tensor([abs(row["correlation"]) for row in m.loss_link])
    null = _tensor([row["null_mean"] for row in m.loss_link])
    p, _ = combined_p(_tensor([row["p"] for row in m.loss_link]), draws=m.draws)
    yield _row(
        TOGETHER, "layers change when the loss does", "largest lagged correlation",
        unit="correlation", **_mean_of(size), null_mean=float(null.nanmean()), p=p,
    )  # fmt: skip
    beyond = [row["share_falling"] - row["base_rate"] for row in m.loss_link]
    yield _mean(TOGETHER, "the loss falls when layers change fast",
                "share of falls at critical moments minus that at all", "share",
                _tensor(beyond))  # fmt: skip


def _across(one: Material, other: Material, generator: torch.Generator) -> Row:
    """Whether jumps in two measures are the same events."""
    row = {
        "hypothesis": f"jumps of {one.measure} are jumps of {other.measure}",
        "quantity": "share with a jump of the other at the same site, within 2 % of the training",
        "unit": "share", "question": TOGETHER,
    }  # fmt: skip
    base = {"measure": f"{one.measure}, {other.measure}"}
    ours, theirs = dated(one.jumps), dated(other.jumps)
    if not ours or not theirs:
        return base | _row(**row)
    (time, unit), (there, of) = one.placed(), other.placed()
    same = torch.tensor([[a["run"] == b["run"] and a["site"] == b["site"] for b in theirs]
                         for a in ours])  # fmt: skip

    def met(turn: Tensor) -> Tensor:
        apart = (time[:, None] - (there + turn[of]) % 1).abs()
        return ((torch.minimum(apart, 1 - apart) <= NEAR) & same).any(1).double()

    runs = len(one.runs)
    found = met(torch.zeros(runs, dtype=torch.float64))
    null = torch.stack([
        met(torch.rand(runs, generator=generator, dtype=torch.float64)).mean()
        for _ in range(one.draws)
    ])  # fmt: skip
    hits = torch.zeros(runs, dtype=torch.float64).index_add(0, unit, found)
    count = torch.bincount(unit, minlength=runs)
    some = count > 0
    ends = clustered_rate_interval(hits[some], count[some]) if int(some.sum()) > 1 else None
    return base | _row(
        **row, effect=float(found.mean()), low=NAN if ends is None else float(ends.low),
        high=NAN if ends is None else float(ends.high), null_mean=float(null.mean()),
        null_sd=float(null.std()), p=float(two_sided_p(found.mean(), null)), n=int(some.sum()),
    )  # fmt: skip


def _of_types(types: JumpTypes | None) -> Row:
    row = {"question": TOGETHER, "hypothesis": "jumps are of several types",
           "quantity": "mean silhouette of phase, size, speed and depth", "unit": "silhouette",
           "n_unit": "jumps"}  # fmt: skip
    if types is None:
        return {"measure": "all"} | _row(**row)
    # Beyond both nulls: beyond the one that is harder to beat.
    dealt = (types.null_mean, types.null_sd, types.p)
    smooth = (types.smooth_mean, types.smooth_sd, types.smooth_p)
    mean, sd, p = max(dealt, smooth, key=lambda null: null[2])
    return {"measure": "all"} | _row(
        **row, effect=types.silhouette, null_mean=mean, null_sd=sd, p=p, n=sum(types.sizes)
    )


# ---- kinds of rows


def _mean(question: str, hypothesis: str, quantity: str, unit: str, values: Tensor) -> Row:
    """A mean over runs that is 0 under the null, by flipping the signs of runs."""
    known = values[values.isfinite()][:, None]
    p = float(cluster_robust_t(known).p) if len(known) > 1 else NAN
    return _row(
        question, hypothesis, quantity, unit=unit, **_mean_of(values), null_mean=0.0,
        null_sd=float(known.square().sum().sqrt() / max(len(known), 1)), p=p,
    )  # fmt: skip


def _mean_of(values: Tensor) -> Row:
    known = values[values.isfinite()][:, None]
    if len(known) < 2:
        return {"effect": float(known.mean()), "n": len(known)}
    ends = cluster_mean_interval(known)
    return {"effect": float(ends.estimate), "low": float(ends.low), "high": float(ends.high),
            "n": len(known)}  # fmt: skip


def _placed(
    m: Material, question: str, hypothesis: str, quantity: str, phase: Tensor,
    generator: torch.Generator,
) -> Row:  # fmt: skip
    """Rates before and after a phase of each run, of the runs in which there is such a phase."""
    row = (question, hypothesis, quantity)
    boundary = m.inside(phase, torch.arange(len(m.runs)))
    usable = (boundary > 0) & (boundary < 1)
    time, unit = m.placed()
    here = usable[unit]
    number = usable.long().cumsum(0) - 1
    try:
        found = placement_test(time[here], number[unit[here]], boundary[usable], generator,
                               weight=m.sites()[usable], draws=m.draws)  # fmt: skip
    except InsufficientData:
        return _row(*row, unit="ratio")
    return _row(
        *row, effect=float(found.ratio.estimate), unit="ratio", low=float(found.ratio.low),
        high=float(found.ratio.high), null_mean=found.null_mean, null_sd=found.null_sd, p=found.p,
        n=int(usable.sum()),
    )  # fmt: skip


def _ranked(
    m: Material, question: str, hypothesis: str, x: Tensor, y: Tensor, stratum: Tensor,
    generator: torch.Generator,
) -> Row:  # fmt: skip
    found = rank_test(x, y, generator, stratum=stratum, draws=m.draws)
    n = int((x.isfinite() & y.isfinite()).sum())
    ends = spearman_interval(float(found.rho), n)
    return _row(
        question, hypothesis, "Spearman's ρ within data sets", effect=float(found.rho),
        unit="correlation", low=float(ends.low), high=float(ends.high), null_mean=0.0,
        p=float(found.p), n=n,
    )  # fmt: skip


def _spread(share: Tensor, unit: Tensor, units: int) -> Tensor:
    """Largest minus smallest of each unit; nan where it has fewer than two."""
    largest = torch.full((units,), -torch.inf, dtype=share.dtype)
    largest = largest.scatter_reduce(0, unit, share, "amax")
    least = -largest.new_full((units,), -torch.inf).scatter_reduce(0, unit, -share, "amax")
    return torch.where(torch.bincount(unit, minlength=units) > 1, largest - least, torch.nan)


def _escape_phase(history: History, run: Row) -> float:
    """Share of the training at which the loss had half of its fall behind it; nan without one."""
    loss = history.training.get("loss")
    if loss is None or len(loss) < SMOOTHED or not bool(loss.isfinite().all()):
        return NAN
    smooth = loss.double().unfold(0, SMOOTHED, 1).median(1).values
    least = smooth.cummin(0).values[-1]
    half = smooth[0] - ESCAPED * (smooth[0] - least)
    if not bool(smooth[0] > least):
        return NAN
    return float(history.steps[SMOOTHED // 2 + int((smooth <= half).int().argmax())]) / float(
        run["num_steps"]
    )


def _tensor(values: Sequence[Any]) -> Tensor:
    return torch.tensor([NAN if value is None else value for value in values], dtype=torch.float64)
