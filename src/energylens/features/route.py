"""Which products a step chooses its entries by: measured where it runs, remembered and told."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.timing import bf16_speedup, fastest_seconds
from energylens.features.architecture import ARCHITECTURES, Proposing
from energylens.features.dictionary import Dictionary
from energylens.features.kernels import BLOCK
from energylens.features.mesh import ALONE, Mesh
from energylens.features.proposals import Products, RoughEncoder
from energylens.features.step import choose

PRECISIONS = ("auto", "fp32", "bf16")
BOTH: tuple[Products, Products] = ("fp32", "bf16")
LEAST_SPEEDUP = 1.1
"""Of choosing entries; with less, the simpler way is as good."""
HOPELESS = 0.5
"""Speed of a small bf16 product beside fp32 below which no larger one is tried."""

_measured: dict[tuple[object, ...], float] = {}


@dataclass(frozen=True, kw_only=True)
class Route:
    """What a step chooses entries by.

    Attributes:
        products: By the encoder's product in the weights' own type, or by one in bf16 whose
            proposals are read again in it. Both choose the same.
        reason: In words.
        speedup: Time by `fp32` over that by `bf16`; None where it was not measured.
    """

    products: Products
    reason: str
    speedup: float | None = None

    @classmethod
    def measured(cls, speedup: float) -> "Route":
        """The faster way.

        Example:
            >>> print(Route.measured(0.25))
            fp32 products (choosing by bf16 would take 4 times as long here)
            >>> print(Route.measured(3.0))
            bf16 products, re-scored in fp32 (choosing by fp32 would take 3 times as long here)
        """
        if speedup < LEAST_SPEEDUP:
            slower = f"choosing by bf16 would take {1 / speedup:.2g} times as long here"
            return cls(products="fp32", reason=slower, speedup=speedup)
        slower = f"choosing by fp32 would take {speedup:.2g} times as long here"
        return cls(products="bf16", reason=slower, speedup=speedup)

    def __str__(self) -> str:
        again = ", re-scored in fp32" if self.products == "bf16" else ""
        return f"{self.products} products{again} ({self.reason})"

    def state(self) -> dict[str, Any]:
        """For a checkpoint: a run that goes on must not choose anew."""
        return asdict(self)


def choose_route(
    dictionary: Dictionary,
    rows: Float[Tensor, "sample d_in"],
    wanted: str = "auto",
    mesh: Mesh = ALONE,
) -> Route:
    """The faster way to choose entries, measured once a device, shape and type in this process.

    First a small product of each kind; unless that rules bf16 out, the choice of a first block of
    rows both ways, with all that belongs to it.

    Args:
        dictionary: What is trained; architectures whose entries stand each alone have one way.
        rows: A batch of what it reads.
        wanted: `auto`: the faster one; or one of the two, unmeasured.
        mesh: The processes that share the step; all choose alike.
    """
    if not isinstance(ARCHITECTURES[dictionary.architecture], Proposing):
        return Route(products="fp32", reason=f"{dictionary.architecture} reads every entry")
    if wanted != "auto":
        return Route(products="bf16" if wanted == "bf16" else "fp32", reason="asked for")
    key = (
        dictionary.architecture, dictionary.k, dictionary.width, tuple(rows.shape), rows.dtype,
        rows.device, torch.get_num_threads(),
    )  # fmt: skip
    if key not in _measured:
        _measured[key] = _speedup(dictionary, rows)
    return Route.measured(float(mesh.least(torch.tensor(_measured[key], dtype=torch.float64))))


def _speedup(dictionary: Dictionary, rows: Tensor) -> float:
    """Of a first block, with its share of what is set up once for all blocks of a batch."""
    block, blocks = rows[:BLOCK], -(-len(rows) // BLOCK)
    small = bf16_speedup(block.device, rows=64, inner=block.shape[1], columns=256, runs=3)
    if small < HOPELESS:
        return small
    kind = ARCHITECTURES[dictionary.architecture]
    ways = [partial(choose, kind, dictionary, block, products=by) for by in BOTH]
    set_up = partial(RoughEncoder.of, dictionary.W_enc, dictionary.b_enc)
    exact, rough, once = fastest_seconds([*ways, set_up], block.device)
    return exact / (rough - once * (1 - 1 / blocks))
