"""Behaviour: tasks the model can do, and what its strongest features have to do with it.

Features are chosen on half A of the text, by |t| of EFAS, and prompts are no part of the text, so
choice and measurement are independent. Beside each stand random features of the same site that are
active as often and as strongly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.activations.subject import Subject
from energylens.core.errors import InsufficientData
from energylens.core.ports import Progress, Store
from energylens.energy.behaviour import (
    Move,
    Prompts,
    answer_preference,
    exchanged_preferences,
    preference_changes,
)
from energylens.results.format import interval, percent
from energylens.sources.task import TASKS, Task
from energylens.stats.exchange import Accuracy, accuracy_beyond_exchange
from energylens.stats.matched_sets import draw_matched
from energylens.studies.energy_lens import EnergyLens
from energylens.studies.energy_lens.bench import Bench
from energylens.studies.energy_lens.material import Material
from energylens.studies.energy_lens.passes import Pass
from energylens.studies.energy_lens.scoring import Scored
from energylens.studies.energy_lens.statistics import SiteScores, score_half

ABLATE, DOUBLE, CLAMP = "ablate", "double", "clamp"
INTERVENTIONS = (ABLATE, DOUBLE, CLAMP)
TOP, MATCHED = "top", "matched"
MATCHES = 2
# Asking costs one pass, changing features fifty: so many times as many prompts are asked.
ASKED = 2
ITEMS_A_UNIT = 2
PLAN = "behaviour.plan"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A feature that is changed: one of the strongest, or one that matches it.

    Attributes:
        set: Which of the strongest it is or matches.
        role: `top` or `matched`.
        largest: Largest activation seen on held-out text, which `clamp` sets.
    """

    set: int
    role: str
    site: str
    feature: int
    largest: float


def choose_members(
    scores: Mapping[str, SiteScores],
    traits: Mapping[str, Float[Tensor, "feature trait"]],
    largest: Mapping[str, Float[Tensor, " feature"]],
    count: int,
    generator: torch.Generator,
) -> list[Member]:
    """The strongest features of all sites by |t|, each followed by its matches.

    A site gives no more than it has features to match them with.

    Args:
        traits: By site, what matches agree in: log density and log mean activation.
    """
    ranked = sorted(
        (-abs(float(found.t[feature])), site, feature)
        for site, found in scores.items()
        for feature in found.scored.nonzero()[:, 0].tolist()
    )
    room = {site: int(found.scored.sum()) // (1 + MATCHES) for site, found in scores.items()}
    top: list[tuple[str, int]] = []
    for _, site, feature in ranked:
        if len(top) < count and room[site]:
            top.append((site, feature))
            room[site] -= 1
    members = []
    for site in dict.fromkeys(site for site, _ in top):
        mine = [(number, feature) for number, (at, feature) in enumerate(top) if at == site]
        drawn = draw_matched(
            traits[site], scores[site].scored, [feature for _, feature in mine], MATCHES,
            generator=generator,
        )  # fmt: skip
        for (number, feature), matches in zip(mine, drawn, strict=True):
            members += [
                Member(set=number, role=MATCHED if place else TOP, site=site, feature=one,
                       largest=float(largest[site][one]))
                for place, one in enumerate([feature, *matches])
            ]  # fmt: skip
    return sorted(members, key=lambda member: (member.set, member.role == MATCHED))


def behave(
    material: Material, trained: Pass, options: EnergyLens, store: Store, progress: Progress,
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Give the model every task and, where it can do it, change features; a part a task."""
    if not options.behaviour_features:
        return
    if not store.done(PLAN):
        generator = torch.Generator().manual_seed(options.seed + 300)
        members = _plan(trained, options.behaviour_features, generator)
        store.save(PLAN, records={PLAN: {"members": [asdict(one) for one in members]}})
    say("asking the model for behaviour")
    for number, task in enumerate(TASKS.values()):
        if not store.done(f"behaviour.{task.name}"):
            generator = torch.Generator().manual_seed(options.seed + 301 + number)
            _one_task(task, material.subject, trained.benches, members_of(store), store,
                      count=options.behaviour_prompts, generator=generator,
                      progress=progress)  # fmt: skip


def members_of(store: Store) -> list[Member]:
    """The features of the run's plan: each of the strongest, followed by its matches."""
    return [Member(**one) for one in store.record(PLAN)["members"]]


def _plan(trained: Pass, count: int, generator: torch.Generator) -> list[Member]:
    half_a = Scored(pieces=trained.scored.pieces[::2])
    scores, traits, largest = {}, {}, {}
    for site, bench in trained.benches.items():
        scores[site] = score_half(trained.scored, site, bench, half=0)
        active = half_a.total(f"{site}/features/active").double()
        mean = half_a.total(f"{site}/features/total").double() / active
        traits[site] = torch.stack([active, mean], dim=1).log()
        largest[site] = trained.scored.largest(site, bench.dictionary.width)
    return choose_members(scores, traits, largest, count, generator)


def _one_task(
    task: Task,
    subject: Subject,
    benches: Mapping[str, Bench],
    members: Sequence[Member],
    store: Store,
    *,
    count: int,
    generator: torch.Generator,
    progress: Progress,
) -> None:
    part = f"behaviour.{task.name}"
    tokenizer = subject.loaded.tokenizer
    assert tokenizer is not None
    record = {"items": 0, "units": 0, "left_out": [], "can": False, "why": ""}
    try:
        made = task.generate(tokenizer, generator, ASKED * count)
        _must_fit(max(len(one.prompt) for one in made.items), subject, task)
    except InsufficientData as problem:
        store.save(part, records={part: record | {"why": str(problem)}})
        return
    prompts = Prompts.of(made.items, device=subject.device)
    found = measure_task(subject, benches, members, prompts, units=count // ITEMS_A_UNIT,
                         progress=progress, label=part)  # fmt: skip
    accuracy = found.accuracy
    record |= {
        "items": len(made.items), "units": accuracy.units, "left_out": list(made.left_out),
        "can": accuracy.can, "why": "" if accuracy.can else _why(accuracy),
        "accuracy": float(accuracy.accuracy.estimate), "low": float(accuracy.accuracy.low),
        "high": float(accuracy.accuracy.high), "chance": accuracy.chance,
    }  # fmt: skip
    store.save(part, records={part: record}, tensors={part: {
        "unit": found.unit.cpu(), "base": found.base.cpu(),
        "effects": found.effects.cpu(), "active": found.active.cpu(),
    }})  # fmt: skip


def _must_fit(longest: int, subject: Subject, task: Task) -> None:
    context = subject.loaded.context
    if context and longest > context:
        raise InsufficientData(
            f"task {task.name} has prompts of {longest} tokens and {subject.loaded.name} reads"
            f" {context}: use a model that reads more"
        )


def _why(accuracy: Accuracy) -> str:
    shares = [100 * float(getattr(accuracy.accuracy, end)) for end in ("estimate", "low", "high")]
    return (
        f"right in {interval(*shares)} %, and its answers to other questions are right in"
        f" {percent(accuracy.chance)}"
    )


@dataclass(frozen=True, kw_only=True)
class TaskFound:
    """What a model did on a task, and what changing features changed.

    Attributes:
        accuracy: Over all prompts asked.
        unit: Unit of each item that features were changed in.
        base: Preference for the answer over the foil, nats.
        effects: Change of it under each intervention on each feature; of no items where the model
            cannot do the task, since then nothing was changed.
        active: At how many positions of each item each feature is active.
    """

    accuracy: Accuracy
    unit: Int[Tensor, " item"]
    base: Float[Tensor, " item"]
    effects: Float[Tensor, "member intervention measured"]
    active: Float[Tensor, "member item"]


@torch.no_grad()
def measure_task(
    subject: Subject,
    benches: Mapping[str, Bench],
    members: Sequence[Member],
    prompts: Prompts,
    *,
    units: int,
    progress: Progress,
    label: str,
) -> TaskFound:
    """Accuracy beside chance; and, if it is above, the effect of every intervention.

    Args:
        units: Features are changed in the items of the first so many units.
    """
    sites = list(dict.fromkeys(member.site for member in members))
    final = "ln_final.normalized"
    with subject.capture(*sites, final, stop=True) as seen:
        subject.run(prompts.batch)
    rows = torch.arange(len(prompts.last), device=prompts.last.device)
    logits = subject.unembed(seen[final][rows, prompts.last])
    accuracy = accuracy_beyond_exchange(exchanged_preferences(logits, prompts), prompts.unit)
    some = (prompts.unit < units).nonzero()[:, 0]
    prompts = prompts.take(some)
    base = answer_preference(logits[some], prompts.answers, prompts.foils)
    shape = (len(members), len(INTERVENTIONS), len(base) if accuracy.can else 0)
    effects, active = base.new_zeros(shape), base.new_zeros(len(members), len(base))
    for site in sites:
        mine = [number for number, member in enumerate(members) if member.site == site]
        moves, states = [], seen[site][some]
        for number in mine:
            activation, there = _activation(benches[site], members[number], states, prompts)
            active[number] = (activation > 0).sum(1).to(active)
            clamped = torch.where(there, members[number].largest - activation, 0.0)
            direction = benches[site].dictionary.W_dec[members[number].feature]
            moves += [Move(change=change, direction=direction)
                      for change in (-activation, activation, clamped)]  # fmt: skip
        if accuracy.can:
            changed = preference_changes(
                subject, site, prompts, states, base, moves, progress=progress,
                label=f"{label} {site}",
            )  # fmt: skip
            effects[mine] = changed.view(len(mine), len(INTERVENTIONS), -1)
    return TaskFound(
        accuracy=accuracy, unit=prompts.unit, base=base, effects=effects, active=active
    )


def _activation(
    bench: Bench, member: Member, states: Float[Tensor, "item pos d_model"], prompts: Prompts
) -> tuple[Float[Tensor, "item pos"], Bool[Tensor, "item pos"]]:
    """Activation at every place, 0 outside the dictionary's domain, and where its domain is.

    The first position and massive states are outside, as everywhere in the study.
    """
    there = prompts.batch.mask & (prompts.batch.positions > 0)
    there = there.masked_scatter(there, bench.ordinary.holds(states[there]))
    code = bench.dictionary.encode(states[there])
    feature = torch.tensor([member.feature], device=states.device)
    activation = states.new_zeros(there.shape)
    return activation.masked_scatter(there, code.columns(feature)[:, 0]), there


def mean_by_unit(
    values: Float[Tensor, "... item"], unit: Int[Tensor, " item"]
) -> Float[Tensor, "unit ..."]:
    """Mean of the items of each unit."""
    number = unit.unique(return_inverse=True)[1]
    shape = (int(number.max()) + 1, *values.shape[:-1])
    sums = torch.zeros(shape, dtype=torch.float64).index_add(
        0, number, values.double().movedim(-1, 0)
    )
    counts = torch.bincount(number).double()
    return sums / counts.view(-1, *[1] * (sums.ndim - 1))
