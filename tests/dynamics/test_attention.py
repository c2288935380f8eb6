import math

import pytest
import torch

from energylens.core.errors import BadInput, InsufficientData
from energylens.dynamics.attention import (
    attention_entropy,
    duplicate_token_attention,
    head_divergence,
    head_entropy_range,
    prefix_matching,
    previous_token_attention,
    repeated_tokens,
    uniform_attention,
)
from tests.common.compare import assert_close
from tests.oracles import mechanisms as oracle

SCORES = {
    "previous": lambda a, tokens: previous_token_attention(a),
    "duplicate": duplicate_token_attention,
    "prefix": prefix_matching,
}


def causal(*shape: int, sharpness: float, generator: torch.Generator) -> torch.Tensor:
    scores = sharpness * torch.randn(*shape, generator=generator, dtype=torch.float64)
    hidden = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, -torch.inf)


def one_hot_attention(to: list[int], keys: int) -> torch.Tensor:
    """[1 1 query key]: each query looks at one key."""
    return torch.eye(keys)[torch.tensor(to)][None, None]


def test_entropy_and_divergence_are_those_of_slow_loops(generator):
    scores = causal(2, 3, 4, 5, 5, sharpness=2.0, generator=generator)
    found = attention_entropy(scores, from_logits=True)
    unlike = head_divergence(scores, from_logits=True)
    for layer, a in enumerate(scores.softmax(-1).numpy()):
        assert_close(found[layer], oracle.attention_entropy(a))
        assert_close(unlike[layer], oracle.head_divergence(a))
        assert_close(
            head_entropy_range(scores[layer], from_logits=True),
            max(oracle.attention_entropy(a)) - min(oracle.attention_entropy(a)),
        )


def test_scores_of_heads_are_those_of_slow_loops(generator):
    tokens = torch.randint(4, (3, 9), generator=generator)
    a = causal(3, 2, 9, 9, sharpness=2.0, generator=generator).softmax(-1)
    for name, wanted in (
        ("previous", lambda text, q: [q - 1] if q else []),
        ("duplicate", oracle.earlier_copies),
        ("prefix", oracle.after_earlier_copies),
    ):
        expected = oracle.share_on(a.numpy(), tokens.numpy(), wanted)
        assert_close(SCORES[name](a, tokens), expected)


def test_each_head_is_found_by_its_own_score():
    tokens = torch.tensor([[4, 2, 9, 4, 2, 9]])
    heads = {"previous": [0, 0, 1, 2, 3, 4], "duplicate": [0, 1, 2, 0, 1, 2],
             "prefix": [0, 1, 2, 1, 2, 3]}  # fmt: skip
    for does, to in heads.items():
        a = one_hot_attention(to, 6)
        for name, score in SCORES.items():
            found = score(a, tokens).item()
            assert (found == 1.0) if name == does else (found < 0.5)


@pytest.mark.parametrize("hides", [True, False])
def test_uniform_attention_has_the_value_of_the_null(hides):
    length, tokens = 6, repeated_tokens(50, 3, 4, torch.Generator().manual_seed(0))
    blind = uniform_attention(4, length, causal=hides)
    keys = [float(q + 1 if hides else length) for q in range(length)]
    assert_close(attention_entropy(blind), [sum(map(math.log, keys)) / length])
    assert_close(previous_token_attention(blind), [sum(1 / k for k in keys[1:]) / (length - 1)])
    for score in (duplicate_token_attention, prefix_matching):
        assert_close(score(blind, tokens), [sum(1 / k for k in keys[3:]) / 3])


def test_heads_alike_have_no_divergence_and_heads_apart_the_log_of_their_number(generator):
    alike = causal(2, 1, 4, 4, sharpness=3.0, generator=generator).softmax(-1).expand(2, 5, 4, 4)
    assert_close(head_divergence(alike), 0.0, atol=1e-12)
    assert_close(head_entropy_range(alike), 0.0, atol=1e-12)
    apart = torch.eye(5).expand(1, 5, 5, 5).clone()
    apart = torch.stack([apart[:, 0].roll(h, -1) for h in range(5)], dim=1)
    assert_close(head_divergence(apart), math.log(5))
    assert_close(head_entropy_range(apart), 0.0)  # which is why the range is not enough
    assert head_divergence(alike[:, :1]).isnan()


def test_a_second_softmax_would_hide_a_sharp_head():
    sharp = torch.eye(16)[None, None]
    assert attention_entropy(sharp).item() == 0.0
    twice = attention_entropy(sharp, from_logits=True).item()
    assert twice > 0.9 * math.log(16)


@pytest.mark.parametrize("wrong", [
    torch.zeros(1, 1, 2, 2), torch.tensor([[[[2.0, -1.0]]]]), torch.full((1, 1, 2, 2), torch.nan),
    torch.full((1, 1, 3, 3), 0.3),
])  # fmt: skip
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(BadInput, match="from_logits=True"):
        attention_entropy(wrong)


def test_rows_that_see_no_key_are_refused():
    with pytest.raises(BadInput, match="must be probabilities"):
        attention_entropy(torch.full((1, 1, 2, 2), -torch.inf), from_logits=True)


def test_half_precision_is_taken():
    a = torch.full((1, 1, 7, 7), 1 / 7, dtype=torch.bfloat16)
    assert_close(attention_entropy(a), [math.log(7)], atol=0.02)


def test_tokens_of_another_shape_and_without_repeats_are_refused():
    a = torch.eye(4)[None, None]
    with pytest.raises(BadInput, match=r"tokens of shape \[1, 3\] do not fit"):
        prefix_matching(a, torch.tensor([[1, 2, 3]]))
    with pytest.raises(InsufficientData, match="no position has an earlier copy"):
        duplicate_token_attention(a, torch.tensor([[1, 2, 3, 4]]))
    with pytest.raises(InsufficientData, match="has a position before it"):
        previous_token_attention(torch.ones(1, 1, 1, 1))


def test_repeated_tokens_differ_within_a_half(generator):
    tokens = repeated_tokens(8, 8, 5, generator)
    assert tokens.shape == (5, 16)
    assert all(sorted(half) == list(range(8)) for half in tokens[:, :8].tolist())
    assert torch.equal(tokens[:, :8], tokens[:, 8:])
    with pytest.raises(BadInput, match="shorter length"):
        repeated_tokens(8, 9, 1, generator)
