"""What one site is scored with: its dictionary, its controls, and the rule of massive rows."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from energylens.energy.energies.tuned import Translator
from energylens.features.dictionary import Dictionary
from energylens.features.ordinary import Ordinary


@dataclass(frozen=True, kw_only=True)
class RandomDirections:
    """Unit directions that fire as often as the dictionary's features do.

    Attributes:
        rows: Unit directions, encoder and decoder at once.
        thresholds: Projection above which a direction counts as active.
    """

    rows: Float[Tensor, "direction d_model"]
    thresholds: Float[Tensor, " direction"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What one site is scored with.

    Attributes:
        permuted: Decoder rows dealt out among the features, none to its own.
        mean_state: Mean of the training rows.
        ordinary: The rule that the dictionary was trained under: states outside are massive
            activations, which no statistic counts.
        translator: The tuned lens of the site; None for a control, where no lens is read.
    """

    dictionary: Dictionary
    permuted: Float[Tensor, "feature d_model"]
    random: RandomDirections
    mean_state: Float[Tensor, " d_model"]
    ordinary: Ordinary
    translator: Translator | None = None
