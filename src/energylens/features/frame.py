"""The coordinates that dictionaries are trained in, and the way back from them."""

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
    """The coordinates u = (x − center) · scale, in which E‖u‖² = d."""

    center: Float[Tensor, " d"]
    scale: float

    @classmethod
    def of(cls, rows: Float[Tensor, "sample d"]) -> "Frame":
        """The coordinates of these rows.

        Raises:
            InsufficientData: If they are all equal.
        """
        center = rows.mean(dim=0)
        spread = float((rows - center).square().sum(dim=1).mean())
        if not spread > 0:
            raise InsufficientData(f"all {len(rows)} rows are equal: there is nothing to learn")
        return cls(center=center, scale=(rows.shape[1] / spread) ** 0.5)

    def enter(self, rows: Float[Tensor, "sample d"]) -> Float[Tensor, "sample d"]:
        """Rows in these coordinates."""
        return (rows - self.center) * self.scale

    def numbers(self) -> Float64[Tensor, " number"]:
        """Center and scale: other rows have others."""
        return with_number(self.center, self.scale)

    @classmethod
    def of_numbers(cls, numbers: Float64[Tensor, " number"], like: Tensor) -> "Frame":
        """What `numbers` was made of, in the type and on the device of `like`."""
        return cls(center=numbers[:-1].to(like), scale=float(numbers[-1]))


def with_number(values: Float[Tensor, " d"], number: float) -> Float64[Tensor, " number"]:
    """A tensor and a number behind it, both as they are to the bit."""
    return torch.cat([values.double(), values.new_tensor([number], dtype=torch.float64)])


def unfold(dictionary: Dictionary, frame: Frame, aim: Frame | None) -> Dictionary:
    """The dictionary that makes of x what this one makes of u.

    Activations are divided by the scale of what is written, which keeps decoder rows as they are
    and, being the same for all features, leaves the selection as it is. What is measured in
    activations is divided with them; what is a factor stays (`r_mag`).

    Args:
        frame: Coordinates of what is read.
        aim: Coordinates of what is written, where that is something else.
    """
    scale = (aim or frame).scale
    own = {name: w if name in FACTORS else w / scale for name, w in dictionary.own.items()}
    if aim is None:
        return replace(
            dictionary, own=own, b_enc=dictionary.b_enc / scale,
            b_dec=frame.center + dictionary.b_dec / scale,
        )  # fmt: skip
    ratio = frame.scale / scale
    W_enc, W_skip = dictionary.W_enc * ratio, dictionary.W_skip
    b_dec = aim.center + dictionary.b_dec / scale
    if W_skip is not None:
        W_skip = W_skip * ratio
        b_dec = b_dec - W_skip @ frame.center
    return replace(
        dictionary, own=own, W_enc=W_enc, b_enc=dictionary.b_enc / scale, b_dec=b_dec, W_skip=W_skip
    ).reading_from(frame.center)
