"""Crosscoders and cross-layer transcoders find what was planted, and nothing where nothing is."""

import pytest
import torch

from energylens.features.cross_layer_training import train_cross_layer
from energylens.features.crosscoder import Crosscoder
from energylens.features.crosscoder_training import train_crosscoder
from energylens.features.evaluate import fvu, l0
from energylens.features.planted import PlantedSites, planted_layers, planted_sites
from energylens.features.recovery import mean_matched_cosine, recovery
from energylens.features.training import TrainOptions
from energylens.stats.nulls import random_unit_directions
from tests.features.conftest import one_thread  # noqa: F401

WIDTHS = {"base": 24, "tuned": 40}  # two models of different widths
SITES = {"shared": 16, "exclusive": 16, "rows": 5000, "active": 3}


def _options(name: str = "topk", **more) -> TrainOptions:
    usual = {"width": 72, "k": 3, "epochs": 12, "batch": 256}
    return TrainOptions(architecture=name, **usual | more)


def _shuffled(rows, generator):
    return rows[torch.randperm(len(rows), generator=generator)]


def _shares(made: Crosscoder, planted: PlantedSites) -> tuple[torch.Tensor, ...]:
    """The first site's share in the partners of shared features, of its own, and of the others'."""
    found = recovery(planted.together, made.directions, planted.active, made.encode(planted.rows))
    share, first, second = made.relative_norms[found.partner, 0], *planted.present.T
    return share[first & second], share[first & ~second], share[second & ~first]


@pytest.mark.parametrize(("name", "least", "apart"), [
    ("topk", 0.95, 0.2), ("batchtopk", 0.95, 0.2), ("matryoshka_batchtopk", 0.9, 0.2),
    ("groupmax", 0.93, 0.2), ("standard", 0.95, 0.02), ("standard_constrained", 0.95, 0.2),
    ("p_anneal", 0.95, 0.15), ("gated", 0.95, 0.15), ("jumprelu", 0.95, 0.2),
    ("jumprelu_tanh", 0.95, 0.2),
])  # fmt: skip
def test_a_crosscoder_finds_shared_features_and_those_of_one_site(name, least, apart, generator):
    planted = planted_sites(WIDTHS, generator=generator, **SITES)
    made, _ = train_crosscoder(planted.rows, _options(name), generator)
    found = float(mean_matched_cosine(planted.together, made.directions))
    chance = random_unit_directions(72, 64, generator, like=made.directions)
    assert found > least and float(mean_matched_cosine(planted.together, chance)) < 0.45
    assert 2.0 < float(l0(made.encode(planted.rows))) < 3.7
    both, first, second = _shares(made, planted)
    assert 0.4 < float(both.mean()) < 0.6 and 0.25 < float(both.min()) <= float(both.max()) < 0.75
    assert float(first.mean()) > 1 - apart and float(second.mean()) < apart


def test_sites_dealt_out_anew_share_nothing(generator):
    """Row i of one site is then another token than row i of the other."""
    planted = planted_sites(WIDTHS, generator=generator, **SITES)
    dealt = dict(planted.rows) | {"tuned": _shuffled(planted.rows["tuned"], generator)}
    options = _options("standard", width=96, k=6)
    share = {}
    for how, rows in (("aligned", planted.rows), ("dealt", dealt)):
        made, _ = train_crosscoder(rows, options, torch.Generator().manual_seed(1))
        found = made.relative_norms[made.encode(rows).column_counts() > 0, 0]
        share[how] = float(((found > 0.2) & (found < 0.8)).double().mean())
    assert share["aligned"] > 0.2 and share["dealt"] < 0.05


def test_noise_has_no_features_that_two_crosscoders_agree_on(generator):
    rows = {name: torch.randn(5000, d, generator=generator) for name, d in WIDTHS.items()}
    one, two = (
        train_crosscoder(rows, _options(), torch.Generator().manual_seed(seed))[0].directions
        for seed in (1, 2)
    )
    assert float(mean_matched_cosine(one, two)) < 0.45


LAYERS = {"features": 24, "d_in": 24, "d_out": 24, "rows": 4000, "active": 2}


@pytest.mark.parametrize(("name", "astray"), [
    ("topk", 0.25), ("batchtopk", 0.25), ("jumprelu", 0.25), ("jumprelu_tanh", 0.3),
])  # fmt: skip
def test_a_cross_layer_transcoder_finds_what_features_write_and_where(name, astray, generator):
    planted = planted_layers(3, generator=generator, **LAYERS)
    options = _options(name, width=36, k=2)
    made, _ = train_cross_layer(planted.inputs, planted.targets, options, generator)
    codes = made.encode(planted.inputs)
    for n, written in enumerate(made.W_dec):
        truth = planted.writes[n].flatten(1)
        found = recovery(truth, written.flatten(1), planted.active[n], codes[n])
        chance = random_unit_directions(36, truth.shape[1], generator, like=truth)
        assert float(found.cosine.mean()) > 0.8 and float(found.f1.mean()) > 0.8
        assert float(mean_matched_cosine(truth, chance)) < 0.5
        # To which layers a feature writes: its norm there, beside those to which it does not.
        partners = written[found.partner]
        norms = partners.norm(dim=2) / partners.flatten(1).norm(dim=1, keepdim=True)
        there = planted.writes[n].norm(dim=2) > 0
        assert float(norms[there].mean()) > 0.6
        assert there.all() or float(norms[~there].mean()) < astray
    left = [float(fvu(planted.targets[n], y)) for n, y in made.reconstruct(planted.inputs).items()]
    assert max(left) < 0.1


def test_targets_of_other_rows_teach_nothing(generator):
    planted = planted_layers(3, generator=generator, **LAYERS)
    order = torch.randperm(LAYERS["rows"], generator=generator)
    dealt = {n: rows[order] for n, rows in planted.targets.items()}
    options = _options(width=36, k=2)
    made, _ = train_cross_layer(planted.inputs, dealt, options, generator)
    codes = made.encode(planted.inputs)
    for n, written in enumerate(made.W_dec):
        truth = planted.writes[n].flatten(1)
        found = recovery(truth, written.flatten(1), planted.active[n], codes[n])
        chance = random_unit_directions(36, truth.shape[1], generator, like=truth)
        by_chance = float(mean_matched_cosine(truth, chance))
        assert float(found.cosine.mean()) < by_chance + 0.2 and float(found.f1.mean()) < 0.2
    left = [float(fvu(dealt[n], y)) for n, y in made.reconstruct(planted.inputs).items()]
    assert min(left) > 0.97
