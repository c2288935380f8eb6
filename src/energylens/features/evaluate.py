"""How good a dictionary is: sums that stream in float64, and the measures made of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.core.registry import measure
from energylens.features.code import SparseCode

DENSE = 0.1
"""Share of the rows above which a feature counts as dense."""


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
    units="share of features",
    axes=(),
    source="definition: features active on more than a tenth of the rows (as in SAEBench)",
    null="a random dictionary of the same width and k",
    unchanged_by=("sample order", "feature order", "positive scale of activations"),
    formula="dense = #{f : share of rows with a_f ≠ 0 > 1/10} / width",
)
def dense_share(counts: Int64[Tensor, " feature"], rows: int) -> Float64[Tensor, ""]:
    """Share of the features that are active on more than a tenth of the rows.

    Args:
        counts: On how many rows each feature was active.
        rows: How many there were; nan without any.
    """
    if not rows:
        return torch.tensor(torch.nan, dtype=torch.float64)
    return (counts > DENSE * rows).double().mean()


@measure(
    units="cosine",
    axes=(),
    source="definition: mean cosine of a row with its reconstruction, as in SAELens and SAEBench",
    null="a random dictionary of the same width and k; where rows share a large mean, b_dec alone"
    " comes close to 1",
    unchanged_by=("sample order", "a common positive scale", "rotation of the space"),
    formula="mean over rows of ⟨x, x̂⟩ / (‖x‖ ‖x̂‖)",
)
def cosine_similarity(
    rows: Float[Tensor, "sample d"], reconstruction: Float[Tensor, "sample d"]
) -> Float64[Tensor, ""]:
    """Mean cosine over the rows where it is defined (neither side is 0); nan without any."""
    return _cosines(rows.double(), reconstruction.double()).nanmean()


@measure(
    units="ratio of norms, 1 for no shrinkage",
    axes=(),
    source="definition: as the L2 ratio of SAELens and SAEBench, ratio of sums",
    null="a random dictionary of the same width and k",
    unchanged_by=("sample order", "a common positive scale", "rotation of the space"),
    formula="Σ‖x̂‖ / Σ‖x‖",
)
def norm_ratio(
    rows: Float[Tensor, "sample d"], reconstruction: Float[Tensor, "sample d"]
) -> Float64[Tensor, ""]:
    """How long reconstructions are beside the rows; nan where all rows are 0.

    Example:
        >>> rows = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
        >>> float(norm_ratio(rows, 0.5 * rows))
        0.5
    """
    made, there = (torch.linalg.vector_norm(x.double(), dim=1) for x in (reconstruction, rows))
    return _ratio(made.sum(), there.sum())


@measure(
    units="factor, 1 for no shrinkage, above 1 where reconstructions are too short",
    axes=(),
    source="the inverse of the bias γ of Rajamanoharan et al. 2024 (arXiv 2404.16014), about the"
    " mean of the rows",
    null="1, which an orthogonal projection about the mean has",
    unchanged_by=("sample order", "a common shift", "a common scale", "rotation of the space"),
    formula="s = argmin Σ‖(x − x̄) − s (x̂ − x̄)‖² = Σ⟨x − x̄, x̂ − x̄⟩ / Σ‖x̂ − x̄‖²",
)
def least_squares_scale(
    rows: Float[Tensor, "sample d"], reconstruction: Float[Tensor, "sample d"]
) -> Float64[Tensor, ""]:
    """The factor that would bring centred reconstructions nearest to the rows; nan where all
    reconstructions are the mean.

    Example:
        >>> rows = torch.tensor([[3.0], [5.0]])
        >>> float(least_squares_scale(rows, 4 + 0.5 * (rows - 4)))
        2.0
    """
    mean = rows.double().mean(dim=0)
    there, made = rows.double() - mean, reconstruction.double() - mean
    return _ratio((there * made).sum(), made.square().sum())


@measure(
    units="share of the loss that ablation costs, 1 for no loss at all",
    axes=(),
    source="definition: as in SAELens and dictionary_learning ('loss recovered', CE score); of"
    " KL to the model's own output, where clean is 0, as in SAEBench",
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


def _cosines(rows: Tensor, made: Tensor) -> Tensor:
    """Cosine of each row with what was made of it; nan where either is 0."""
    size = torch.linalg.vector_norm(rows, dim=1) * torch.linalg.vector_norm(made, dim=1)
    return _ratio((rows * made).sum(dim=1), size)


_SUMS = ("samples", "active", "residual", "square", "cosine", "directed", "norm", "made_norm",
        "dot", "made_square")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """What `ReconstructionStats` saw.

    What is by unit are sums over its rows. Every measure is a ratio of two of them, summed over
    units, so resampling units gives it an interval.

    Attributes:
        counts: Rows on which each feature is active.
        samples: Rows.
        active: Active entries: over `samples`, `l0`.
        residual, total: Squared error, and squared distance from the mean of all rows: `fvu`.
        cosine, directed: Cosines, and rows that have one: `cosine_similarity`.
        norm, made_norm: Norms of rows and of reconstructions: `norm_ratio`.
        along, made_total: ⟨x − x̄, x̂ − x̄⟩ and ‖x̂ − x̄‖²: `least_squares_scale`.
    """

    counts: Int64[Tensor, " feature"]
    samples: Int64[Tensor, " unit"]
    active: Float64[Tensor, " unit"]
    residual: Float64[Tensor, " unit"]
    total: Float64[Tensor, " unit"]
    cosine: Float64[Tensor, " unit"]
    directed: Float64[Tensor, " unit"]
    norm: Float64[Tensor, " unit"]
    made_norm: Float64[Tensor, " unit"]
    along: Float64[Tensor, " unit"]
    made_total: Float64[Tensor, " unit"]

    @property
    def fvu(self) -> float:
        return float(_ratio(self.residual.sum(), self.total.sum()))

    @property
    def l0(self) -> float:
        return float(self.active.sum() / self.samples.sum())

    @property
    def dead_share(self) -> float:
        return float(dead_share(self.counts))

    @property
    def dense_share(self) -> float:
        return float(dense_share(self.counts, int(self.samples.sum())))

    @property
    def density(self) -> Float64[Tensor, " feature"]:
        """Share of the rows on which each feature is active."""
        return self.counts.double() / self.samples.sum()


class ReconstructionStats:
    """Sums over any number of batches; exact however the rows are cut into batches.

    Args:
        width: Features of the dictionary.
        units: How many independent units (documents) the rows come from.
    """

    def __init__(self, *, width: int, units: int = 1) -> None:
        self._counts = torch.zeros(width, dtype=torch.int64)
        self._units = units
        self._sums: dict[str, Tensor] = {}
        self._origin = torch.empty(0)

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
        if not self._sums:
            self._settle(rows)
        if unit is None:
            unit = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        there, made = rows.double(), reconstruction.double()
        shifted, made_shifted = there - self._origin, made - self._origin
        cosine = _cosines(there, made)
        values = {
            "samples": torch.ones_like(cosine),
            "active": (code.values != 0).sum(dim=1).double(),
            "residual": (there - made).square().sum(dim=1),
            "square": shifted.square().sum(dim=1),
            "cosine": cosine.nan_to_num(0.0),
            "directed": cosine.isfinite().double(),
            "norm": torch.linalg.vector_norm(there, dim=1),
            "made_norm": torch.linalg.vector_norm(made, dim=1),
            "dot": (shifted * made_shifted).sum(dim=1),
            "made_square": made_shifted.square().sum(dim=1),
            "sum": shifted,
            "made_sum": made_shifted,
        }
        self._counts += code.column_counts()
        for name, value in values.items():
            self._sums[name].index_add_(0, unit, value)

    def result(self) -> Reconstruction:
        """The measures of all rows so far.

        Raises:
            InsufficientData: If no row was seen.
        """
        sums = self._sums
        n = float(sums["samples"].sum()) if sums else 0.0
        if not n:
            raise InsufficientData("no row was given: update with at least one batch first")
        mean = sums["sum"].sum(dim=0) / n
        apart = sums["samples"] * mean.square().sum()
        reach, made_reach = sums["sum"] @ mean, sums["made_sum"] @ mean
        return Reconstruction(
            counts=self._counts.clone(),
            samples=sums["samples"].long(),
            total=sums["square"] - 2 * reach + apart,
            along=sums["dot"] - reach - made_reach + apart,
            made_total=sums["made_square"] - 2 * made_reach + apart,
            **{name: sums[name].clone() for name in
               ("active", "residual", "cosine", "directed", "norm", "made_norm")},
        )  # fmt: skip

    def _settle(self, rows: Tensor) -> None:
        """Take the device of the first batch, and its mean as origin: squares stay small."""
        self._counts = self._counts.to(rows.device)
        self._origin = rows.double().sum(dim=0) / max(1, len(rows))
        zero = torch.zeros(self._units, rows.shape[1], dtype=torch.float64, device=rows.device)
        self._sums = {name: zero[:, 0].clone() for name in _SUMS}
        self._sums |= {name: zero.clone() for name in ("sum", "made_sum")}

    def _check(self, code: SparseCode, unit: Tensor | None) -> None:
        if code.width != len(self._counts):
            raise BadInput(
                f"statistics of {len(self._counts)} features were asked for, found a code of "
                f"{code.width}: make one ReconstructionStats for each dictionary"
            )
        units = self._units
        if unit is not None and len(unit) and not 0 <= int(unit.min()) <= int(unit.max()) < units:
            raise BadInput(
                f"units are numbered 0 … {units - 1}, found {int(unit.min())} … {int(unit.max())}: "
                "say how many units there are when making ReconstructionStats"
            )
