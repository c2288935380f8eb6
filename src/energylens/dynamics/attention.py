"""What attention heads do: how widely they look, how unlike they are, what they look for.

Everything here takes **probabilities**, as attention modules hand them out. A softmax over
probabilities flattens them until every head looks uniform, so scores before the softmax must be
named as such: `from_logits=True`. Rows that are no distributions are refused.
"""

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from energylens.activations.attention import TOLERANCE
from energylens.core.errors import BadInput, InsufficientData
from energylens.core.registry import measure


@measure(
    units="nats",
    axes=("head",),
    source="definition: Shannon entropy of the attention of each query, as in Ghader & Monz 2017",
    null="uniform attention: log of the keys in sight (`uniform_attention`)",
    unchanged_by=("sequence order", "key order"),
    formula="mean over sequences and queries of −Σ_k a log a",
)
def attention_entropy(
    attention: Float[Tensor, "*layer sequence head query key"], *, from_logits: bool = False
) -> Float64[Tensor, "*layer head"]:
    """How widely each head looks: 0 where it sees one key, log of their number where all alike.

    Example:
        >>> both, one = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
        >>> attention_entropy(torch.tensor([[both, one]])).numpy().round(4)
        array([0.6931, 0.    ])

    Args:
        from_logits: Whether these are scores before the softmax (−inf where a key is hidden).

    Raises:
        BadInput: If rows are no distributions, or scores that are none.
    """
    return _entropy(probabilities(attention, from_logits=from_logits)).mean((-3, -1))


@measure(
    units="nats",
    axes=("layer",),
    source="Lin 1991: Jensen–Shannon divergence of several distributions, here of the heads'",
    null="0, where all heads look alike; log of their number is the most",
    unchanged_by=("head order", "sequence order", "key order"),
    formula="mean over sequences and queries of H(mean over heads of a) − mean over heads of H(a)",
)
def head_divergence(
    attention: Float[Tensor, "*layer sequence head query key"], *, from_logits: bool = False
) -> Float64[Tensor, "*layer"]:
    """How unlike the heads of a layer are: what one query's key tells of which head looked.

    Heads may all be narrow and all look at the same place: then this is 0, and they have not
    specialised. nan for a layer of one head.

    Example:
        >>> apart = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> round(float(head_divergence(apart)), 4)
        0.6931
    """
    a = probabilities(attention, from_logits=from_logits)
    divergence = _entropy(a.mean(-3)) - _entropy(a).mean(-2)
    undefined = torch.nan if a.shape[-3] < 2 else 0.0
    return divergence.clamp(min=0).mean((-2, -1)) + undefined


@measure(
    units="nats",
    axes=("layer",),
    source="definition: largest minus smallest mean entropy of a layer's heads",
    null="0, where all heads are as wide; it cannot see heads that are narrow in different places",
    unchanged_by=("head order", "sequence order", "key order"),
    formula="max over heads of H − min over heads of H, H as `attention_entropy`",
)
def head_entropy_range(
    attention: Float[Tensor, "*layer sequence head query key"], *, from_logits: bool = False
) -> Float64[Tensor, "*layer"]:
    """How different the heads of a layer are in width alone; see `head_divergence` for the rest."""
    entropy = attention_entropy(attention, from_logits=from_logits)
    return entropy.amax(-1) - entropy.amin(-1)


@measure(
    units="share of attention",
    axes=("head",),
    source="previous-token heads, as in Elhage et al. 2021 and Olsson et al. 2022",
    null="uniform attention (`uniform_attention`): mean over queries of 1 / keys in sight",
    unchanged_by=("sequence order",),
    formula="mean over queries q > 0 of a[q, q − 1]",
)
def previous_token_attention(
    attention: Float[Tensor, "*layer sequence head query key"], *, from_logits: bool = False
) -> Float64[Tensor, "*layer head"]:
    """How much a head looks at the position before.

    Raises:
        InsufficientData: If there is one position alone.
        BadInput: If rows are no distributions.
    """
    a = probabilities(attention, from_logits=from_logits)
    before = torch.ones(a.shape[-2:], dtype=torch.bool, device=a.device).tril(-1).triu(-1)
    return _share_on(a, before.expand(a.shape[-4], -1, -1), "has a position before it")


@measure(
    units="share of attention",
    axes=("head",),
    source="duplicate-token heads: Wang et al. 2022, arXiv:2211.00593",
    null="uniform attention (`uniform_attention`): earlier copies / keys in sight",
    unchanged_by=("sequence order", "names of tokens"),
    formula="mean over queries with a copy before them of Σ_k a[q, k], k < q, token k = token q",
)
def duplicate_token_attention(
    attention: Float[Tensor, "*layer sequence head query key"],
    tokens: Int[Tensor, "text pos"],
    *,
    from_logits: bool = False,
) -> Float64[Tensor, "*layer head"]:
    """How much a head looks at earlier copies of the token it stands on.

    Raises:
        InsufficientData: If no token comes twice.
        BadInput: If rows are no distributions, or tokens are of another shape.
    """
    a = probabilities(attention, from_logits=from_logits)
    return _share_on(a, _earlier_copies(a, tokens), "has an earlier copy")


@measure(
    units="share of attention",
    axes=("head",),
    source="prefix matching of induction heads: Olsson et al. 2022, arXiv:2209.11895",
    null="uniform attention (`uniform_attention`): earlier copies / keys in sight",
    unchanged_by=("sequence order", "names of tokens"),
    formula="mean over queries with a copy before them of Σ a[q, k + 1], k < q, token k = token q",
)
def prefix_matching(
    attention: Float[Tensor, "*layer sequence head query key"],
    tokens: Int[Tensor, "text pos"],
    *,
    from_logits: bool = False,
) -> Float64[Tensor, "*layer head"]:
    """How much a head looks at what came after earlier copies of the token it stands on.

    Asked on random tokens that repeat (`repeated_tokens`), it is what an induction head does.

    Example:
        >>> tokens = torch.tensor([[5, 7, 5]])
        >>> attention = torch.tensor([[[[1.0, 0, 0], [0, 1.0, 0], [0.25, 0.75, 0]]]])
        >>> prefix_matching(attention, tokens).item()
        0.75

    Raises:
        InsufficientData: If no token comes twice.
        BadInput: If rows are no distributions, or tokens are of another shape.
    """
    a = probabilities(attention, from_logits=from_logits)
    after = _earlier_copies(a, tokens).roll(1, -1)
    after[..., 0] = False
    return _share_on(a, after, "has an earlier copy")


def repeated_tokens(
    vocabulary: int, length: int, sequences: int, generator: torch.Generator
) -> Int[Tensor, "sequence pos"]:
    """Random tokens said twice, [sequence, 2 · length], none twice within a half.

    Raises:
        BadInput: If the vocabulary has fewer tokens than a half is long.

    Example:
        >>> tokens = repeated_tokens(9, 3, 2, torch.Generator().manual_seed(0))
        >>> tokens.shape, bool((tokens[:, :3] == tokens[:, 3:]).all())
        (torch.Size([2, 6]), True)
    """
    if not 1 <= length <= vocabulary:
        raise BadInput(
            f"{length} different tokens were asked for of a vocabulary of {vocabulary}: "
            "take a shorter length"
        )
    drawn = torch.rand(sequences, vocabulary, generator=generator, device=generator.device)
    half = drawn.argsort(1)[:, :length]
    return torch.cat([half, half], dim=1)


def uniform_attention(
    sequences: int, length: int, *, causal: bool
) -> Float64[Tensor, "sequence head query key"]:
    """The null of every measure here: one head that looks at all it sees alike.

    Example:
        >>> blind = uniform_attention(1, 4, causal=False)
        >>> previous_token_attention(blind).item(), round(attention_entropy(blind).item(), 4)
        (0.25, 1.3863)

    Args:
        causal: Whether later positions are hidden.
    """
    seen = torch.ones(length, length, dtype=torch.float64)
    seen = seen.tril() if causal else seen
    return (seen / seen.sum(1, keepdim=True)).expand(sequences, 1, -1, -1)


def probabilities(
    attention: Float[Tensor, "*batch query key"], *, from_logits: bool
) -> Float64[Tensor, "*batch query key"]:
    """Attention in double precision, checked to be distributions over the keys.

    Raises:
        BadInput: If rows have negative or undefined entries, or do not sum to 1.
    """
    if from_logits:
        attention = attention.double().softmax(-1)
    off = (attention.double().sum(-1) - 1).abs().max() if attention.numel() else torch.tensor(0.0)
    if not (off <= TOLERANCE[attention.dtype] and bool((attention >= 0).all())):
        raise BadInput(
            f"attention must be probabilities, found rows off a sum of 1 by up to {float(off):.2g}"
            " or entries below 0: say from_logits=True if these are scores before the softmax"
        )
    return attention.double()


def _entropy(a: Float64[Tensor, "*shape key"]) -> Float64[Tensor, "*shape"]:
    return torch.special.entr(a).sum(-1)


def _earlier_copies(a: Tensor, tokens: Tensor) -> Bool[Tensor, "sequence query key"]:
    if tokens.shape != (a.shape[-4], a.shape[-1]) or a.shape[-1] != a.shape[-2]:
        raise BadInput(
            f"tokens of shape {list(tokens.shape)} do not fit attention of shape {list(a.shape)}: "
            "a token is needed for every sequence and position"
        )
    return (tokens[:, :, None] == tokens[:, None, :]).tril(-1).to(a.device)


def _share_on(
    a: Float64[Tensor, "*layer sequence head query key"],
    wanted: Bool[Tensor, "sequence query key"],
    words: str,
) -> Float64[Tensor, "*layer head"]:
    """Attention on the wanted keys, mean over the queries that have one."""
    asked = wanted.any(-1)
    if not bool(asked.any()):
        raise InsufficientData(f"no position {words}: use longer sequences, or `repeated_tokens`")
    found = (a * wanted[:, None]).sum(-1) * asked[:, None]
    return found.sum((-3, -1)) / asked.sum()
