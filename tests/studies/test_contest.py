"""What the contest takes down in each window, against one feature and one window at a time."""

import math

import pytest
import scipy.stats
import torch

from energylens.activations.batch import Batch
from energylens.core.errors import SiteNotAvailable
from energylens.core.ports import silence
from energylens.energy.energies.downstream import downstream_energy, downstream_gradients
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary
from energylens.run.edges.store.folder import Folder
from energylens.studies.energy_lens import contest, contest_tables
from energylens.studies.energy_lens.bench import Bench, RandomDirections
from energylens.studies.energy_lens.contest import enter_site, most_shared, score_windows
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.statistics import SiteScores
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

SITE, WIDTH, PLACES = "blocks.0.resid_post", 24, 7


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def bench() -> Bench:
    rows = torch.nn.functional.normalize(draw(WIDTH, 32), dim=1)
    dictionary = Dictionary(
        architecture="topk", k=4, W_enc=rows, b_enc=torch.zeros(WIDTH, dtype=torch.float64),
        W_dec=rows, b_dec=torch.zeros(32, dtype=torch.float64),
    )  # fmt: skip
    return Bench(
        dictionary=dictionary, permuted=rows.roll(1, 0),
        random=RandomDirections(rows=rows, thresholds=torch.zeros(WIDTH, dtype=torch.float64)),
        mean_state=torch.zeros(32, dtype=torch.float64),
        ordinary=Ordinary(center=torch.zeros(32, dtype=torch.float64), radius=1e9),
    )  # fmt: skip


@pytest.fixture(scope="module")
def half_b():
    found, site = subject(), bench()
    ids = tokens(6, PLACES + 2)
    states, gradients, loss = downstream_gradients(found, Batch.full(ids), [SITE])
    code = site.dictionary.encode(states[SITE][:, 1:-1].flatten(0, 1))
    here = Held(
        ids=ids, document=torch.arange(6), starts=torch.zeros(6, dtype=torch.long),
        indices=code.indices.view(6, PLACES, -1), values=code.values.view(6, PLACES, -1),
        states=states[SITE], gradients=gradients[SITE], loss=loss,
    )  # fmt: skip
    return found, site, here


def active_pairs(here):
    return [
        (window, feature) for window in range(6) for feature in range(WIDTH)
        if bool((here.activation(feature)[window] > 0).any())
    ]  # fmt: skip


def test_each_score_is_its_sum_over_the_places_of_a_window(half_b):
    found, site, here = half_b
    features = torch.arange(WIDTH)
    entry = score_windows(found, SITE, site, here, torch.arange(6), features, passes=3)
    assert not entry.absent
    for window, feature in active_pairs(here):
        a = here.activation(feature)[window]
        slope = here.gradients[window, 1:-1] @ site.dictionary.W_dec[feature]
        tokens_ = (here.gradients[window] * here.states[window]).sum(1).abs()[1:-1]
        for name, wanted in {
            "attribution": -(a * slope).sum(), "gradient_x_activation": (a * slope).abs().sum(),
            "activation": a.sum(), "gradient_x_input": (a * tokens_).sum(),
        }.items():  # fmt: skip
            assert_close(entry.scores[name][window, feature], wanted, rtol=1e-9)
    for name in ("attention_rollout", "direct_logit"):
        assert (entry.scores[name][:, 0] >= 0).all()


def test_integrated_gradients_of_all_features_sum_to_the_change(half_b):
    found, site, here = half_b
    features = torch.arange(WIDTH)
    entry = score_windows(found, SITE, site, here, torch.arange(6), features, passes=8)
    assert_close(entry.scores["integrated_gradients"].sum(1), -entry.path.summed, rtol=1e-9)
    assert_close(entry.path.summed, entry.path.change, rtol=0.05)


def test_the_path_starts_where_every_feature_is_off(half_b):
    found, site, here = half_b
    entry = score_windows(found, SITE, site, here, torch.arange(2), torch.arange(2), passes=1)
    for window in range(2):
        off = here.states[window].clone()
        for feature in range(WIDTH):
            off[1:-1] -= here.activation(feature)[window][:, None] * site.dictionary.W_dec[feature]
        batch = here.batch.take(torch.tensor([window]))
        with found.edit({SITE: lambda h, off=off: off[None]}):
            loss = downstream_energy(found.forward(batch), batch)
        assert_close(entry.path.change[window], here.loss[window].sum() - loss[0], rtol=1e-9)


def test_a_score_that_a_model_does_not_allow_is_absent_and_says_why(half_b, monkeypatch):
    found, site, here = half_b

    def none(*arguments):
        raise SiteNotAvailable("it makes no pattern")

    monkeypatch.setattr(contest, "attention_patterns", none)
    entry = score_windows(found, SITE, site, here, torch.arange(2), torch.arange(2), passes=1)
    assert entry.absent == {"attention_rollout": "it makes no pattern"}
    assert "attention_rollout" not in entry.scores


def test_windows_leave_no_feature_out():
    generator = torch.Generator().manual_seed(0)
    pairs = torch.rand(20, 12, generator=generator) < 0.3
    chosen = most_shared(pairs, 6)
    assert len(chosen.unique()) == 6 and pairs[chosen].any(0).all()
    assert pairs[chosen].sum() >= pairs.sum(1).sort(descending=True).values[:6].sum() * 0.8
    assert most_shared(pairs, 100).tolist() == list(range(20))


@pytest.fixture
def store(half_b, tmp_path):
    """Every active feature ablated in every window; effects that the scores know nothing of."""
    pairs = active_pairs(half_b[2])
    window, feature = (torch.tensor(column) for column in zip(*pairs, strict=True))
    rules = ("attribution", "efas", "random")
    store = Folder(tmp_path)
    store.save(
        f"proof.{SITE}",
        tensors={f"proof.{SITE}": {
            "kind": torch.cat([torch.zeros(len(pairs)), torch.ones(3)]).long(),
            "feature": torch.cat([feature, feature[:3]]),
            "window": torch.cat([window, window[:3]]),
            "measured": torch.cat([draw(len(pairs), seed=4), torch.full((3,), 1e6)]).double(),
        }},
        records={f"proof.{SITE}": {
            "choices": [[f, rules[f % 3]] for f in sorted(set(feature.tolist()))]
        }},
    )  # fmt: skip
    return store


def enter(half_b, store, *, windows):
    found, site, here = half_b
    columns = {name: draw(WIDTH, seed=n) for n, name in enumerate(
        ("efas", "low", "high", "t", "p", "q", "p_documents", "p_rows", "attribution", "n_active",
         "n_units"))}  # fmt: skip
    half_a = SiteScores(**columns, scored=torch.ones(WIDTH) > 0, threshold=2.0, documents=6)
    enter_site(
        found, SITE, site, here, half_a, store, generator=torch.Generator().manual_seed(0),
        progress=silence, windows=windows, passes=1,
    )  # fmt: skip
    return half_a


def test_scores_stand_where_effects_were_measured_and_nowhere_else(half_b, store):
    half_a = enter(half_b, store, windows=4)
    kept, record = store.tensors(f"contest.{SITE}"), store.record(f"contest.{SITE}")
    assert len(kept["window"]) == 4 and kept["measured"].abs().nan_to_num(0).max() < 1e5
    here = kept["measured"].isfinite()
    assert (kept["scores"].isfinite() == here).all()
    assert record["ablations_used"] == here.sum() < record["ablations"]
    efas = kept["scores"][contest.SCORES.index("efas")]
    for column, feature in enumerate(kept["feature"].tolist()):
        assert_close(efas[here[:, column], column].mean(), half_a.efas[feature])
        for row in here[:, column].nonzero()[:, 0].tolist():
            measured = store.tensors(f"proof.{SITE}")
            mine = (
                (measured["window"] == kept["window"][row])
                & (measured["feature"] == feature) & (measured["kind"] == 0)
            )  # fmt: skip
            assert_close(kept["measured"][row, column], measured["measured"][mine][0])


def test_tables_are_made_of_these(half_b, store):
    enter(half_b, store, windows=6)
    documents = {SITE: torch.tensor([0, 0, 1, 2, 3, 4])}
    saliency = list(contest_tables.saliency_rows(store, [SITE], documents))
    rows = list(contest_tables.contest_rows(store, [SITE], documents, seed=0))
    every = {row["score"]: row for row in rows if row["site"] == "all"}
    assert len(saliency) == every["efas"]["n_features"] and every["efas"]["n_documents"] == 5
    for score, row in every.items():
        x, y = ([abs(r[name]) for r in saliency] for name in (score, "measured"))
        assert_close(row["spearman"], scipy.stats.spearmanr(x, y).statistic, rtol=1e-9)
        assert row["low"] <= row["spearman"] <= row["high"] and 0 < row["p"] <= 1
    chance = {row["chosen_by"] for row in rows}
    few = sum(r["chosen_by"] == "random" for r in saliency) < contest_tables.FEWEST_FEATURES
    assert chance == ({"all"} if few else {"all", "random"})


def test_a_finished_site_is_not_entered_again(half_b, store, monkeypatch):
    enter(half_b, store, windows=2)
    monkeypatch.setattr(contest, "score_windows", None)
    enter(half_b, store, windows=2)


def test_nothing_ablated_is_no_contest(half_b, store):
    proof = store.tensors(f"proof.{SITE}")
    store.save(f"proof.{SITE}", tensors={f"proof.{SITE}": {k: v[:0] for k, v in proof.items()}},
               records={f"proof.{SITE}": {"choices": []}})  # fmt: skip
    enter(half_b, store, windows=6)
    assert list(contest_tables.contest_rows(store, [SITE], {SITE: torch.arange(6)}, seed=0)) == []
    assert math.isnan(next(contest_tables.completeness_rows(store, [SITE]))["error"])
