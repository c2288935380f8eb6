"""Behaviour on models whose truth is known: a planted feature is found, noise is not."""

import pytest
import torch
from torch.nn.functional import normalize

from energylens.core.ports import silence
from energylens.energy.behaviour import Prompts
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary
from energylens.sources.task import Item
from energylens.stats.matched_sets import matched_set_test
from energylens.studies.energy_lens.behaviour import (
    ABLATE,
    CLAMP,
    DOUBLE,
    INTERVENTIONS,
    Member,
    choose_members,
    mean_by_unit,
    measure_task,
)
from energylens.studies.energy_lens.behaviour_tables import against, is_beyond
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.statistics import SiteScores
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

LAST = "blocks.2.resid_post"  # nothing lies above it but the final norm and the unembedding
A, B = 7, 11
WIDTH = 60


def bench(rows):
    dictionary = Dictionary(
        architecture="topk", k=len(rows), W_enc=rows, b_enc=torch.zeros(len(rows)).double(),
        W_dec=rows, b_dec=torch.zeros(rows.shape[1]).double(),
    )  # fmt: skip
    return Bench(
        dictionary=dictionary, permuted=rows,
        random=RandomDirections(rows=rows, thresholds=torch.zeros(len(rows)).double()),
        mean_state=torch.zeros(rows.shape[1]).double(),
        ordinary=Ordinary(center=torch.zeros(rows.shape[1]).double(), radius=1e9),
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return subject()


@pytest.fixture(scope="module")
def asked(model):
    """Twenty prompts, ten after which A is likelier than B and ten after which it is not."""
    with torch.no_grad():
        ids = tokens(400, 7)
        logits = model.module(ids).logits[:, -1]
    prefers = logits[:, A] > logits[:, B]
    one, other = (ids[prefers == side][:10].tolist() for side in (True, False))
    items = []
    for unit, pair in enumerate(zip(one, other, strict=True)):
        for prompt, (answer, foil) in zip(pair, ((A, B), (B, A)), strict=True):
            items.append(Item(prompt=tuple(prompt), answers=(answer,), foils=(foil,),
                              label="", unit=unit))  # fmt: skip
    return Prompts.of(items)


def directions(model, *, planted):
    """Random directions; with `planted`, feature 0 is all that tells A from B at the last site."""
    g = torch.Generator().manual_seed(5)
    rows = torch.randn(WIDTH, 32, generator=g, dtype=torch.float64)
    if planted:
        w = model.module.lm_head.weight
        toward = normalize(model.module.model.norm.weight * (w[A] - w[B]), dim=0).detach()
        rows -= (rows @ toward)[:, None] * toward
        rows[0] = toward
    return normalize(rows, dim=1)


def members(features):
    return [
        Member(set=0, role="matched" if place else "top", site=LAST, feature=f, largest=5.0)
        for place, f in enumerate(features)
    ]


def found(model, asked, features, *, planted):
    return measure_task(model, {LAST: bench(directions(model, planted=planted))},
                        members(features), asked, units=10, progress=silence, label="")  # fmt: skip


def test_ablating_the_feature_that_carries_the_answer_destroys_it(model, asked):
    """At the last site the preference is ⟨h, γ(w_A − w_B)⟩ over the norm: without it, 0."""
    task = found(model, asked, [0, 1, 2], planted=True)
    assert task.accuracy.can and float(task.accuracy.accuracy.estimate) == 1.0
    ablated, doubled, clamped = (task.effects[0, INTERVENTIONS.index(kind)]
                                 for kind in (ABLATE, DOUBLE, CLAMP))  # fmt: skip
    on_a = asked.answers[:, 0] == A
    assert_close(ablated[on_a], -task.base[on_a], rtol=1e-9)
    assert (ablated[~on_a] == 0).all()  # inactive at the last place, so nothing that is read moved
    assert (doubled[on_a] > 0).all() and (clamped[~on_a] < 0).all()
    by_unit = mean_by_unit(task.effects, asked.unit)
    test = against(by_unit[:, 0, 0], by_unit[:, 1:, 0].mean(1))
    assert test["p"] < 0.01 and test["difference_high"] < 0
    assert is_beyond({**test, "q": test["p"], "effect": float(by_unit[:, 0, 0].mean())})


def test_a_feature_that_is_active_nowhere_changes_nothing(model, asked):
    task = found(model, asked, [3, 4, 5], planted=False)
    silent = task.active == 0
    assert bool(silent.any())
    assert (task.effects[:, :2].transpose(1, 2)[silent] == 0).all()


def test_features_are_changed_in_the_first_units_alone(model, asked):
    part = measure_task(model, {LAST: bench(directions(model, planted=True))}, members([0, 1, 2]),
                        asked, units=4, progress=silence, label="")  # fmt: skip
    whole = found(model, asked, [0, 1, 2], planted=True)
    assert part.accuracy == whole.accuracy
    assert part.unit.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert_close(part.effects, whole.effects[:, :, :8], rtol=1e-9, atol=1e-12)


def test_without_the_answers_nothing_is_changed(model, asked):
    """Every second question turned round: right half of the time, like chance."""
    turned = asked.unit % 2 == 0
    wrong = Prompts(
        batch=asked.batch, last=asked.last, unit=asked.unit,
        answers=torch.where(turned[:, None], asked.answers, asked.foils),
        foils=torch.where(turned[:, None], asked.foils, asked.answers),
    )  # fmt: skip
    task = found(model, wrong, [0, 1, 2], planted=True)
    assert not task.accuracy.can and task.effects.shape == (3, 3, 0)


def test_random_features_are_called_special_no_oftener_than_the_level(model, asked):
    """Any of them may be named the strongest: 300 times, at most by chance is it found to be."""
    task = found(model, asked, list(range(WIDTH)), planted=False)
    sizes = mean_by_unit(task.effects, asked.unit).mean(0).abs()
    g = torch.Generator().manual_seed(0)
    rejected = 0
    for _ in range(300):
        sets = sizes[torch.randperm(WIDTH, generator=g)[:15]].view(5, 3, len(INTERVENTIONS))
        rejected += bool(matched_set_test(sets, generator=g).p_adjusted.min() <= 0.05)
    assert rejected <= 24  # more has a probability of .01 at a level of .05


def test_any_two_features_differ_which_is_why_the_feature_is_the_unit(model, asked):
    """What a test over units says of two random features, it must not be read as more."""
    task = found(model, asked, list(range(WIDTH)), planted=False)
    by_unit = mean_by_unit(task.effects, asked.unit)[:, :, INTERVENTIONS.index(CLAMP)]
    p = [against(by_unit[:, i], by_unit[:, i + 1])["p"] for i in range(0, WIDTH, 2)]
    assert sum(one < 0.05 for one in p) > 0.2 * len(p)


def test_the_comparison_keeps_its_level_where_features_do_not_differ():
    g = torch.Generator().manual_seed(0)
    noise = lambda: torch.randn(10, generator=g).exp() * torch.randn(10, generator=g)
    p = torch.tensor([against(noise(), (noise() + noise()) / 2)["p"] for _ in range(400)])
    # between the .005 and .995 quantiles of 400 draws of a .05 coin
    assert 9 <= int((p < 0.05).sum()) <= 32


# ---- choice of features


def scores(t):
    t = torch.tensor(t)
    nothing = torch.full_like(t, torch.nan)
    names = ("efas", "low", "high", "p", "q", "p_documents", "p_rows", "attribution", "n_active",
             "n_units")  # fmt: skip
    return SiteScores(
        **dict.fromkeys(names, nothing), t=t, scored=t.isfinite(), threshold=4.0, documents=20
    )


def chosen(by_site, count):
    g = torch.Generator().manual_seed(0)
    width = len(next(iter(by_site.values())))
    traits = {site: torch.rand(width, 2, generator=g) for site in by_site}
    largest = {site: torch.arange(float(width)) for site in by_site}
    found = {site: scores(t) for site, t in by_site.items()}
    return choose_members(found, traits, largest, count, g)


def test_the_strongest_of_all_sites_come_first_each_with_its_matches():
    nan = float("nan")
    low, high = ([0.1 * n for n in range(20)] for _ in range(2))
    low[3], low[4], high[0], high[1] = -9.0, nan, 8.0, -7.0
    found = chosen({"blocks.0.resid_post": low, "blocks.1.resid_post": high}, 3)
    assert [(m.site[7], m.feature) for m in found[::3]] == [("0", 3), ("1", 0), ("1", 1)]
    assert [m.role for m in found] == ["top", "matched", "matched"] * 3
    assert [m.set for m in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for top, *matches in (found[i : i + 3] for i in range(0, 9, 3)):
        assert all(m.site == top.site for m in matches)
    assert len({(m.site, m.feature) for m in found}) == 9
    assert all((m.site[7], m.feature) != ("0", 4) for m in found)
    assert all(m.largest == m.feature for m in found)


def test_a_site_gives_no_more_than_it_can_match():
    found = chosen({"blocks.0.resid_post": [9.0, 8, 7, 6, 5, 4, 3]}, 5)
    assert [m.feature for m in found if m.role == "top"] == [0, 1]
    assert chosen({"blocks.0.resid_post": [9.0, 8]}, 5) == []
