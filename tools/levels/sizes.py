"""Null worlds of laws in size: what a sweep of dictionaries says of its fit."""

import math
from collections.abc import Mapping

import torch
from tools.levels.world import Claim, World
from torch import Tensor

from energylens.studies.dictionary_scaling.laws import law_rows

WIDTHS, SEEDS, KS = (64, 128, 256, 512, 1024), 3, (8,)


def _laws(generator: torch.Generator, planted: bool) -> Mapping[str, Tensor]:
    """Laws of the form that is fitted; planted: bent in the middle by a tenth."""
    shift = 0.1 * torch.randn(SEEDS, generator=generator, dtype=torch.float64)
    points = []
    for k in KS:
        noise = 0.02 * torch.randn(SEEDS, len(WIDTHS), generator=generator, dtype=torch.float64)
        for seed in range(SEEDS):
            for place, width in enumerate(WIDTHS):
                law = 0.05 + 0.3 * (width / 256) ** -0.4
                bent = 0.1 * (place == 2) * planted
                ln = float(shift[seed] + noise[seed, place]) + bent
                points.append({"site": "one", "k": k, "width": width, "tokens": 1, "seed": seed,
                               "fvu": law * math.exp(ln)})  # fmt: skip
    return {"misfit": torch.tensor([row["misfit_p"] for row in law_rows(points)])}


WORLDS = (
    World(
        name="laws of size", draw=_laws,
        says=f"{len(WIDTHS)} widths with {SEEDS} seeds; FVU follows a power law with a"
        " floor, times normal errors of 2 % and a seed's own level of 10 %. Planted: one width is"
        " a tenth off",
        claims=(
            Claim(name="misfit", columns=("scaling_laws.misfit_p",),
                  function="`scaling.scaling_law`", null="the law is right"),
        ),
    ),
)  # fmt: skip
