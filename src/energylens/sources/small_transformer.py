"""A small transformer that reads a vector cut into equal tokens, with every part a module."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

TOKENS = 16
BYTE = 256
DROPPED_BYTES = 26  # of 256: one in ten, as near as the comparison of a random byte can give it
DROPPED = DROPPED_BYTES / BYTE


def token_shape(size: int) -> tuple[int, int]:
    """Tokens and numbers of each: the divisor of `size` nearest to 16, the smaller of two.

    Example:
        >>> token_shape(784), token_shape(100), token_shape(40)
        ((16, 49), (20, 5), (20, 2))
    """
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    tokens = min(divisors, key=lambda n: (abs(n - TOKENS), n))
    return tokens, size // tokens


class Dropout(nn.Module):
    """Dropout that draws from a generator of its own, so that a training can be repeated; by a
    byte a number, since drawing a float for each took a quarter of a step."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return values
        eights = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device)
        # Up to 2^63 − 1 by default, which would leave a bit of every eighth byte at 0.
        eights.random_(-(2**63), None, generator=self.generator)
        drawn = eights.view(torch.uint8)[: values.numel()].view(values.shape)
        # 1 from DROPPED_BYTES on, 0 below; a comparison would take five times as long.
        kept = drawn.clamp_(DROPPED_BYTES - 1, DROPPED_BYTES).sub_(DROPPED_BYTES - 1)
        return values * kept.to(values.dtype).mul_(1 / (1 - DROPPED))


class Attention(nn.Module):
    """Softmax attention of every token to every token; `pattern` passes the probabilities."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.pattern = Dropout(generator)
        self.out = nn.Linear(width, width)

    def forward(self, stream: Float[Tensor, "example token width"]) -> Tensor:
        examples, tokens, width = stream.shape
        split = self.qkv(stream).view(examples, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * (width // self.heads) ** -0.5
        mixed = self.pattern(scores.softmax(-1)) @ value
        return self.out(mixed.transpose(1, 2).reshape(examples, tokens, width))


class Block(nn.Module):
    """Attention and a perceptron, each added to the stream and followed by a norm."""

    def __init__(self, width: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attention = Attention(width, heads, generator)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = Dropout(generator)

    def forward(self, stream: Tensor) -> Tensor:
        stream = self.norm1(stream + self.dropout(self.attention(stream)))
        added = self.linear2(self.dropout(relu(self.linear1(stream))))
        return self.norm2(stream + self.dropout(added))


class SmallTransformer(nn.Module):
    """Tokens, learned positions, blocks, the mean over tokens, and a linear head.

    `nn.TransformerEncoderLayer` is the same function; but in evaluation it takes a fast path on
    which none of its parts can be watched, and its attention never calls its output map.

    Args:
        size: Numbers of one input, after the embedding if there is one.
        embedding: Of words, where inputs are words.
        generator: Of what is dropped while it trains.
    """

    def __init__(
        self,
        size: int,
        classes: int,
        *,
        width: int,
        heads: int,
        layers: int,
        generator: torch.Generator,
        embedding: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding = nn.Identity() if embedding is None else embedding
        self.tokens, numbers = token_shape(size)
        self.project = nn.Linear(numbers, width)
        self.positions = nn.Parameter(torch.zeros(self.tokens, width))
        self.blocks = nn.ModuleList(Block(width, heads, generator) for _ in range(layers))
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Float[Tensor, "example class"]:
        cut = self.embedding(inputs).reshape(len(inputs), self.tokens, -1)
        stream = self.project(cut) + self.positions
        for block in self.blocks:
            stream = block(stream)
        return self.head(stream.mean(1))

    def tracked_sites(self) -> tuple[str, ...]:
        """What comes in, what each part of each block adds, the stream behind it, and the head."""
        parts = [
            f"blocks.{i}{part}" for i in range(len(self.blocks))
            for part in (".attention", ".linear2", "")
        ]  # fmt: skip
        return ("project", *parts, "head")
