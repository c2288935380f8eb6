"""Descent in networks whose minima are planted: what comes back, and what would by chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.energy.basins import find_basins
from energylens.energy.descent import descend, slope_of
from energylens.stats.nulls import states_alike
from energylens.studies.planted_energies.networks import Network, gaussian

Row = dict[str, Any]
# Two states are one within this: a minimum is known to it.
SAME = 1e-5
# Minima nearer than this are one, as for `find_basins`.
APART = 1e-2
# Steepness at which descent ends (with `norm` times the norm of the state, which the precision of
# an energy of tens allows no less), and the change at which a network's own iteration does.
TOLERANCE: dict[str, float] = {"nothing": 1e-7, "norm": 5e-6}
STILL = 1e-9
MOST_STEPS, MOST_UPDATES = 2_000, 5_000
# Ends that make a basin: one pattern has one start at each noise.
FEWEST = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Settled:
    """Where a network's own updates lead.

    Attributes:
        states: The fixed points.
        still: Whether the last update moved the state by no more than `STILL`.
        rise: Largest rise of the energy in one update, in parts of its size; 0 if it never rose.
    """

    states: Float[Tensor, "sample d"]
    still: Bool[Tensor, " sample"]
    rise: float


def settle(network: Network, states: Float[Tensor, "sample d"]) -> Settled:
    """Iterate the network's own update until nothing moves."""
    now, rise = network.place(states), 0.0
    energy = network.energy(now)
    moving = torch.ones(len(now), dtype=torch.bool, device=now.device)
    now = now.clone()
    for _ in range(MOST_UPDATES):
        here = moving.nonzero()[:, 0]
        if not len(here):
            break
        after = network.step(now[here])
        risen = network.energy(after)
        rise = max(rise, float(((risen - energy[here]) / energy[here].abs().clamp_min(1)).max()))
        moving[here] = _apart(after, now[here]) > STILL * _apart(now[here]).clamp_min(1)
        now[here], energy[here] = after, risen
    return Settled(states=now, still=~moving, rise=rise)


def recover(
    network: Network, other: Network, noises: Sequence[float], generator: torch.Generator
) -> tuple[Row, list[Row]]:
    """Noisy copies of what is planted and random states alike, run down together.

    Args:
        other: Drawn like the network; its patterns are what the ends are judged by for the null.

    Returns:
        What holds of the network, and one row a noise.
    """
    planted = network.planted
    starts = [noisy(planted, noise, generator) for noise in noises]
    blind = [states_alike(part, torch.linalg.vector_norm(part, dim=1), generator)
             for part in starts]  # fmt: skip
    together = torch.cat([*starts, *blind])
    found = descend(
        slope_of(lambda states: network.energy(network.place(states))), together,
        keep=network.keep, tolerance=TOLERANCE[network.keep], max_steps=MOST_STEPS,
        first_step=1.0 if network.keep == "nothing" else 1e-2,
    )  # fmt: skip
    ends = network.place(found.ends)
    own, own_other = settle(network, planted), settle(other, other.planted)
    mine, theirs = _their_own(own.states), _their_own(own_other.states)
    first = torch.cat(starts)
    from_start, from_end = settle(network, first), settle(network, ends)
    off = _apart(ends, from_end.states)
    ran = len(first)
    basins = find_basins(ends[:ran], fewest=FEWEST, metric="euclidean")
    at_planted = _within(basins.centers, own.states)
    minima = _distinct(own.states)
    row = {
        "planted": len(planted), "own_minima": int(mine.sum()), "minima": minima,
        "shared_minima": minima - int(mine.sum()),
        "basins": len(basins.centers), "basins_planted": int(at_planted.sum()),
        "reached": int(_within(own.states[mine], basins.centers).sum()),
        "converged": float(found.converged.double().mean()),
        "unsettled": int((~own.still).sum() + (~from_start.still).sum() + (~from_end.still).sum()),
        "off_fixed": float(off[found.converged].max()) if bool(found.converged.any()) else _NAN,
        "at_fixed": float((off <= SAME).double().mean()),
        "as_own": float((_apart(ends[:ran], from_start.states) <= SAME).double().mean()),
        "rise": max(own.rise, from_start.rise, from_end.rise),
        **_directions(network, other, first),
    }  # fmt: skip
    shifted = own_other.states[: len(planted)]
    rows = []
    for k, noise in enumerate(noises):
        end, chance = (ends[i * len(planted) : (i + 1) * len(planted)]
                       for i in (k, len(noises) + k))  # fmt: skip
        rows.append({
            "noise": noise, "n_starts": len(planted),
            "recovered": _share((_apart(end, own.states) <= SAME) & mine),
            "recovered_random": _share((_apart(chance, own.states) <= SAME) & mine),
            "recovered_other": _share((_apart(end, shifted) <= SAME) & theirs),
            "overlap": _cosine(end, planted), "overlap_random": _cosine(chance, planted),
            "overlap_other": _cosine(end, other.planted),
        })  # fmt: skip
    return row, rows


_NAN = float("nan")


def noisy(planted: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise whose expected squared norm is `noise`² times that of the state."""
    count, d = planted.shape
    size = torch.linalg.vector_norm(planted, dim=1, keepdim=True) / d**0.5
    return planted + noise * size * gaussian(count, d, generator).to(planted)


def _directions(network: Network, other: Network, states: Tensor) -> Row:
    """Cosine of the negative gradient with the network's own move, and with another's."""
    here = network.place(states)
    down = -slope_of(network.energy)(here)[1]
    own, theirs = (torch.cosine_similarity(down, n.move(here), dim=1) for n in (network, other))
    return {"cosine": float(own.min()), "cosine_other": float(theirs.mean())}


def _their_own(fixed: Tensor) -> Bool[Tensor, " planted"]:
    """Planted states whose fixed point is not that of another planted state as well."""
    return (torch.cdist(fixed, fixed) <= APART).sum(1) == 1


def _distinct(fixed: Tensor) -> int:
    near = torch.cdist(fixed, fixed) <= APART
    return int((near.int().argmax(1) == torch.arange(len(fixed), device=fixed.device)).sum())


def _within(points: Tensor, others: Tensor) -> Bool[Tensor, " point"]:
    if not len(others) or not len(points):
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    return torch.cdist(points, others, compute_mode=_EXACT).amin(1) <= SAME


# The product form loses half the digits where points are near.
_EXACT = "donot_use_mm_for_euclid_dist"


def _apart(first: Tensor, second: Tensor | float = 0.0) -> Tensor:
    return torch.linalg.vector_norm(first - second, dim=1)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(torch.cosine_similarity(first, second, dim=1).mean())
