import pytest
import torch

from energylens.activations.attention import attention_patterns
from energylens.activations.batch import Batch
from energylens.core.errors import BadInput, SiteNotAvailable
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close

SITE = "blocks.0.resid_post"


def states_at(found, batch, site):
    with found.capture(site) as seen, torch.no_grad():
        found.forward(batch)
    return seen[site]


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("site", [SITE, "blocks.1.resid_pre"])
def test_patterns_are_those_the_library_gives(family, site):
    found, batch = subject(family), Batch.full(tokens(2, 9))
    patterns = attention_patterns(found, site, states_at(found, batch, site), batch)
    found.module.set_attn_implementation("eager")
    with torch.no_grad():
        wanted = found.module(batch.ids, output_attentions=True, use_cache=False).attentions
    assert len(patterns) == 2
    for pattern, other in zip(patterns, wanted[1:], strict=True):
        assert pattern.shape == (2, 4, 9, 9)
        assert_close(pattern, other, rtol=1e-6, atol=1e-9)
        assert not pattern.triu(1).any(), "a token sees none that follows it"


@pytest.mark.parametrize("family", SHAPES)
def test_the_model_is_left_as_it_was(family):
    found, batch = subject(family), Batch.full(tokens(2, 9))
    former, before = found.module.config._attn_implementation, found.forward(batch)
    attention_patterns(found, SITE, states_at(found, batch, SITE), batch)
    assert found.module.config._attn_implementation == former == "sdpa"
    assert torch.equal(found.forward(batch), before)


def test_the_kernel_is_put_back_after_an_error():
    found, batch = subject(), Batch.full(tokens(2, 9))
    with pytest.raises(RuntimeError):
        attention_patterns(found, SITE, torch.zeros(2, 9, 31, dtype=torch.float64), batch)
    assert found.module.config._attn_implementation == "sdpa"


def test_above_the_last_block_there_is_nothing():
    found, batch = subject(), Batch.full(tokens(2, 9))
    last = "blocks.2.resid_post"
    assert attention_patterns(found, last, states_at(found, batch, last), batch) == []


def test_a_model_that_cannot_be_asked_says_so(monkeypatch):
    found, batch = subject(), Batch.full(tokens(2, 9))
    states = states_at(found, batch, SITE)
    monkeypatch.setattr(found.module.config, "_attn_implementation_internal", None)
    with pytest.raises(SiteNotAvailable, match="cannot be asked for its attention patterns"):
        attention_patterns(found, SITE, states, batch)


def test_what_is_no_distribution_is_no_pattern(monkeypatch):
    found, batch = subject(), Batch.full(tokens(2, 9))
    states = states_at(found, batch, SITE)
    attention = found.module.model.layers[1].self_attn
    former = attention.forward
    monkeypatch.setattr(attention, "forward", lambda *a, **k: (former(*a, **k)[0], torch.ones(3)))
    with pytest.raises(SiteNotAvailable, match=r"block 1 is no pattern: shape \[3\]"):
        attention_patterns(found, SITE, states, batch)


def test_other_sites_are_refused():
    found, batch = subject(), Batch.full(tokens(2, 9))
    with pytest.raises(BadInput, match="resid_pre or blocks.i.resid_post"):
        attention_patterns(found, "blocks.0.mlp_out", torch.zeros(2, 9, 32), batch)
