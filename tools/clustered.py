"""Features and forces strongly correlated within a document: with no effect, or a known one."""

from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST, SHORTEST = 64, 20  # tokens of a document


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """Scores [unit, feature] centred by estimated means, and the evidence behind each feature."""

    scores: Tensor
    n_active: Tensor
    n_units: Tensor


def simulate(
    units: int,
    features: int,
    generator: torch.Generator,
    *,
    sparse: bool = False,
    sharing: int = 1,
    effect: Tensor | float = 0.0,
) -> Clustered:
    """Both activation and force are AR(1) with ρ = .8 plus a document effect of equal variance.

    Args:
        sparse: Each feature fires in 5 to 10 documents alone, with log-normal sizes (σ = 1).
        sharing: So many neighbouring features meet the same force and depend on each other.
        effect: Added to the force, in units of the activation [feature].
    """
    lengths = torch.randint(SHORTEST, LONGEST + 1, (units, 1), generator=generator)
    there = (torch.arange(LONGEST)[:, None, None] < lengths).float()  # token, unit, 1
    drive = process(units, features, generator)
    if sparse:
        firing = (drive > 0.3) & _in_a_few_documents(units, features, generator)
        activation = torch.where(firing, ar1(units, features, generator).exp(), 0.0)
    else:
        activation = drive.clamp(min=0)
    activation = activation * there
    force = process(units, features // sharing, generator).repeat_interleave(sharing, 2)
    force = force + effect * activation
    a, f = (there * (x - (there * x).sum((0, 1)) / there.sum()) for x in (activation, force))
    fires = activation > 0
    return Clustered(
        scores=(a * f).sum(0).double(), n_active=fires.sum((0, 1)), n_units=fires.any(0).sum(0)
    )


def process(units: int, features: int, generator: torch.Generator, tokens: int = LONGEST) -> Tensor:
    """AR(1) within documents plus an effect of the document, [token unit feature]."""
    document = torch.randn(units, features, generator=generator)
    return ar1(units, features, generator, tokens=tokens) + document


def ar1(
    units: int,
    features: int,
    generator: torch.Generator,
    *,
    rho: float = 0.8,
    tokens: int = LONGEST,
) -> Tensor:
    """Stationary AR(1) of variance 1 along the tokens, [token unit feature]."""
    noise = torch.randn(tokens, units, features, generator=generator)
    noise[1:] *= (1 - rho * rho) ** 0.5
    for token in range(1, tokens):
        noise[token] += rho * noise[token - 1]
    return noise


def _in_a_few_documents(units: int, features: int, generator: torch.Generator) -> Tensor:
    rank = torch.rand(units, features, generator=generator).argsort(0).argsort(0)
    return rank < torch.randint(5, 11, (features,), generator=generator)
