"""Tables: measures of every dictionary and baseline, differences, densities."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from energylens.features.evaluate import Reconstruction, dead_share, dense_share
from energylens.features.ordinary import Ordinary
from energylens.stats.interval import Interval
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.evaluate_dictionary.entries import Entry
from energylens.studies.evaluate_dictionary.measuring import ALL, CLEAN, MEAN, ORDINARY, ZERO
from energylens.studies.evaluate_dictionary.rivals import RIVALS
from energylens.studies.evaluate_dictionary.scores import (
    MEASURES,
    Ratio,
    difference,
    estimate,
    loss_ratios,
    row_ratios,
)

Row = dict[str, Any]
Sums = Mapping[str, Mapping[str, Mapping[str, Tensor]]]
ITSELF = "dictionary"
CONTENDERS = (ITSELF, *RIVALS)
BINS_PER_DECADE = 4
_DECADES = 6


class Judged:
    """One dictionary beside its baselines, as sums by document.

    Args:
        sums: By contender, kind of rows and name of the sum.
        losses: By contender and what was put in.
        shapes: Width and k of each contender.
        reads: The rule of massive rows where the dictionary reads.
    """

    def __init__(
        self,
        entry: Entry,
        sums: Sums,
        losses: Mapping[str, Mapping[str, Tensor]],
        shapes: Mapping[str, Mapping[str, Any]],
        *,
        reads: Ordinary,
        seed: int,
    ) -> None:
        self.entry, self.sums, self.losses, self.shapes = entry, sums, losses, shapes
        self.reads = reads
        self.contenders = [name for name in CONTENDERS if name in sums]
        self._seed = seed
        self.ratios: dict[str, dict[str, Ratio]] = {
            name: row_ratios(sums[name])
            | loss_ratios(losses[name], name, self._generator("cost", name))
            for name in self.contenders
        }

    def _generator(self, *names: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self._seed, self.entry.label, *names))

    def rows(self) -> Iterator[Row]:
        """One row a contender, the dictionary first."""
        for name in self.contenders:
            counts, kept = self.sums[name][ORDINARY]["counts"], self.sums[name]
            rows = int(kept[ORDINARY]["samples"].sum())
            row = {
                **self._where(), "contender": name, **self.shapes[name],
                "n_documents": len(kept[ORDINARY]["samples"]), "rows": rows,
                "massive_rows": int(kept[ALL]["samples"].sum()) - rows,
            }  # fmt: skip
            for measure in MEASURES:
                found = estimate(self.ratios[name][measure], self._generator(name, measure))
                row |= _ends(measure, found)
            yield row | {
                "dead_share": float(dead_share(counts)),
                "dense_share": float(dense_share(counts, rows)),
                **self._losses(name),
            }

    def differences(self) -> Iterator[Row]:
        """The dictionary less each baseline, measure by measure."""
        for name in self.contenders[1:]:
            for measure in MEASURES:
                found = difference(self.ratios[ITSELF][measure], self.ratios[name][measure],
                                   self._generator("less", name, measure))  # fmt: skip
                yield {
                    "dictionary": self.entry.label, "contender": name, "measure": measure,
                    "difference": float(found.estimate), "low": float(found.low),
                    "high": float(found.high), "n_documents": len(self.ratios[name][measure].sums),
                }  # fmt: skip

    def sites(self) -> Iterator[Row]:
        """Variance unexplained at each of several sites that are written, a row a contender."""
        for name in self.contenders:
            for site in sorted(set(self.sums[name]) - {ALL, ORDINARY},
                               key=self.entry.seat.writes.index):  # fmt: skip
                kept = self.sums[name][site]
                ratio = Ratio(sums=kept["residual"].double(), counts=kept["total"].double())
                found = estimate(ratio, self._generator("fvu", name, site))
                yield {"dictionary": self.entry.label, "contender": name, "site": site,
                       **_ends("fvu", found), "n_documents": len(kept["samples"]),
                       "rows": int(kept["samples"].sum())}  # fmt: skip

    def densities(self) -> Iterator[Row]:
        """How many features are active on which share of the rows."""
        for name in self.contenders:
            kept = self.sums[name][ORDINARY]
            density = kept["counts"].double() / kept["samples"].sum()
            for low, high, features in density_histogram(density):
                yield {"dictionary": self.entry.label, "contender": name, "log10_low": low,
                       "log10_high": high, "features": features}  # fmt: skip

    def _where(self) -> Row:
        entry = self.entry
        return {"dictionary": entry.label, "model": entry.model, "site": entry.seat.site,
                "target_site": entry.seat.target, "d_in": entry.dictionary.d_in,
                "d_out": entry.dictionary.d_out}  # fmt: skip

    def _losses(self, name: str) -> Row:
        losses = self.losses[name]
        n = losses[CLEAN][2].sum()
        each = {"loss_clean": (CLEAN, 0), "loss_mean": (MEAN, 0), "loss_zero": (ZERO, 0),
                "loss": (name, 0), "kl_mean": (MEAN, 1), "kl_zero": (ZERO, 1),
                "kl": (name, 1)}  # fmt: skip
        return {column: float(losses[put][quantity].sum() / n)
                for column, (put, quantity) in each.items()} | {
            "n_loss_documents": losses[CLEAN].shape[1]}  # fmt: skip


def sums_by_kind(found: Mapping[str, Reconstruction]) -> dict[str, dict[str, Tensor]]:
    """Sums by kind of rows and name, on the CPU."""
    return {kind: {name: value.cpu() for name, value in vars(one).items()}
            for kind, one in found.items()}  # fmt: skip


def density_histogram(density: Tensor) -> Iterator[tuple[float, float, int]]:
    """Features by log10 of the share of rows they are active on; those never active are the bin
    from −∞.

    Example:
        >>> found = list(density_histogram(torch.tensor([0.0, 0.5, 0.9, 1.0])))
        >>> found[0], found[-1]
        ((-inf, -6.0, 1), (-0.25, 0.0, 2))
    """
    count = _DECADES * BINS_PER_DECADE
    place = (density.log10() * BINS_PER_DECADE).floor() + count
    bins = place.clamp(0, count - 1).long()
    never = density == 0
    yield -float("inf"), -float(_DECADES), int(never.sum())
    found = torch.bincount(bins[~never], minlength=count).tolist()
    for i, features in enumerate(found):
        low = i / BINS_PER_DECADE - _DECADES
        yield low, low + 1 / BINS_PER_DECADE, features


def shape_of(dictionary: Any, kind: str) -> Row:
    """Width and k as a row has them; a direction with two signs is one feature."""
    signs = 2 if kind in ("pca", "pca_subspace", "ica") else 1
    return {"architecture": dictionary.architecture, "width": dictionary.width // signs,
            "k": dictionary.k}  # fmt: skip


def _ends(name: str, found: Interval) -> Row:
    return {name: float(found.estimate), f"{name}_low": float(found.low),
            f"{name}_high": float(found.high)}  # fmt: skip
