"""How good a dictionary is: sums that stream in float64, and the measures made of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.core.registry import measure
from energylens.features.code import SparseCode


@measure(
    units="share of variance, 0 for perfect, 1 for predicting the mean",
    axes=(),
    source="definition: residual variance over variance about the mean",
    null="a random dictionary of the same width and k",
    unchanged_by=("sample order", "a common shift", "a common scale"),
    formula="FVU = Σ‖x − x̂‖² / Σ‖x − x̄‖²",
)
def fvu(
    rows: Float[Tensor, "sample d"], reconstruction: Float[Tensor, "sample d"]
) -> Float64[Tensor, ""]:
    """Fraction of variance unexplained, in float64; nan where the rows do not vary.

    Example:
        >>> rows = torch.tensor([[0.0], [2.0]])
        >>> float(fvu(rows, torch.tensor([[0.0], [1.0]])))
        0.5
    """
    rows = rows.double()
    total = (rows - rows.mean(dim=0)).square().sum()
    return _ratio((rows - reconstruction.double()).square().sum(), total)


@measure(
    units="active features a row",
    axes=(),
    source="definition: mean number of features with a value other than 0",
    null="k, which a TopK code of random directions reaches as well",
    unchanged_by=("sample order", "feature order", "positive scale of activations"),
    formula="L0 = mean over rows of #{f : a_f ≠ 0}",
)
def l0(code: SparseCode) -> Float64[Tensor, ""]:
    """Mean number of active features a row; nan without rows."""
    return (code.values != 0).sum(dim=1).double().mean()


@measure(
    units="share of features",
    axes=(),
    source="definition: features that no row of the evaluation activates",
    null="a random dictionary of the same width and k",
    unchanged_by=("sample order", "feature order", "positive scale of activations"),
    formula="dead = #{f : a_f = 0 on every row} / width",
)
def dead_share(counts: Int64[Tensor, " feature"]) -> Float64[Tensor, ""]:
    """Share of the features that were active on no row.

    Args:
        counts: On how many rows each feature was active, as `SparseCode.column_counts` gives.
    """
    return (counts == 0).double().mean()


@measure(
    units="share of the loss that ablation costs, 1 for no loss at all",
    axes=(),
    source="definition: as in SAELens and dictionary_learning ('loss recovered', CE score)",
    null="a random dictionary of the same width and k; 0 is the ablation itself",
    unchanged_by=("a common shift", "a common positive scale"),
    formula="(L_ablated − L_reconstructed) / (L_ablated − L_clean)",
)
def loss_recovered(
    clean: Float[Tensor, "*batch"],
    ablated: Float[Tensor, "*batch"],
    reconstructed: Float[Tensor, "*batch"],
) -> Float64[Tensor, "*batch"]:
    """How much of the loss that ablating a site costs its reconstruction wins back.

    nan where ablation does not raise the loss: nothing is there to be recovered. Above 1 if the
    reconstruction does better than the site itself, below 0 if worse than its ablation.

    Args:
        clean: The model's loss as it is.
        ablated: With the site replaced by its mean (or by 0: say which).
        reconstructed: With the site replaced by the dictionary's reconstruction.

    Example:
        >>> float(loss_recovered(torch.tensor(3.0), torch.tensor(7.0), torch.tensor(4.0)))
        0.75
    """
    return _ratio(ablated.double() - reconstructed.double(), ablated.double() - clean.double())


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / torch.where(whole > 0, whole, torch.nan)


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What `ReconstructionStats` saw.

    `residual` and `total` are sums of squares by unit, about the mean of all rows: their ratio of
    sums is `fvu`, and resampling units gives it an interval.
    """

    fvu: float
    l0: float
    dead_share: float
    density: Float64[Tensor, " feature"]
    """Share of the rows on which each feature is active."""
    residual: Float64[Tensor, " unit"]
    total: Float64[Tensor, " unit"]
    samples: Int64[Tensor, " unit"]


class ReconstructionStats:
    """Sums over any number of batches; exact however the rows are cut into batches.

    Args:
        width: Features of the dictionary.
        units: How many independent units (documents) the rows come from.
    """

    def __init__(self, *, width: int, units: int = 1) -> None:
        self._counts = torch.zeros(width, dtype=torch.int64)
        self._samples = torch.zeros(units, dtype=torch.int64)
        self._residual = torch.zeros(units, dtype=torch.float64)
        self._square = torch.zeros(units, dtype=torch.float64)
        self._sum: Tensor | None = None
        self._origin: Tensor | None = None

    def update(
        self,
        rows: Float[Tensor, "sample d_out"],
        code: SparseCode,
        reconstruction: Float[Tensor, "sample d_out"],
        unit: Int64[Tensor, " sample"] | None = None,
    ) -> None:
        """Add a batch; `unit` numbers the unit of each row from 0, all 0 unless given.

        Raises:
            BadInput: If the code has another width, or a unit is out of range.
        """
        self._check(code, unit)
        origin, sums = self._settle(rows)
        if unit is None:
            unit = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        shifted = rows.double() - origin
        residual = (rows.double() - reconstruction.double()).square().sum(dim=1)
        self._counts += code.column_counts()
        self._samples += torch.bincount(unit, minlength=len(self._samples))
        self._residual.index_add_(0, unit, residual)
        self._square.index_add_(0, unit, shifted.square().sum(dim=1))
        sums.index_add_(0, unit, shifted)

    def result(self) -> Reconstruction:
        """The measures of all rows so far.

        Raises:
            InsufficientData: If no row was seen.
        """
        n = int(self._samples.sum())
        if self._sum is None or not n:
            raise InsufficientData("no row was given: update with at least one batch first")
        mean = self._sum.sum(dim=0) / n
        total = self._square - 2 * self._sum @ mean + self._samples * mean.square().sum()
        return Reconstruction(
            fvu=float(_ratio(self._residual.sum(), total.sum())),
            l0=float(self._counts.sum()) / n,
            dead_share=float(dead_share(self._counts)),
            density=self._counts.double() / n,
            residual=self._residual.clone(),
            total=total,
            samples=self._samples.clone(),
        )

    def _settle(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Take the device of the first batch, and its mean as origin: squares stay small."""
        if self._origin is not None and self._sum is not None:
            return self._origin, self._sum
        for name in ("_counts", "_samples", "_residual", "_square"):
            setattr(self, name, getattr(self, name).to(rows.device))
        self._origin = rows.double().sum(dim=0) / max(1, len(rows))
        self._sum = torch.zeros(
            len(self._samples), rows.shape[1], dtype=torch.float64, device=rows.device
        )
        return self._origin, self._sum

    def _check(self, code: SparseCode, unit: Tensor | None) -> None:
        if code.width != len(self._counts):
            raise BadInput(
                f"statistics of {len(self._counts)} features were asked for, found a code of "
                f"{code.width}: make one ReconstructionStats for each dictionary"
            )
        units = len(self._samples)
        if unit is not None and len(unit) and not 0 <= int(unit.min()) <= int(unit.max()) < units:
            raise BadInput(
                f"units are numbered 0 … {units - 1}, found {int(unit.min())} … {int(unit.max())}: "
                "say how many units there are when making ReconstructionStats"
            )
