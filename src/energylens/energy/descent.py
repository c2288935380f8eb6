"""Where a state goes when it runs down the energy: descent in which the energy never rises.

h ← R(h − η ∇E(h)), with η found for each state by backtracking and R the identity or a return to
the state's own norm (where the energy is blind to scale, as behind a final norm, a free descent
would drift through scales without end). Without momentum, so that an end is a minimum that the
start lies in the basin of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.core.ports import Progress, silence
from energylens.results.format import number
from energylens.results.show import Bar, Row, Shown, ShowsItself

# Energies and gradients of some states, rows in the order given.
Slope = Callable[[Tensor], tuple[Tensor, Tensor]]


def slope_of(energy: Callable[[Tensor], Tensor]) -> Slope:
    """Energies and exact gradients of any scalar energy that autograd can differentiate.

    Args:
        energy: From states [sample d] to one energy each [sample]; a state's energy must not
            depend on the other states of the call.

    Raises:
        BadInput: When called, if the energy does not answer with one number a state.

    Example:
        >>> slope_of(lambda x: (x**2).sum(1))(torch.tensor([[1.0, 3.0]]))
        (tensor([10.]), tensor([[2., 6.]]))
    """

    def slope(states: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = states.detach().requires_grad_()
            value = energy(at)
            if value.shape != states.shape[:1]:
                raise BadInput(
                    f"an energy gives one number a state, {list(states.shape[:1])}; found"
                    f" {list(value.shape)}: sum over what belongs to one state"
                )
            (gradient,) = torch.autograd.grad(value.sum(), at)
        return value.detach(), gradient

    return slope


# A step must win this share of what the slope promises (Armijo 1966): less would let the steepest
# direction swing to and fro between steps that win next to nothing.
SUFFICIENT = 0.3
GROW, SHRINK = 2.0, 0.5
# Halvings below the first step after which a state is stuck at the precision of its numbers.
SMALLEST = 2.0**-60


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Descent(ShowsItself):
    """Where states ended.

    Attributes:
        ends: The states at the end, in the order of the starts.
        energy: Their energies; `start_energy` those of the starts.
        steps: Accepted steps of each.
        converged: Whether the slope fell below the tolerance. The rest ran out of steps or into
            the precision of the numbers: count them.
        diverged: Starts whose energy or slope was not finite; they stay where they were.
    """

    ends: Float[Tensor, "sample d"]
    energy: Float[Tensor, " sample"]
    start_energy: Float[Tensor, " sample"]
    steps: Int[Tensor, " sample"]
    converged: Bool[Tensor, " sample"]
    diverged: Bool[Tensor, " sample"]

    @property
    def convergence_share(self) -> float:
        """Share of the starts that converged; nan of none."""
        return float(self.converged.double().mean()) if len(self.converged) else float("nan")

    def shown(self) -> Shown:
        count = len(self.converged)
        some = count - int(self.diverged.sum())  # a start that diverged has no energy to tell
        low, middle, high = _spread(self.energy[~self.diverged])
        from_low, from_middle, from_high = _spread(self.start_energy[~self.diverged])
        stuck = some - int(self.converged.sum())
        bar = Bar(value=middle, low=low, high=high, null_low=from_low, null_high=from_high)
        starts = f"starts {number(from_middle)} [{number(from_low)}, {number(from_high)}]"
        return Shown(
            caption=f"Descent of {count:,} states",
            rows=[
                Row(label="converged", value=f"{some - stuck:,} of {count:,}",
                    told=(f"{stuck:,} ran out of steps", f"{count - some:,} diverged")),
                Row(label="energy at the end, median", value=number(middle), bar=bar,
                    told=(f"5 to 95 % of states [{number(low)}, {number(high)}]", starts)),
                Row(label="accepted steps, median", value=number(_spread(self.steps)[1])),
            ],
            notes=["Grey: the energies of the starts. Any descent lowers the energy; whether the"
                   " ends mean something is told by random starts run down beside them."],
        )  # fmt: skip


def _spread(values: Tensor) -> tuple[float, float, float]:
    """5 %, median and 95 %; nan of none."""
    if not len(values):
        return (float("nan"),) * 3
    shares = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64, device=values.device)
    low, middle, high = torch.quantile(values.double(), shares).tolist()
    return low, middle, high


def descend(
    slope: Slope,
    starts: Float[Tensor, "sample d"],
    *,
    keep: Literal["nothing", "norm"] = "nothing",
    tolerance: float = 1e-3,
    max_steps: int = 200,
    first_step: float = 1.0,
    progress: Progress = silence,
    label: str = "descent",
) -> Descent:
    """Run every start down the energy, each with its own step size.

    Args:
        slope: Energies and their gradients, of any number of states at a time.
        keep: `norm` keeps each state at the norm of its start and takes the gradient along the
            sphere.
        tolerance: A state has converged when the norm of its gradient is below; with `norm`, of
            the gradient by the state over its norm, so that the scale of states does not matter.
        max_steps: Evaluations at the most, of accepted and refused steps together.
        first_step: First step size tried; with `norm`, as a share of the squared norm.

    Raises:
        BadInput: If an option is out of range, or a start is zero where its norm is to be kept.

    Example:
        >>> bowl = lambda x: ((x**2).sum(1) / 2, x)
        >>> descend(bowl, torch.ones(1, 3)).ends.norm().item()
        0.0
    """
    if not tolerance > 0 or max_steps < 1 or not first_step > 0:
        raise BadInput(
            f"tolerance {tolerance}, max_steps {max_steps} and first_step {first_step} asked for:"
            " all are above 0"
        )
    radius = torch.linalg.vector_norm(starts, dim=1)
    if keep == "norm" and not bool((radius > 0).all()):
        raise BadInput(
            f"{int((radius == 0).sum())} of {len(starts)} starts are zero and have no norm to keep:"
            " leave them out"
        )
    surface = _Surface(radius=radius if keep == "norm" else None)
    state = starts.clone()
    energy, gradient = slope(state)
    gradient = surface.along(state, gradient)
    start_energy = energy.clone()
    diverged = ~(energy.isfinite() & gradient.isfinite().all(1))
    size = surface.unit() * torch.full_like(energy, first_step)
    smallest = size * SMALLEST
    steps = torch.zeros(len(state), dtype=torch.long, device=state.device)
    converged = (surface.steepness(gradient) < tolerance) & ~diverged
    moving = ~(converged | diverged)
    with progress.task(label, max_steps, "steps") as advance:
        for _ in range(max_steps):
            here = moving.nonzero()[:, 0]
            if not len(here):
                break
            trial = surface.back(state[here] - size[here, None] * gradient[here], here)
            new_energy, new_gradient = slope(trial)
            promised = size[here] * gradient[here].square().sum(1)
            good = (new_energy <= energy[here] - SUFFICIENT * promised) & new_gradient.isfinite(
            ).all(1)  # fmt: skip
            taken = here[good]
            state[taken], energy[taken] = trial[good], new_energy[good]
            gradient[taken] = surface.along(trial[good], new_gradient[good])
            steps[taken] += 1
            size[here] *= torch.where(good, GROW, SHRINK).to(size)
            converged[taken] = surface.steepness(gradient[taken], taken) < tolerance
            moving = ~(converged | diverged | (size < smallest))
            advance(1)
    return Descent(
        ends=state, energy=energy, start_energy=start_energy, steps=steps, converged=converged,
        diverged=diverged,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surface:
    """Where states may move: everywhere, or each on the sphere of its own radius."""

    radius: Tensor | None

    def along(self, state: Tensor, gradient: Tensor) -> Tensor:
        """The part of a gradient that points along the surface."""
        if self.radius is None:
            return gradient
        out = torch.nn.functional.normalize(state, dim=1)
        return gradient - torch.linalg.vecdot(gradient, out)[:, None] * out

    def back(self, state: Tensor, rows: Tensor) -> Tensor:
        if self.radius is None:
            return state
        return torch.nn.functional.normalize(state, dim=1) * self.radius[rows, None]

    def unit(self) -> Tensor | float:
        """What a step size is a share of."""
        return 1.0 if self.radius is None else self.radius.square()

    def steepness(self, gradient: Tensor, rows: Tensor | None = None) -> Tensor:
        norm = torch.linalg.vector_norm(gradient, dim=1)
        if self.radius is None:
            return norm
        return norm * (self.radius if rows is None else self.radius[rows])


@torch.no_grad()
def barrier(
    slope: Slope,
    first: Float[Tensor, "sample d"],
    second: Float[Tensor, "sample d"],
    *,
    points: int = 9,
) -> Float[Tensor, " sample"]:
    """Height that the straight path between two states rises above the higher of its ends.

    0 where the way from one to the other never rises. In units of the energy.

    Raises:
        BadInput: If there are no points between the ends.
    """
    if points < 1:
        raise BadInput(f"{points} points on the path asked for: at least 1 lies between its ends")
    shares = torch.linspace(0, 1, points + 2).tolist()
    energies = torch.stack([slope(first + share * (second - first))[0] for share in shares])
    ends = torch.maximum(energies[0], energies[-1])
    return (energies.amax(0) - ends).clamp_min(0)
