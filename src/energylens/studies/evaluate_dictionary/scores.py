"""From sums by document to measures: each a ratio of sums, with its interval over documents."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.stats.bootstrap import weighted_means_interval
from energylens.stats.interval import Interval
from energylens.stats.ratios import difference_of_ratios_interval
from energylens.studies.evaluate_dictionary.measuring import ALL, CLEAN, MEAN, ORDINARY, ZERO

DRAWS = 1_000
ROWS = {
    "fvu": (ORDINARY, "residual", "total"),
    "fvu_all": (ALL, "residual", "total"),
    "l0": (ORDINARY, "active", "samples"),
    "cosine": (ORDINARY, "cosine", "directed"),
    "norm_ratio": (ORDINARY, "made_norm", "norm"),
    "scale": (ORDINARY, "along", "made_total"),
}
"""Measures of rows: which rows, and the sums (of `Reconstruction`) that they are ratios of."""
LOSSES = {
    "loss_recovered_ce": (0, MEAN), "loss_recovered_ce_zero": (0, ZERO),
    "loss_recovered_kl": (1, MEAN), "loss_recovered_kl_zero": (1, ZERO),
}  # fmt: skip
"""Measures of what the model makes of it: loss or KL, and the ablation they are held against."""
MEASURES = (*ROWS, *LOSSES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ratio:
    """A measure as sums by document; `defined` is False where its denominator may be 0."""

    sums: Float[Tensor, " unit"]
    counts: Float[Tensor, " unit"]
    defined: bool = True


def row_ratios(found: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Ratio]:
    """The measures of rows from the sums of one dictionary, by kind of rows."""
    return {
        name: Ratio(sums=found[kind][part].double(), counts=found[kind][whole].double())
        for name, (kind, part, whole) in ROWS.items()
    }


def loss_ratios(
    losses: Mapping[str, Float[Tensor, "quantity window"]], name: str, generator: torch.Generator
) -> dict[str, Ratio]:
    """The loss and KL that a reconstruction wins back of what an ablation costs.

    Where the ablation's cost is not above 0 by its own interval over documents there is nothing to
    be won back, and the share is undefined.
    """
    made = {}
    for measure, (quantity, ablation) in LOSSES.items():
        clean, ablated, put = (losses[x][quantity] for x in (CLEAN, ablation, name))
        cost = weighted_means_interval(
            ablated - clean, losses[CLEAN][2], draws=DRAWS, generator=generator
        )
        made[measure] = Ratio(sums=ablated - put, counts=ablated - clean,
                              defined=bool(cost.low > 0))  # fmt: skip
    return made


def estimate(ratio: Ratio, generator: torch.Generator) -> Interval:
    """The measure with its interval; nan where it is not defined, a point where it never varies."""
    if not ratio.defined:
        return _known(torch.nan)
    if torch.equal(ratio.sums * ratio.counts.sum(), ratio.counts * ratio.sums.sum()):
        return _known(float(ratio.sums.sum() / ratio.counts.sum()))  # the L0 of a TopK code
    return weighted_means_interval(ratio.sums, ratio.counts, draws=DRAWS, generator=generator)


def difference(one: Ratio, other: Ratio, generator: torch.Generator) -> Interval:
    """By how much the first measure is larger, both on the same resampled documents."""
    if not (one.defined and other.defined):
        return _known(torch.nan)
    if torch.equal(one.sums, other.sums) and torch.equal(one.counts, other.counts):
        return _known(0.0)
    return difference_of_ratios_interval(
        one.sums, one.counts, other.sums, other.counts, draws=DRAWS, generator=generator
    )


def _known(value: float) -> Interval:
    """What is the same in every document, or is not defined at all."""
    point = torch.tensor(value, dtype=torch.float64)
    return Interval(estimate=point, low=point, high=point, level=0.95)
