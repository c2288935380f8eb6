"""Networks that have an energy of their own, with states planted in them, all drawn by a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from energylens.energy.energies.energy_transformer import (
    EnergyBlock,
    energy_transformer,
    energy_transformer_step,
)
from energylens.energy.energies.hopfield import hopfield, hopfield_update

HEADS, D_HEAD = 2, 4
# Sequences of memories that are planted in an energy transformer: some of all there are.
SEQUENCES = 8
# A layer norm that is blind to scale, or tokens would trade their norms without end.
EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network that descends an energy, as functions of flat states.

    Attributes:
        planted: The states that are to be recovered.
        directions: The patterns or memories behind them, of norm 1; a state has one or several
            tokens of their dimension.
        energy: Of states as `place` leaves them.
        move: What the network itself adds to a state as `place` leaves it.
        place: What the energy sees of a state: the state, or its layer norm.
        keep: What descent keeps of a state; `norm` where the energy is blind to it.
    """

    planted: Float[Tensor, "planted d"]
    directions: Float[Tensor, "pattern d_token"]
    energy: Callable[[Tensor], Tensor]
    move: Callable[[Tensor], Tensor]
    place: Callable[[Tensor], Tensor]
    keep: Literal["nothing", "norm"]

    def step(self, states: Float[Tensor, "sample d"]) -> Float[Tensor, "sample d"]:
        """One update of the network."""
        return self.place(states + self.move(states))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A kind of network at one setting, of which as many are drawn as are asked for.

    Attributes:
        size: Patterns or memories in each.
        dial: Name of what is turned, `beta` or `attention`; `setting` is where it stands.
        draw: One network by a generator; whatever is drawn does not depend on the setting.
    """

    name: str
    size: int
    dial: str
    setting: float
    draw: Callable[[torch.Generator], Network]

    @property
    def part(self) -> str:
        """Names its part in a store."""
        setting = f"{self.setting:g}".replace(".", "_").replace("+", "").replace("-", "m")
        return f"{self.name.replace(' ', '-')}-{self.size}-{self.dial}-{setting}"

    def networks(self, count: int, seed: int) -> list[Network]:
        """The first networks of a seed; another setting has the same patterns in them."""
        return [self.draw(seeded(seed, self.name, self.size, k)) for k in range(count)]


def seeded(seed: int, *names: str | int) -> torch.Generator:
    """A generator of its own for each use that a seed is put to."""
    import hashlib

    text = "/".join(map(str, (seed, *names))).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


def hopfield_network(patterns: Float[Tensor, "pattern d"], beta: float) -> Network:
    """A modern Hopfield network: its patterns are planted."""
    return Network(
        planted=patterns, directions=patterns, keep="nothing", place=lambda states: states,
        energy=lambda states: hopfield(states, patterns, beta),
        move=lambda states: hopfield_update(states, patterns, beta) - states,
    )  # fmt: skip


def block_network(block: EnergyBlock, planted: Float[Tensor, "planted pos d"], alpha: float
                  ) -> Network:  # fmt: skip
    """An energy transformer: sequences of its memories are planted.

    The energy sees the layer norm of the tokens alone, so each update begins at their layer norm:
    left to itself a token would grow without end along its memory, and turn ever more slowly.
    """
    shape = planted.shape[1:]

    def tokens(states: Tensor) -> Tensor:
        return states.view(-1, *shape)

    return Network(
        planted=planted.flatten(1), directions=block.memories, keep="norm",
        place=lambda states: block.normalised(tokens(states)).flatten(1),
        energy=lambda states: energy_transformer(tokens(states), block),
        move=lambda states: (
            energy_transformer_step(tokens(states), block, alpha) - tokens(states)
        ).flatten(1),
    )  # fmt: skip


def random_patterns(
    count: int, dimension: int, correlation: float, generator: torch.Generator
) -> Float[Tensor, "pattern d"]:
    """Patterns of norm 1 whose cosines are `correlation` on average."""
    own = normalize(gaussian(count, dimension, generator), dim=1)
    common = normalize(gaussian(1, dimension, generator), dim=1)
    return normalize((1 - correlation) ** 0.5 * own + correlation**0.5 * common, dim=1)


@cache
def digits() -> Float[Tensor, "image pixel"]:
    """The handwritten digits that scikit-learn ships (1,797 of 8 × 8), centred, of norm 1."""
    from sklearn.datasets import load_digits

    images = torch.as_tensor(load_digits().data, dtype=torch.float64)
    return normalize(images - images.mean(0), dim=1)


def some_digits(count: int, generator: torch.Generator) -> Float[Tensor, "pattern d"]:
    images = digits()
    return images[torch.randperm(len(images), generator=generator)[:count]]


def simplex(count: int, d_model: int, generator: torch.Generator) -> Float[Tensor, "memory d"]:
    """Memories of norm 1 as far from each other as they can be, turned at random.

    Rectified squares of memories that point the same way share one flat minimum between them; at
    obtuse angles each memory is a minimum by itself. All are of mean zero, as layer norm asks.
    """
    corners = torch.eye(count, dtype=torch.float64) - 1 / count
    # A basis of the vectors of mean zero, turned: the first column of the whole is constant.
    whole = torch.cat([torch.ones(d_model, 1, dtype=torch.float64),
                       gaussian(d_model, d_model - 1, generator)], dim=1)  # fmt: skip
    basis = torch.linalg.qr(whole).Q[:, 1:]
    flat = torch.linalg.svd(corners).U[:, : count - 1]  # the corners span one dimension less
    return normalize(flat @ basis[:, : count - 1].T, dim=1)


def random_block(
    memories: Float[Tensor, "memory d"], attention: float, generator: torch.Generator
) -> EnergyBlock:
    """A block with given memories and random queries and keys of a given scale."""
    d_model = memories.shape[1]
    weights = [gaussian(HEADS * D_HEAD, d_model, generator).view(HEADS, D_HEAD, d_model)
               * attention / d_model**0.5 for _ in range(2)]  # fmt: skip
    return EnergyBlock(
        W_Q=weights[0], W_K=weights[1], memories=memories, gamma=1.0,
        shift=memories.new_zeros(d_model), beta=D_HEAD**-0.5, epsilon=EPSILON,
    )  # fmt: skip


def one_memory(*, d_model: int, tokens: int, alpha: float) -> Subject:
    """A block of one memory and no attention: an energy of a single direction."""

    def draw(generator: torch.Generator) -> Network:
        rows = simplex(2, d_model, generator)[:1]
        planted = rows.expand(1, tokens, d_model) * d_model**0.5
        return block_network(random_block(rows, 0.0, generator), planted, alpha)

    return Subject(name="one memory", size=1, dial="attention", setting=0.0, draw=draw)


def _sequences(
    memories: int, tokens: int, generator: torch.Generator
) -> Int[Tensor, "sequence pos"]:
    """Different sequences of memories, or fewer where there are no more."""
    seen: dict[tuple[int, ...], None] = {}
    while len(seen) < min(SEQUENCES, memories**tokens):
        drawn = torch.randint(memories, (tokens,), generator=generator)
        seen[tuple(drawn.tolist())] = None
    return torch.tensor(list(seen))


def gaussian(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "row column"]:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def hopfield_subjects(
    sizes: Sequence[int], betas: Sequence[float], *, dimension: int, correlation: float
) -> list[Subject]:
    """Random patterns, patterns that are alike, and images, at every size and beta."""
    kinds: dict[str, Callable[[int, torch.Generator], Tensor]] = {
        "random patterns": lambda n, g: random_patterns(n, dimension, 0.0, g),
        "patterns alike": lambda n, g: random_patterns(n, dimension, correlation, g),
        "digits": some_digits,
    }

    def draw(make: Callable[[int, torch.Generator], Tensor], size: int, beta: float,
             generator: torch.Generator) -> Network:  # fmt: skip
        return hopfield_network(make(size, generator), beta)

    return [
        Subject(name=name, size=size, dial="beta", setting=beta,
                draw=partial(draw, make, size, beta))
        for name, make in kinds.items() for size in sizes for beta in betas
    ]  # fmt: skip


def block_subjects(
    attention: Sequence[float], *, memories: int, d_model: int, tokens: int, alpha: float
) -> list[Subject]:
    """Energy transformers at every scale of attention."""

    def draw(scale: float, generator: torch.Generator) -> Network:
        rows = simplex(memories, d_model, generator)
        order = _sequences(memories, tokens, generator)
        block = random_block(rows, scale, generator)
        return block_network(block, rows[order] * d_model**0.5, alpha)

    return [
        Subject(name="energy transformer", size=memories, dial="attention", setting=scale,
                draw=partial(draw, scale))
        for scale in attention
    ]  # fmt: skip
