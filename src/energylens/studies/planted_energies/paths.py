"""Energy step by step: down the network's own updates, and down the descent of the lens."""

from typing import Any

import torch
from torch import Tensor

from energylens.energy.descent import descend, slope_of
from energylens.studies.planted_energies.networks import Network
from energylens.studies.planted_energies.recovery import noisy, settle

Row = dict[str, Any]
# Looks at the energy: each update and each try of the descent is one.
LOOKS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
OWN, DESCENT, OTHER = "own updates", "descent", "another network's updates"


def path_rows(
    network: Network, other: Network, noise: float, generator: torch.Generator
) -> list[Row]:
    """Energy that is left after so many looks, in parts of what the starts have to lose.

    What they have to lose is told by the fixed point that the network's own updates lead to; a
    descent that ends in a lower minimum goes below 0. Mean over one start a planted state.
    """
    starts = network.place(noisy(network.planted, noise, generator))
    floor = network.energy(settle(network, starts).states)
    height = network.energy(starts) - floor

    def left(states: Tensor) -> float:
        return float(((network.energy(states) - floor) / height).mean())

    rows = []
    for route, mover in ((OWN, network), (OTHER, other)):
        now = starts
        for look in range(LOOKS[-1] + 1):
            if look in LOOKS:
                rows.append({"route": route, "look": look, "left": left(now)})
            now = network.place(now + mover.move(now))
    slope = slope_of(lambda states: network.energy(network.place(states)))
    for look in LOOKS:
        ends = starts if look == 0 else descend(
            slope, starts, keep=network.keep, tolerance=1e-12, max_steps=look,
            first_step=1.0 if network.keep == "nothing" else 1e-2,
        ).ends  # fmt: skip
        rows.append({"route": DESCENT, "look": look, "left": left(network.place(ends))})
    return rows
