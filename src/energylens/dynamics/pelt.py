"""Change points of the mean by PELT alone: no trend, no correlation, no null."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from energylens.core.errors import InsufficientData

APART = 5
NORMAL = 1.4826  # the standard deviation of a Gaussian in units of its median absolute deviation


def pelt_jumps(
    values: Float[Tensor, "series sample"], *, penalty: float | int = 2.0, apart: int = APART
) -> Bool[Tensor, "series sample"]:
    """First samples of the segments of constant mean that cost least (Killick et al. 2012).

    The cost of a change is `penalty` · σ² · ln(samples), 2 being the Bayesian information criterion
    of a change and its place, with σ from the median absolute difference of neighbours, which is
    right for white noise. By `ruptures` (Truong et al. 2020). Constant series, and those with nan,
    have none.

    Example:
        >>> x = 0.1 * torch.sin(7 * torch.arange(80.0)) + (torch.arange(80) >= 30)
        >>> pelt_jumps(x[None]).nonzero().tolist()
        [[0, 30]]

    Raises:
        InsufficientData: If two segments do not fit into the series.
    """
    import ruptures

    series, samples = values.shape
    if samples < 2 * apart:
        raise InsufficientData(
            f"PELT needs {2 * apart} samples to find a change, got {samples}: measure more often"
        )
    moves = values.double().diff(dim=1)
    sigma = NORMAL * moves.abs().median(1).values / 2**0.5
    scaled = (values.double() / sigma[:, None]).numpy(force=True)
    found = torch.zeros(series, samples, dtype=torch.bool)
    cost = penalty * torch.log(torch.tensor(float(samples))).item()
    for row, known in enumerate((sigma.isfinite() & (sigma > 0)).tolist()):
        if known:
            search = ruptures.KernelCPD(kernel="linear", min_size=apart).fit(scaled[row])
            found[row, search.predict(pen=cost)[:-1]] = True
    return found.to(values.device)
