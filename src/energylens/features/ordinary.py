"""Ordinary rows: those within ten median distances of the middle.

A handful of tokens carry massive activations (Sun et al. 2024, arXiv 2402.17762): a hundred times
the usual norm, hence more variance than everything else together, so that any squared error would
measure them alone. They are left out of training and of statistics alike, and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

TIMES = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordinary:
    """A ball about the median row; what lies outside is a massive activation.

    `further` are the balls of further sites, where rows hold several side by side: a row must then
    lie in all of them.
    """

    center: Float[Tensor, " d"]
    radius: float
    further: tuple["Ordinary", ...] = ()

    @classmethod
    def of(
        cls,
        rows: Float[Tensor, "sample d"],
        *,
        times: float = TIMES,
        sites: Sequence[int] = (),
    ) -> "Ordinary":
        """The ball whose radius is so many median distances.

        Args:
            sites: Widths of the sites that lie side by side in a row; one site unless given.

        Example:
            >>> rows = torch.tensor([[1.0], [2.0], [3.0], [4.0], [500.0]])
            >>> Ordinary.of(rows).holds(rows).tolist()
            [True, True, True, True, False]
        """
        if sites:
            first, *rest = (cls.of(p, times=times) for p in rows.split(tuple(sites), dim=1))
            return replace(first, further=tuple(rest))
        center = rows.median(dim=0).values
        distance = torch.linalg.vector_norm(rows - center, dim=1)
        return cls(center=center, radius=times * float(distance.median()))

    @property
    def balls(self) -> tuple["Ordinary", ...]:
        """One ball a site."""
        return (self, *self.further)

    def holds(self, rows: Float[Tensor, "sample d"]) -> Bool[Tensor, " sample"]:
        """Which rows lie inside."""
        parts = rows.split([len(ball.center) for ball in self.balls], dim=1)
        inside = [
            torch.linalg.vector_norm(part - ball.center, dim=1) <= ball.radius
            for ball, part in zip(self.balls, parts, strict=True)
        ]
        return torch.stack(inside).all(0)

    def numbers(self) -> Float64[Tensor, " number"]:
        """All of it as one tensor, to the bit: each ball's centre, radius and dimension."""
        return torch.cat([
            torch.cat([b.center.double(), b.center.new_tensor([b.radius, len(b.center)],
                                                              dtype=torch.float64)])
            for b in self.balls
        ])  # fmt: skip

    @classmethod
    def of_numbers(cls, numbers: Float64[Tensor, " number"], like: Tensor) -> "Ordinary":
        """What `numbers` was made of, in the type and on the device of `like`."""
        balls: list[Ordinary] = []
        while len(numbers):
            begins = len(numbers) - 2 - int(numbers[-1])
            numbers, last = numbers[:begins], numbers[begins:]
            balls.insert(0, cls(center=last[:-2].to(like), radius=float(last[-2])))
        return replace(balls[0], further=tuple(balls[1:]))
