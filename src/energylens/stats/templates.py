"""Shapes of a shift: steps, ramps and sigmoids of many widths, and changes of slope."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

# A logistic curve rises from 10 to 90 % in so many of its scales.
TEN_TO_NINETY = 4.394449
PLACES = 4  # of a ramp within its width
FINE_PLACES = 6
SLOPES = 100  # places of a change of slope


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Courses from 0 to 1.

    Attributes:
        shapes: The courses.
        middle: The place, in samples, where each is half way, or begins to rise if it is a slope.
        width: Samples from 10 to 90 %; 0 is a step.
        slope: Whether it rises in a line to the end: a change of slope, not of level.
        gap: Samples to the next template of the same width.
    """

    shapes: Float64[Tensor, "template sample"]
    middle: Float64[Tensor, " template"]
    width: Float64[Tensor, " template"]
    slope: Bool[Tensor, " template"]
    gap: Float64[Tensor, " template"]

    def counts(self) -> list[int]:
        """Templates of each group."""
        return [len(self.shapes)]

    def onto(self, values: Float[Tensor, "*series sample"]) -> list[Float[Tensor, "*series place"]]:
        """Inner products with every template, by group."""
        return [values @ self.shapes.T.to(values)]


class Group(NamedTuple):
    """Ramps of one width (0: to the end), beginning at every `stride`-th place."""

    start: int
    stop: int
    stride: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Ramps(Templates):
    """Linear rises, whose inner products are differences of sums: many times faster."""

    groups: tuple[Group, ...]

    def counts(self) -> list[int]:
        return [len(range(some.start, some.stop, some.stride)) for some in self.groups]

    def onto(self, values: Float[Tensor, "*series sample"]) -> list[Float[Tensor, "*series place"]]:
        after = values.flip(-1).cumsum(-1).flip(-1)
        summed = torch.nn.functional.pad(after.cumsum(-1), (1, 0))
        products = []
        for start, stop, stride, width in self.groups:
            here = summed[..., start:stop:stride]
            if width == 1:
                products.append(after[..., start:stop:stride].clone())
            elif width:
                end = summed[..., start + width : stop + width : stride]
                products.append((end - here) / width)
            else:
                length = values.shape[-1] - torch.arange(start, stop, stride, device=values.device)
                products.append((summed[..., -1:] - here) / length)
        return products


def ramps(samples: int, widths: tuple[int, ...], *, margin: int, slopes: bool = True) -> Ramps:
    """Steps at every place, ramps of some widths at every few, and changes of slope.

    Args:
        samples: Length of the series.
        widths: Samples of a rise, 1 a step; those over a third of the series are left out.
        margin: Samples that are free of a rise at either end.
        slopes: Whether changes of slope are among them.
    """
    groups = [
        Group(margin, samples - margin - width + 2, max(1, width // PLACES), width)
        for width in widths if width <= samples / 3
    ]  # fmt: skip
    if slopes:
        groups.append(Group(2 * margin, samples - 2 * margin, max(1, samples // SLOPES), 0))
    starts = [torch.arange(some.start, some.stop, some.stride) for some in groups]
    start = torch.cat(starts).double()
    rise = torch.cat([some.new_full(some.shape, group.width)
                      for some, group in zip(starts, groups, strict=True)]).double()  # fmt: skip
    slope = rise == 0
    length = torch.where(slope, samples - start, rise)
    place = torch.arange(samples, dtype=torch.float64)
    return Ramps(
        groups=tuple(groups), slope=slope,
        shapes=((place - start[:, None] + 1) / length[:, None]).clamp(0, 1),
        middle=start - 1 + torch.where(slope, 0.0, rise / 2),
        width=torch.where(slope, 0.0, 0.8 * (rise - 1)),
        gap=torch.cat([some.new_full(some.shape, group.stride)
                       for some, group in zip(starts, groups, strict=True)]).double(),
    )  # fmt: skip


def sigmoids(
    samples: int, widths: tuple[float, ...], *, margin: int, slopes: bool = True
) -> Templates:
    """Steps and logistic curves of some widths at nearly every place, and changes of slope.

    Args:
        samples: Length of the series.
        widths: Samples from 10 to 90 %, 0 a step; those over a quarter of the series are left out.
        margin: Samples between the middle, or 10 and 90 %, and either end.
        slopes: Whether changes of slope are among them.
    """
    place = torch.arange(samples, dtype=torch.float64)
    shapes, middles, rises, gaps = [], [], [], []
    for width in (w for w in widths if w <= samples / 4):
        first, last = margin + width / 2, samples - margin - width / 2
        # A step lies between two samples.
        gap = max(1.0, width // FINE_PLACES)
        middle = torch.arange(first - 0.5, last, gap, dtype=torch.float64)
        away = place - middle[:, None]
        shapes.append((TEN_TO_NINETY * away / width).sigmoid() if width else (away > 0).double())
        middles.append(middle)
        rises.append(torch.full_like(middle, width))
        gaps.append(torch.full_like(middle, gap))
    count = sum(len(some) for some in middles)
    if slopes:
        start = place[2 * margin : samples - 2 * margin : max(1, samples // SLOPES)]
        gaps.append(torch.full_like(start, max(1, samples // SLOPES)))
        shapes.append(((place - start[:, None]) / (samples - 1 - start[:, None])).clamp_min(0))
        middles.append(start)
        rises.append(torch.zeros_like(start))
    middle = torch.cat(middles)
    return Templates(
        shapes=torch.cat(shapes), middle=middle, width=torch.cat(rises),
        slope=torch.arange(len(middle)) >= count, gap=torch.cat(gaps),
    )  # fmt: skip
