"""The functions for notebooks: an own energy scored as the oracle says, and what is shown."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

import energylens as el
from energylens.core.errors import BadInput
from energylens.features.dictionary import Dictionary
from energylens.features.training import TrainOptions
from energylens.notebook.alignment import Ablated
from energylens.results.record import Estimate, Summary
from energylens.sources.windows import TokenWindows
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close
from tests.oracles import efas as oracle

UNITS, EACH, D, WIDTH = 12, 120, 24, 40
UNIT = torch.arange(UNITS).repeat_interleave(EACH)
ATTACK = "<script>alert(1)</script>\x1b[2J"


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dictionary() -> Dictionary:
    rows = normalize(drawn(WIDTH, D, seed=1), dim=1)
    zeros = torch.zeros(WIDTH, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
    return Dictionary(architecture="topk", k=3, W_enc=rows, b_enc=zeros[0], W_dec=rows,
                      b_dec=zeros[1])  # fmt: skip


def quartic(states):
    return states.pow(4).sum(1) + states[:, 0]


def test_an_energy_of_ones_own_is_scored_as_the_oracle_says():
    states, features = drawn(UNITS * EACH, D), dictionary()
    found = el.align_states(states, el.slope_of(quartic), features, UNIT, draws=1000)
    gradient = 4 * states.pow(3)
    gradient[:, 0] += 1
    dense = features.encode(states).dense()
    expected = oracle.efas(dense.numpy(), gradient.numpy(), features.W_dec.numpy())
    assert found.scores.scored.all() and found.scores.documents == UNITS
    assert_close(found.efas, expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found.permuted.efas, found.efas)


def test_an_energy_that_knows_the_features_is_found_and_noise_is_not():
    states, features = drawn(UNITS * EACH, D), dictionary()
    # The force along d is ⟨x, d⟩: what a feature reads, and along no other direction the same.
    outward = el.slope_of(lambda x: -0.5 * x.square().sum(1))
    found = el.align_states(states, outward, features, UNIT, draws=2000)
    assert (found.scores.beyond & (found.efas > 0)).double().mean() > 0.8
    assert not found.permuted.beyond.any()
    caption, first = repr(found).splitlines()[:2]
    assert "beyond chance, of the permuted decoder" in caption
    assert first.strip().startswith(f"feature {found.top(1)[0]}")
    fall = drawn(UNITS, D, seed=3)[UNIT]
    nothing = el.align_states(states, el.slope_of(lambda x: (x * fall).sum(1)), features, UNIT,
                              draws=2000)  # fmt: skip
    assert not nothing.scores.beyond.any()


@pytest.mark.parametrize("unit", [UNIT + 1, 2 * UNIT, UNIT[1:]], ids=["from 1", "gaps", "short"])
def test_units_with_gaps_are_refused(unit):
    with pytest.raises(BadInput, match="without gaps"):
        el.align_states(drawn(UNITS * EACH, D), el.slope_of(quartic), dictionary(), unit)


def test_an_energy_that_is_not_finite_is_refused():
    with pytest.raises(BadInput, match="not finite"):
        el.align_states(drawn(UNITS * EACH, D), el.slope_of(lambda x: x.log().sum(1)), dictionary(),
                        UNIT)  # fmt: skip


def test_states_alone_cannot_be_ablated():
    found = el.align_states(drawn(UNITS * EACH, D), el.slope_of(quartic), dictionary(), UNIT,
                            draws=1000)  # fmt: skip
    with pytest.raises(BadInput, match="no network to run"):
        el.ablate(subject(), found, 0)


def test_an_ablation_stands_beside_a_random_step():
    shown = repr(Ablated(
        feature=3, predicted=torch.tensor([1.0, 1.2]), measured=torch.tensor([0.9, 1.1]),
        random=torch.tensor([-0.1, 0.1]),
    ))  # fmt: skip
    assert "Feature 3 ablated in 2 windows" in shown
    assert shown.count("null .00 ± .1") == 2 and "random direction" in shown


def test_the_summary_of_a_run_is_read_back(tmp_path):
    kept = Summary(study="s", subject="x", finding="F.", figures={"a": Estimate(1.0, "nats")})
    (tmp_path / "summary.json").write_bytes(kept.to_json())
    assert el.read_summary(tmp_path).finding == "F."
    with pytest.raises(BadInput, match=r"no summary\.json"):
        el.read_summary(tmp_path / "elsewhere")


def test_a_subject_shows_what_it_has_and_lacks_and_hostile_names_stay_text():
    honest = subject()
    hostile = replace(
        honest, loaded=replace(honest.loaded, name=ATTACK), absent={"blocks.0.attn.z": ATTACK},
        lacks={"padding": ATTACK},
    )  # fmt: skip
    shown, html = repr(hostile), hostile._repr_html_()
    assert "blocks.*.resid_post" in shown and "absent" in shown and "lacks" in shown
    assert "\x1b" not in shown + html and "<script" not in html and "&lt;script" in html


# ---- several sites


def _windows(count: int = 60, length: int = 16) -> TokenWindows:
    return TokenWindows(
        ids=tokens(count, length), document=torch.arange(count),
        starts=torch.zeros(count, dtype=torch.int64),
        document_names=tuple(map(str, range(count))), kinds=("drawn",) * count,
    )  # fmt: skip


SMALL = TrainOptions(width=48, k=4, epochs=2, batch=128)


def test_a_crosscoder_of_two_layers_and_of_two_models():
    one, other = subject(), subject("gpt2")
    sites = ["blocks.0.resid_post", "blocks.1.resid_post"]
    layers = el.train_crosscoder(one, _windows(), sites, SMALL)
    assert layers.names == tuple(sites) and layers.dictionary.d_in == 64
    models = el.train_crosscoder({"a": one, "b": other}, _windows(), sites[:1], SMALL)
    assert models.names == ("a:blocks.0.resid_post", "b:blocks.0.resid_post")
    assert models.relative_norms.shape == (48, 2)


def test_models_that_read_other_tokens_are_refused():
    class Spelled:
        def __init__(self, mark):
            self._mark = mark

        def encode(self, text, *, add_special_tokens=True):
            return []

        def decode(self, token_ids):
            return ""

        def convert_ids_to_tokens(self, ids):
            return [f"{self._mark}{number}" for number in ids]

    models = {
        mark: replace(subject(), loaded=replace(subject().loaded, tokenizer=Spelled(mark)))
        for mark in "ab"
    }
    with pytest.raises(BadInput, match="the tokenizer of b has other tokens than that of a"):
        el.train_crosscoder(models, _windows(), ["blocks.0.resid_post"], SMALL)


def test_a_cross_layer_transcoder_of_a_model():
    found = el.train_cross_layer(subject(), _windows(), SMALL)
    assert found.layers == (0, 1, 2) and found.widths == (48, 48, 48)
    assert found.metadata["feature_input_hook"] == "resid_mid"
