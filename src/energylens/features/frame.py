"""The coordinates that dictionaries are trained in, and the way back from them.

Rows may hold several sites side by side, as a crosscoder reads them. Each is centred and scaled by
itself, so that none counts for more than another because its numbers are larger or more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.features.dictionary import Dictionary

FACTORS = frozenset({"r_mag", "threshold_weight"})
"""Parameters that have no unit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The coordinates u = (x − center) · scale, in which E‖u_s‖² = d / S for each of S sites.

    Attributes:
        center: Mean row.
        scale: Factor of each column, the same within a site.
        unit: √(d / E‖x − center‖²), the factor of the row as a whole; with one site, its scale.
    """

    center: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]
    unit: float

    @classmethod
    def of(cls, rows: Float[Tensor, "sample d"], sites: Sequence[int] = ()) -> "Frame":
        """The coordinates of these rows.

        Args:
            sites: Widths of the sites that lie side by side in a row; one site unless given.

        Raises:
            InsufficientData: If all rows of a site are equal.

        Example:
            >>> frame = Frame.of(torch.tensor([[0.0, 5.0], [2.0, 5.1]]), [1, 1])
            >>> frame.enter(torch.tensor([[2.0, 5.1]])).round(decimals=4).tolist()
            [[1.0, 1.0]]
        """
        width = rows.shape[1]
        sites = tuple(sites) or (width,)
        center = rows.mean(dim=0)
        squares = [float(p.square().sum(dim=1).mean()) for p in (rows - center).split(sites, dim=1)]
        if not all(square > 0 for square in squares):
            where = f" of site {squares.index(min(squares)) + 1}" if len(sites) > 1 else ""
            raise InsufficientData(
                f"all {len(rows)} rows{where} are equal: there is nothing to learn"
            )
        factors = [(width / len(sites) / square) ** 0.5 for square in squares]
        scale = torch.repeat_interleave(
            rows.new_tensor(factors), torch.tensor(sites, device=rows.device)
        )
        return cls(center=center, scale=scale, unit=(width / sum(squares)) ** 0.5)

    def enter(self, rows: Float[Tensor, "sample d"]) -> Float[Tensor, "sample d"]:
        """Rows in these coordinates."""
        return (rows - self.center) * self.scale

    def columns(self, wanted: slice) -> "Frame":
        """The same coordinates of some columns; `unit` stays that of the row as a whole."""
        return replace(self, center=self.center[wanted], scale=self.scale[wanted])

    def numbers(self) -> Float64[Tensor, " number"]:
        """Center, scale and unit: other rows have others."""
        return with_number(torch.cat([self.center, self.scale]), self.unit)

    @classmethod
    def of_numbers(cls, numbers: Float64[Tensor, " number"], like: Tensor) -> "Frame":
        """What `numbers` was made of, in the type and on the device of `like`."""
        center, scale = numbers[:-1].to(like).chunk(2)
        return cls(center=center, scale=scale, unit=float(numbers[-1]))


def with_number(values: Float[Tensor, " d"], number: float) -> Float64[Tensor, " number"]:
    """A tensor and a number behind it, both as they are to the bit."""
    return torch.cat([values.double(), values.new_tensor([number], dtype=torch.float64)])


def unfold(dictionary: Dictionary, frame: Frame, aim: Frame | None = None) -> Dictionary:
    """The dictionary that makes of x what this one makes of u.

    Activations are divided by the unit of what is written, which keeps decoder rows as they are
    where that is one site and, being the same for all features, leaves the selection as it is. What
    is measured in activations is divided with them; what is a factor stays (`r_mag`).

    Args:
        frame: Coordinates of what is read.
        aim: Coordinates of what is written, where that is something else.
    """
    aim = aim or frame
    own = {name: w if name in FACTORS else w / aim.unit for name, w in dictionary.own.items()}
    b_dec, W_skip = aim.center + dictionary.b_dec / aim.scale, dictionary.W_skip
    if W_skip is not None:
        W_skip = W_skip * (frame.scale / aim.scale[:, None])
        b_dec = b_dec - W_skip @ frame.center
    made = replace(
        dictionary, own=own, W_enc=dictionary.W_enc * (frame.scale / aim.unit),
        b_enc=dictionary.b_enc / aim.unit, W_dec=dictionary.W_dec * (aim.unit / aim.scale),
        b_dec=b_dec, W_skip=W_skip,
    )  # fmt: skip
    return made if made.subtracts_b_dec else made.reading_from(frame.center)
