"""The two networks whose phase changes are known, small enough to train in seconds."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding

ROTARY_BASE = 10_000.0


class CausalAttention(nn.Module):
    """Softmax attention to what came before, with positions in queries and keys or without."""

    def __init__(self, d_model: int, heads: int, *, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, stream: Float[Tensor, "batch pos d_model"]) -> Tensor:
        mixed = self.pattern(stream) @ self._by_head(self.value(stream))
        return self.out(mixed.transpose(1, 2).flatten(2))

    def pattern(
        self, stream: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch head query key"]:
        """Where each position looks."""
        query, key = self._by_head(self.query(stream)), self._by_head(self.key(stream))
        if self.rotary:
            query, key = rotated(query), rotated(key)
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1)

    def _by_head(self, values: Tensor) -> Float[Tensor, "batch head pos d_head"]:
        return values.unflatten(2, (self.heads, -1)).transpose(1, 2)


def rotated(values: Float[Tensor, "batch head pos d_head"]) -> Tensor:
    """Pairs of numbers turned by an angle in proportion to the position (Su et al. 2021)."""
    pos, half = values.shape[2], values.shape[3] // 2
    speed = ROTARY_BASE ** (-torch.arange(half, device=values.device) / half)
    angle = torch.arange(pos, device=values.device)[:, None] * speed
    cos, sin = angle.cos().to(values), angle.sin().to(values)
    first, second = values[..., :half], values[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class AttentionBlock(nn.Module):
    """The stream, and what attention adds to it."""

    def __init__(self, d_model: int, heads: int, *, rotary: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.attention = CausalAttention(d_model, heads, rotary=rotary)

    def forward(self, stream: Float[Tensor, "batch pos d_model"]) -> Tensor:
        return stream + self.attention(self.norm(stream))


class AttentionOnly(nn.Module):
    """A transformer of attention alone (Elhage et al. 2021).

    Args:
        rotary: Whether positions are told by rotating queries and keys. Otherwise a learned vector
            is added for each position, and a head must first learn which of them are neighbours.
    """

    def __init__(
        self, *, vocab: int, context: int, d_model: int, heads: int, layers: int, rotary: bool
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, d_model)
        self.positions = None if rotary else nn.Parameter(torch.empty(context, d_model))
        self.blocks = nn.Sequential(
            *(AttentionBlock(d_model, heads, rotary=rotary) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(d_model)
        self.unembed = nn.Linear(d_model, vocab, bias=False)

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        return self.unembed(self.norm(self.blocks(self._embedded(tokens))))

    def patterns(
        self, tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "layer batch head query key"]:
        """Where every head of every layer looks."""
        stream, found = self._embedded(tokens), []
        for block in self.layers:
            found.append(block.attention.pattern(block.norm(stream)))
            stream = block(stream)
        return torch.stack(found)

    @property
    def layers(self) -> list[AttentionBlock]:
        return [block for block in self.blocks if isinstance(block, AttentionBlock)]

    def _embedded(self, tokens: Tensor) -> Tensor:
        stream = self.embed(tokens)
        return stream if self.positions is None else stream + self.positions[: tokens.shape[1]]


class LastAttention(nn.Module):
    """What the last position gathers from all: nothing else is read of a single layer."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, states: Float[Tensor, "state d_model"], sequences: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch d_model"]:
        """Of sequences of states that are there once each; all end in the last of them."""
        query = self.query(states[-1]).unflatten(0, (self.heads, -1))
        key = self.key(states).unflatten(1, (self.heads, -1))
        scores = (key * query).sum(2) / query.shape[1] ** 0.5
        pattern = embedding(sequences, scores).softmax(1)
        values = embedding(sequences, self.value(states)).unflatten(2, (self.heads, -1))
        return self.out((pattern.unsqueeze(3) * values).sum(1).flatten(1))


class ModularAddition(nn.Module):
    """One transformer layer without a norm that reads `a b =` and answers a + b mod p (Nanda 2023).

    Every sequence is made of the same 2 p + 1 states, a number in either place and the sign; so
    these are computed once.

    Args:
        p: Numbers are 0 to p − 1; the sign = is token p.
    """

    def __init__(self, *, p: int, d_model: int, heads: int) -> None:
        super().__init__()
        self.p = p
        self.embed = nn.Embedding(p + 1, d_model)
        self.positions = nn.Parameter(torch.empty(3, d_model))
        self.attention = LastAttention(d_model, heads)
        self.read = nn.Linear(d_model, 4 * d_model)
        self.neurons = nn.ReLU()
        self.write = nn.Linear(4 * d_model, d_model)
        self.stream = nn.Identity()  # a place to look at, before the answer is read
        self.unembed = nn.Linear(d_model, p, bias=False)

    def forward(self, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair answer"]:
        p, tokens = self.p, self.embed(torch.arange(self.p + 1, device=pairs.device))
        first, second, sign = self.positions
        states = torch.cat([tokens[:p] + first, tokens[:p] + second, tokens[p:] + sign])
        last = torch.full_like(pairs[:, :1], 2 * p)
        sequences = torch.cat([pairs[:, :1], p + pairs[:, 1:], last], 1)
        stream = states[-1] + self.attention(states, sequences)
        return self.unembed(self.stream(stream + self.write(self.neurons(self.read(stream)))))


@torch.no_grad()
def initialise(
    network: nn.Module, generator: torch.Generator, *, table_sd: float | int | None = None
) -> None:
    """Draw every matrix: normal, its variance one over what it reads; biases 0, norms 1.

    Args:
        table_sd: Standard deviation of what is looked up, tokens and positions; None: as if it were
            read, one over the root of the width.
    """
    for name, parameter in network.named_parameters():
        if "norm" in name:
            parameter.fill_(float(name.endswith("weight")))
        elif parameter.ndim < 2:
            parameter.zero_()
        else:
            sd = parameter.shape[1] ** -0.5
            if table_sd is not None and name in ("embed.weight", "positions"):
                sd = float(table_sd)
            parameter.normal_(std=sd, generator=generator)
