"""Crosscoders: sites of any width and unit, the penalty over sites, resume, refusals."""

from dataclasses import replace

import pytest
import torch

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import ArtifactRefused, BadInput, InsufficientData
from energylens.features.architecture import ARCHITECTURES, Demand
from energylens.features.crosscoder import SITES, Crosscoder, Site
from energylens.features.crosscoder_training import train_crosscoder
from energylens.features.dictionary import Dictionary
from energylens.features.evaluate import fvu
from energylens.features.formats import saelens
from energylens.features.formats.recognise import load_dictionary
from energylens.features.frame import Frame
from energylens.features.planted import planted_sites
from energylens.features.step import step
from energylens.features.training import TrainOptions
from tests.common.compare import assert_close
from tests.core.test_checkpoint import Killed, Mortal, same
from tests.features.planted import random_weights

NAMES = sorted(ARCHITECTURES)
WIDTHS = {"a": 12, "b": 20}


def _options(name: str = "topk", **more) -> TrainOptions:
    made = {"width": 40, "k": 2, "epochs": 4, "batch": 128, "dead_after_tokens": 600, "aux_k": 8}
    return TrainOptions(architecture=name, **made | more)


def _seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rows(generator) -> dict[str, torch.Tensor]:
    made = planted_sites(
        WIDTHS, shared=8, exclusive=8, rows=1200, active=2, generator=generator
    ).rows
    return {"a": made["a"] + 2, "b": 50 * made["b"] - 7}


def _crosscoder(generator) -> Crosscoder:
    made = Dictionary(
        architecture="topk", k=3, subtracts_b_dec=False,
        **random_weights(generator, width=40, d=32),
    )  # fmt: skip
    sites = (Site(name="a", width=12, spread=2.0), Site(name="b", width=20, spread=50.0))
    return Crosscoder(dictionary=made, sites=sites)


def test_every_site_has_the_same_spread_in_the_coordinates_of_training(rows):
    together = torch.cat([rows["a"], rows["b"]], dim=1)
    frame = Frame.of(together, list(WIDTHS.values()))
    entered = frame.enter(together)
    for part in entered.split([12, 20], dim=1):
        assert_close(part.mean(0), torch.zeros(part.shape[1]), atol=1e-4)
        assert_close(part.square().sum(1).mean(), 16.0, rtol=1e-4)
    assert_close(Frame.of_numbers(frame.numbers(), together).enter(together), entered, rtol=0)
    one = Frame.of(together)
    assert_close(one.scale, torch.full((32,), one.unit))


@pytest.mark.parametrize("sites", [(), (9,), (3, 6), (2, 3, 4)])
def test_the_penalty_sums_norms_over_sites(sites, generator):
    """Against dense autograd of squared error and penalty as they are written down."""
    made = Dictionary(
        architecture="standard", k=3, subtracts_b_dec=False,
        **random_weights(generator, width=40, d=9),
    )  # fmt: skip
    x = torch.randn(50, 9, generator=generator, dtype=torch.float64)
    demand = Demand(sparsity=0.3, share=0.5, unit=3.0, sites=sites)
    w = {name: tensor.clone().requires_grad_() for name, tensor in made.weights.items()}
    a = (x @ w["W_enc"].T + w["b_enc"]).clamp(min=0)
    costs = torch.zeros((), dtype=torch.float64)
    for feature in range(40):
        first = 0
        for width in sites or (9,):
            norm = w["W_dec"][feature, first : first + width].square().sum().sqrt()
            costs, first = costs + a[:, feature].sum() * norm, first + width
    loss = ((a @ w["W_dec"] + w["b_dec"] - x).square().sum() + 0.3 * 3.0 * costs) / 50
    wanted = torch.autograd.grad(loss, list(w.values()))
    for dense in (False, True):
        found = step(made, x, 1.0, demand=demand, dense=dense)
        assert_close(found.loss, loss.detach(), rtol=1e-10)
        for name, gradient in zip(w, wanted, strict=True):
            assert_close(found.gradients[name], gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_units_of_any_site_do_not_matter(name, rows):
    x = {site: r.double() for site, r in rows.items()}
    other = {"a": x["a"] / 300 + 5, "b": 3 * x["b"] - 1}
    options = _options(name, epochs=2)
    one, _ = train_crosscoder(x, options, _seeded())
    two, _ = train_crosscoder(other, options, _seeded())
    expected, found = one.reconstruct(x), two.reconstruct(other)
    assert_close(300 * (found["a"] - 5), expected["a"], rtol=1e-4, atol=1e-3)
    assert_close((found["b"] + 1) / 3, expected["b"], rtol=1e-4, atol=1e-3)
    assert_close(two.relative_norms, one.relative_norms, rtol=1e-5, atol=1e-7)


def test_rows_are_read_and_written_as_they_came(rows):
    made, record = train_crosscoder(rows, _options(epochs=12), _seeded())
    left = {site: float(fvu(rows[site], found)) for site, found in made.reconstruct(rows).items()}
    assert left.keys() == rows.keys() and max(left.values()) < 0.25
    assert abs(sum(left.values()) / 2 - record.fvu[-1]) < 0.05
    for site in made.sites:
        centred = rows[site.name] - rows[site.name].mean(0)
        assert_close(site.spread, centred.square().sum(1).mean().sqrt(), rtol=1e-4)


def test_one_site_alone_is_a_dictionary_of_it(rows):
    made, _ = train_crosscoder({"a": rows["a"]}, _options(epochs=12), _seeded())
    assert_close(made.relative_norms, torch.ones(40, 1))
    assert_close(made.dictionary.W_dec.norm(dim=1), torch.ones(40), rtol=1e-5)
    assert float(fvu(rows["a"], made.reconstruct({"a": rows["a"]})["a"])) < 0.25


def test_relative_norms_are_shares_in_units_of_the_spread(generator):
    made = _crosscoder(generator)
    W = made.dictionary.W_dec
    W[0, :12], W[1, 12:], W[2] = 0.0, 0.0, 0.0
    a, b = W[:, :12].norm(dim=1) / 2, W[:, 12:].norm(dim=1) / 50
    assert_close(made.relative_norms, torch.stack([a / (a + b), b / (a + b)], dim=1))
    assert made.relative_norms[0].tolist() == [0, 1] and made.relative_norms[1].tolist() == [1, 0]
    assert made.relative_norms[2].isnan().all()
    assert_close(made.decoders["b"], W[:, 12:])
    assert_close(made.to(dtype=torch.float32).relative_norms, made.relative_norms, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_resumed_is_uninterrupted(name, rows, tmp_path):
    train = lambda **kept: train_crosscoder(rows, _options(name), _seeded(), **kept)
    whole, expected = train()
    for every, last in ((7, 1), (5, 3)):
        with pytest.raises(Killed):
            train(checkpoint=Mortal(tmp_path / "kept", every=every, last=last, saves=True))
    resumed, record = train(checkpoint=FolderCheckpoint(tmp_path / "kept"))
    same((resumed.dictionary, record), (whole.dictionary, expected))


def test_other_sites_are_not_resumed(rows, tmp_path):
    train_crosscoder(rows, _options(), _seeded(), checkpoint=FolderCheckpoint(tmp_path, every=9))
    swapped = {"b": rows["b"], "a": rows["a"]}
    with pytest.raises(BadInput, match="made on other rows"):
        train_crosscoder(swapped, _options(), _seeded(), checkpoint=FolderCheckpoint(tmp_path))


def test_massive_rows_of_any_site_are_left_out_of_all(rows):
    spoilt = {site: torch.cat([r, r[:2]]) for site, r in rows.items()}
    spoilt["a"][1200] += 3000  # no more than an ordinary row of b
    spoilt["b"][1201] += 1e6
    made, record = train_crosscoder(spoilt, _options(), _seeded())
    assert (record.rows, record.massive_rows) == (1200, 2)
    whole, _ = train_crosscoder(rows, _options(), _seeded())
    assert_close(made.dictionary.W_dec, whole.dictionary.W_dec)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x.clear(), BadInput, "one or more, without a skip: found 0 to read"),
        (lambda x: x.update(a=x["a"][:5]), BadInput, "equally many rows of one type"),
        (lambda x: x.update(a=x["a"].double()), BadInput, "equally many rows of one type"),
        (lambda x: x["b"][3].fill_(torch.nan), BadInput, "1 of 1200 rows hold nan"),
        (lambda x: x.update(a=0 * x["a"]), InsufficientData, "1200 rows of site 1 are equal"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, error, message, rows):
    change(rows)
    with pytest.raises(error, match=message):
        train_crosscoder(rows, _options(), _seeded())


def test_a_skip_is_refused(rows):
    with pytest.raises(BadInput, match="without a skip: found 2 to read"):
        train_crosscoder(rows, _options(skip=True), _seeded())


@pytest.mark.parametrize(
    "change", [lambda x: x.pop("a"), lambda x: x.update(c=x["a"]), lambda x: x.update(a=x["b"]),
               lambda x: x.update(a=x["a"][:3])],
)  # fmt: skip
def test_rows_of_other_sites_are_not_encoded(change, rows, generator):
    x = {site: r.double() for site, r in rows.items()}
    change(x)
    with pytest.raises(BadInput, match="reads a of 12 values, b of 20 values, equally many"):
        _crosscoder(generator).encode(x)


# ---- files


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_loaded_as_a_crosscoder(name, rows, tmp_path):
    made, _ = train_crosscoder(rows, _options(name), _seeded(), metadata={"model_name": "toy"})
    found = load_dictionary(saelens.save(made.dictionary, tmp_path / "kept"))
    assert isinstance(found, Crosscoder)
    assert found.sites == made.sites and found.dictionary.metadata == made.dictionary.metadata
    assert torch.equal(found.encode(rows).dense(), made.encode(rows).dense())
    for site, expected in made.reconstruct(rows).items():
        assert torch.equal(found.reconstruct(rows)[site], expected)


@pytest.mark.parametrize(
    ("sites", "message"),
    [("a", "list its sites"), ([], "list its sites"), ([{"name": "a"}], "list its sites"),
     ([{"name": "a", "width": 31, "spread": 1.0}], "have 31 values a row"),
     ([{"name": "a", "width": "32", "spread": 1.0}], "a width and a spread above 0"),
     ([{"name": "a", "width": 32, "spread": -1.0}], "a spread above 0"),
     ([{"name": "a", "width": 16, "spread": 1.0}] * 2, "names differ")],
)  # fmt: skip
def test_sites_that_are_not_of_the_dictionary_are_refused(sites, message, generator, tmp_path):
    made = replace(_crosscoder(generator).dictionary, metadata={SITES: sites})
    folder = saelens.save(made, tmp_path / "kept")
    with pytest.raises(ArtifactRefused, match=message):
        load_dictionary(folder)
