"""Null worlds of what interventions measure: calibration, contest, behaviour."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.core.ports import Store
from energylens.stats.exchange import accuracy_beyond_exchange
from energylens.studies.energy_lens import behaviour_tables
from energylens.studies.energy_lens.behaviour import INTERVENTIONS, MATCHED, MATCHES, TOP, Member
from energylens.studies.energy_lens.calibration import (
    calibration_by_rule,
    calibration_rows,
    pooled_calibration,
)
from energylens.studies.energy_lens.contest import SCORES
from energylens.studies.energy_lens.contest_tables import contest_rows
from energylens.studies.energy_lens.proof import ABLATE, KINDS, RULES

SITES = tuple(f"blocks.{layer}.resid_post" for layer in (0, 1, 2))
# What the default budget intervenes on: features a site, windows a feature, documents of half B.
FEATURES, CONTEXTS, DOCUMENTS = 9, 5, 52


class Kept(Store):
    """As much of a store as the tables read: tensors and records by name."""

    def __init__(self, tensors: Mapping[str, dict[str, Tensor]], records: Mapping[str, Any]):
        self._tensors, self._records = tensors, records

    def done(self, part: str) -> bool:
        return part in self._tensors

    def tensors(self, name: str) -> dict[str, Tensor]:
        return self._tensors[name]

    def tensor(self, name: str, key: str) -> Tensor:
        return self._tensors[name][key]

    def record(self, name: str) -> Any:
        return self._records[name]


def tailed(generator: torch.Generator, *shape: int) -> Tensor:
    """Symmetric with heavy tails: a normal of log-normal size."""
    size = torch.randn(*shape, generator=generator, dtype=torch.float64).exp()
    return size * torch.randn(*shape, generator=generator, dtype=torch.float64)


def _choices() -> dict[str, Any]:
    return {
        f"proof.{site}": {"choices": [[f, RULES[f % len(RULES)]] for f in range(FEATURES)]}
        for site in SITES
    }


# ---- calibration


def _proofs(generator: torch.Generator, *, planted: bool, sized: bool) -> Kept:
    """Ablations of the features of three sites; documents shift what is measured for all."""
    hard = torch.randn(DOCUMENTS, generator=generator, dtype=torch.float64)
    tensors = {}
    for site in SITES:
        predicted, own = (tailed(generator, FEATURES)[:, None] for _ in range(2))
        size = torch.ones(FEATURES, 1, dtype=torch.float64)
        if sized:
            size = (1.5 * torch.randn(FEATURES, 1, generator=generator, dtype=torch.float64)).exp()
            predicted, own = (torch.randn(FEATURES, 1, generator=generator, dtype=torch.float64)
                              for _ in range(2))  # fmt: skip
        window = torch.stack([
            torch.randperm(DOCUMENTS, generator=generator)[:CONTEXTS] for _ in range(FEATURES)
        ])  # fmt: skip
        shape = (FEATURES, CONTEXTS)
        slope = predicted * (1 + 0.5 * torch.rand(*shape, generator=generator).double())
        measured = (predicted if planted else own) + 0.5 * hard[window]
        measured = measured + 0.5 * tailed(generator, *shape)
        tensors[f"proof.{site}"] = {
            "feature": torch.arange(FEATURES).repeat_interleave(CONTEXTS),
            "window": window.flatten(), "kind": torch.full((window.numel(),), KINDS.index(ABLATE)),
            "predicted": (size * slope).flatten(), "measured": (size * measured).flatten(),
        }  # fmt: skip
    return Kept(tensors, _choices())


def _calibration(generator: torch.Generator, *, planted: bool, sized: bool) -> dict[str, Tensor]:
    store = _proofs(generator, planted=planted, sized=sized)
    documents = {site: torch.arange(DOCUMENTS) for site in SITES}
    tables = {
        "calibration": list(calibration_rows(store, SITES, documents, seed=0)),
        "calibration_rules": list(calibration_by_rule(store, SITES, documents, seed=0)),
        "calibration_pooled": [pooled_calibration(store, SITES, documents, seed=0)],
    }
    return {
        f"{name}.{what}": torch.tensor([row[f"null_{what}_p"] for row in rows])
        for name, rows in tables.items()
        for what in ("correlation", "rank_correlation")
    }


def _calibration_claims(null: str) -> tuple[Claim, ...]:
    return tuple(
        Claim(name=f"{table}.{what}", columns=(f"{table}.null_{what}_p",),
              function=f"2,000 shuffles in `energy_lens.calibration`, {behind}", null=null)
        for table, behind in (("calibration", f"{FEATURES} features"),
                              ("calibration_rules", f"{FEATURES} features of three sites"),
                              ("calibration_pooled", f"{FEATURES * len(SITES)} features"))
        for what in ("correlation", "rank_correlation")
    )  # fmt: skip


# ---- contest


def _contest(generator: torch.Generator, *, planted: bool, uneven: bool) -> dict[str, Tensor]:
    """Scores and effects in seven windows a site; a score is defined where an effect is."""
    windows, sites = 7, SITES[:2]
    tensors, records = {}, _choices()
    for site in sites:
        shape = (windows, FEATURES)
        fewest = 1 if uneven else 5
        some = torch.randint(fewest, windows + 1 if uneven else 6, (FEATURES,), generator=generator)
        rank = torch.rand(*shape, generator=generator).argsort(0).argsort(0)
        hard = torch.randn(windows, 1, generator=generator, dtype=torch.float64)
        effect = tailed(generator, FEATURES)
        scores = tailed(generator, len(SCORES), 1, FEATURES)
        scores = (effect.expand_as(scores) if planted else scores) + 0.5 * hard
        scores = scores + 0.5 * tailed(generator, len(SCORES), *shape)
        measured = effect + 0.5 * hard.flip(0) + 0.5 * tailed(generator, *shape)
        tensors[f"contest.{site}"] = {
            "feature": torch.arange(FEATURES),
            "scores": scores,
            "window": torch.randperm(DOCUMENTS, generator=generator)[:windows],
            "measured": torch.where(rank < some, measured, torch.nan),
        }
        records[f"contest.{site}"] = {"absent": {}}
    documents = {site: torch.arange(DOCUMENTS) for site in sites}
    rows = list(contest_rows(Kept(tensors, records), sites, documents, seed=0))
    return {
        name: torch.tensor([row["p"] for row in rows if (row["site"] == "all") == pooled])
        for name, pooled in (("site", False), ("pooled", True))
    }


def _contest_claims(null: str) -> tuple[Claim, ...]:
    return tuple(
        Claim(name=name, columns=("contest.p",), null=null,
              function=f"`ranking.rank_agreement`, {behind}")
        for name, behind in (("site", "one site"), ("pooled", "two sites together"))
    )  # fmt: skip


# ---- behaviour

SETS_OF_FEATURES, UNITS, TASKS = 5, 10, 4


def _members() -> list[Member]:
    return [
        Member(set=number, role=MATCHED if place else TOP, site=SITES[0],
               feature=number * (1 + MATCHES) + place, largest=1.0)
        for number in range(SETS_OF_FEATURES) for place in range(1 + MATCHES)
    ]  # fmt: skip


def _task(effects: Tensor) -> behaviour_tables.Measured:
    """One prompt a unit: effects are [unit set member intervention]."""
    changed = effects.flatten(1, 2).movedim(0, -1)
    return behaviour_tables.Measured(
        name="made up", effects=effects, by_item=changed,
        preference=torch.zeros(len(effects), dtype=torch.float64),
        active=torch.ones(changed.shape[0], len(effects)),
    )  # fmt: skip


def _by_prompt(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """Effects whose mean is 0: tails, prompts of unlike weight, interventions that go together."""
    tasks = []
    for _ in range(TASKS):
        shape = (UNITS, SETS_OF_FEATURES, 1 + MATCHES)
        weight = torch.randn(UNITS, 1, 1, 1, generator=generator, dtype=torch.float64).exp()
        effects = weight * (tailed(generator, *shape, 1)
                            + tailed(generator, *shape, len(INTERVENTIONS)))  # fmt: skip
        if planted:
            effects[:, :, 0] += 6 * weight[:, :, 0]
        tasks.append(_task(effects))
    rows = behaviour_tables._effect_rows(_members(), tasks)

    def column(name: str, role: str) -> Tensor:
        return torch.tensor([row[name] for row in rows if row["role"] == role])

    return {"p": column("p", TOP), "q": column("q", TOP),
            "p of matches": column("p", TOP if planted else MATCHED)}  # fmt: skip


def _by_set(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """Every feature has effects of its own; the strongest are drawn as their matches are."""
    tasks = []
    for _ in range(TASKS):
        own = tailed(generator, 1, SETS_OF_FEATURES, 1 + MATCHES, len(INTERVENTIONS))
        if planted:
            own[:, :, 0] *= 20
        tasks.append(_task(own + tailed(generator, UNITS, *own.shape[1:])))
    rows = list(behaviour_tables._contrast_rows(tasks, generator))
    pooled = [row for row in rows if row["task"] == behaviour_tables.EVERY_TASK]
    apart = [row for row in rows if row["task"] != behaviour_tables.EVERY_TASK]
    return {
        name: torch.tensor([row[column] for row in some])
        for name, column, some in (("p", "p", apart), ("p_max_t", "p_max_t", apart),
                                   ("p of all", "p", pooled), ("p_max_t of all", "p_max_t", pooled))
    }  # fmt: skip


def _abilities(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """What is said has nothing to do with what was asked; some answers are liked by all."""
    units, items = 20, 2
    n, d = units * items, 6
    asked = torch.randn(units, d, generator=generator).repeat_interleave(items, 0)
    said = torch.randn(units, d, generator=generator).repeat_interleave(items, 0)
    asked, said = (x + 0.3 * torch.randn(n, d, generator=generator) for x in (asked, said))
    liked = torch.randn(n, generator=generator)
    preferences = (asked if planted else said) @ asked.T + liked
    found = accuracy_beyond_exchange(preferences, torch.arange(units).repeat_interleave(items))
    return {"can": torch.tensor([0.0 if found.can else 1.0])}


def _losses(generator: torch.Generator, planted: bool) -> dict[str, Tensor]:
    """Losses of tokens, skewed and alike within a document, whose mean is that of a guess."""
    documents, chance = 30, math.log(100)
    counts = torch.randint(1, 20, (documents,), generator=generator)
    document = torch.arange(documents).repeat_interleave(counts)
    shared, own = (0.5 * torch.randn(n, generator=generator, dtype=torch.float64)
                   for n in (documents, len(document)))  # fmt: skip
    loss = chance * (shared[document] + own - 0.25).exp() * (0.6 if planted else 1.0)
    sums = torch.zeros(documents, dtype=torch.float64).index_add_(0, document, loss)
    (_, _, high), _ = behaviour_tables._over_documents(sums, counts.double())
    return {"can": torch.tensor([0.0 if high < chance else 1.0])}


def _dealt(draw: Any, **kind: bool) -> Any:
    return lambda generator, planted: draw(generator, planted=planted, **kind)


_INTERVENED = SimpleNamespace(
    alike="predicted and measured effects are independent and features exchangeable",
    sized="predicted and measured are independent given the size of the feature, which both share",
)
WORLDS = (
    World(
        name="calibration",
        says="9 features at each of three sites, 5 windows a feature in 52 documents, which shift"
        " the effects of all features; heavy tails. Planted: measured as predicted, with noise",
        draw=_dealt(_calibration, sized=False), claims=_calibration_claims(_INTERVENED.alike),
    ),
    World(
        name="calibration, sizes shared",
        says="as above; each feature has a log-normal size (σ = 1.5) that multiplies predicted and"
        " measured alike, their signs and shapes independent",
        draw=_dealt(_calibration, sized=True), claims=_calibration_claims(_INTERVENED.sized),
        note="Shuffling tests that predicted and measured have nothing to do with each other, and"
        " features that are large in both have, whatever their signs: p must not be read as that of"
        " the sign. Covariances in units of their own standard error (DiCiccio & Romano 2017) were"
        " tried instead, on 400 sets of 27 such features. Of values, over √Σa²b², they fire in .09"
        " at .05 (the correlation .45), but see a measured effect within a tenth of the predicted"
        " one in .70 of sets with heavy tails (the correlation in all); over the"
        " heteroscedastic error of a regression (HC3) they see all and fire in .19. Of ranks, over"
        " √Σa²b², they fire in .06 (the correlation .12) and lose little power with 27 features"
        " (.97 of .98), much with 9 (.44 of .60). Nothing keeps both with the few features of a"
        " site, so p is left as it is; that of ranks errs less.",
    ),
    World(
        name="contest",
        says="ten scores of 9 features at each of two sites, 5 of 7 windows a feature; windows"
        " shift all features alike. Planted: scores as the effects, with noise",
        draw=_dealt(_contest, uneven=False),
        claims=_contest_claims("scores and effects are independent and features exchangeable"),
    ),
    World(
        name="contest, windows uneven",
        says="as above, 1 to 7 windows a feature: means over few windows are larger in size, of"
        " scores and effects alike",
        draw=_dealt(_contest, uneven=True),
        claims=_contest_claims("scores and effects are independent, features of unlike evidence"),
    ),
    World(
        name="behaviour by prompt",
        says="4 tasks, 10 units each, 5 strongest features with 2 matches, 3 interventions; heavy"
        " tails, units of log-normal weight. Planted: the strongest move every unit",
        draw=_by_prompt,
        claims=(
            Claim(name="p", columns=("behaviour.p",), function="`robust.cluster_robust_t`",
                  null="effect and matches' mean differ by noise that is symmetric about 0"),
            Claim(name="p of matches", columns=("behaviour.p",),
                  function="`robust.cluster_robust_t`", null="the same, of the matches"),
            Claim(name="q", columns=("behaviour.q",), family=True,
                  function="`multiplicity.benjamini_hochberg`", null="the same, for all rows"),
        ),
    ),
    World(
        name="behaviour by feature",
        says="as above; every feature has effects of its own. Planted: those of the strongest are"
        " 20 times as large",
        draw=_by_set,
        claims=tuple(
            Claim(name=f"{name}{of}", columns=(f"behaviour_contrast.{name}",),
                  family=name == "p_max_t", function="`matched_sets.matched_set_test`",
                  null="the strongest are features like their matches"
                  + (", all tasks pooled" if of else ""))
            for name in ("p", "p_max_t") for of in ("", " of all")
        ),
    ),
    World(
        name="ability",
        says="20 units of 2 prompts each; what is said is independent of what is asked, and some"
        " answers are liked by all. Planted: what is said follows what is asked",
        draw=_abilities,
        claims=(
            Claim(name="can", columns=("behaviour_tasks.can",), levels=(0.025,),
                  function="`exchange.accuracy_beyond_exchange`",
                  null="answers are independent of the questions; one end of a 95 % interval"),
        ),
    ),
    World(
        name="ability by class",
        says="30 documents of 1 to 19 tokens of a class, log-normal losses, alike within a"
        " document, whose mean is that of a guess. Planted: 40 % below it",
        draw=_losses,
        note="Student's interval is too short at its upper end for few means that are skewed to the"
        " right: a class of a few dozen documents is said to be predicted better than by a guess"
        " once in thirteen instead of once in forty. A loss far below that of a guess, as nearly"
        " all classes have, is not in question.",
        claims=(
            Claim(name="can", columns=("behaviour_classes.can",), levels=(0.025,),
                  function="`robust.cluster_mean_interval`",
                  null="the mean loss is that of a uniform guess; one end of a 95 % interval"),
        ),
    ),
)  # fmt: skip
