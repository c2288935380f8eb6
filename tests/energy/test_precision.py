"""Precision: chosen by what forces lose, refused in one sentence, exact where it must be."""

import pytest
import torch

from energylens.activations.batch import Batch
from energylens.core.errors import BadInput
from energylens.energy.energies.downstream import downstream_gradients
from energylens.energy.precision import EXACT, Precision, _correlation, choose_precision, judged
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

SITE = "blocks.1.resid_post"
BATCH = Batch.full(tokens(4, 24))
GOOD = {"speedup": 2.0, "force_correlation": 0.999, "loss_change": 0.001}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({}, "bfloat16"),
        ({"speedup": 1.0}, "float32"),
        ({"force_correlation": 0.99}, "float32"),
        ({"loss_change": 0.1}, "float32"),
        ({"force_correlation": float("nan")}, "float32"),
    ],
)
def test_bfloat16_must_be_faster_and_agree(changed, name):
    chosen = judged("auto", **(GOOD | changed))
    assert chosen.name == name
    assert f"{(GOOD | changed)['speedup']:.2g} times as fast" in chosen.reason


def test_what_is_asked_for_is_not_done_where_forces_disagree():
    assert judged("bfloat16", **(GOOD | {"speedup": 0.5})).name == "bfloat16"
    with pytest.raises(BadInput, match=r"correlate 0\.9000 .* use --precision float32"):
        judged("bfloat16", **(GOOD | {"force_correlation": 0.9}))


def test_a_real_model_is_run_both_ways():
    found = subject(dtype=torch.float32)
    rows = {SITE: torch.randn(8, 32, generator=torch.Generator().manual_seed(1))}
    chosen = choose_precision(found, BATCH, rows, "bfloat16")
    assert chosen.name == "bfloat16" and chosen.speedup > 0
    assert 0.995 < chosen.force_correlation < 1 - 1e-7, "bfloat16 rounds"
    assert 0 < chosen.loss_change < 0.01
    assert choose_precision(found, BATCH, rows, "float32") is EXACT


def test_passes_round_only_where_they_should():
    found = subject(dtype=torch.float32)
    states, gradients = {}, {}
    for name in ("float32", "bfloat16"):
        with Precision(name=name, reason="").passes(found.device):
            seen = downstream_gradients(found, BATCH, [SITE])
        states[name], gradients[name] = seen[0][SITE], seen[1][SITE]
        assert states[name].dtype == gradients[name].dtype == torch.float32
    plain = downstream_gradients(found, BATCH, [SITE])
    assert_close(states["float32"], plain[0][SITE], rtol=0, atol=0)
    assert not torch.equal(gradients["bfloat16"], gradients["float32"])


def test_the_correlation_is_that_of_every_direction_about_its_mean():
    a = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(_correlation(a, 3 * a + 7), 1.0)
    assert_close(_correlation(a, -a), -1.0)
    assert abs(_correlation(a, a.flip(0))) < 0.5
