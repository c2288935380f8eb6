"""An estimate with its interval: what every function that bounds a quantity returns."""

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from energylens.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A quantity and the interval that covers it in a share `level` of repetitions.

    Attributes:
        estimate: The quantity, in the unit of what was measured; nan where undefined.
        low: Lower end; nan where undefined.
        high: Upper end; nan where undefined.
        level: Nominal coverage, between 0 and 1.
    """

    estimate: Float64[Tensor, "*shape"]
    low: Float64[Tensor, "*shape"]
    high: Float64[Tensor, "*shape"]
    level: float


def checked_level(level: float) -> float:
    """The level itself.

    Raises:
        BadInput: If it is not strictly between 0 and 1.
    """
    if not 0 < level < 1:
        raise BadInput(f"a level lies strictly between 0 and 1, got {level}: write 0.95 for 95 %")
    return level
