"""The rolling z of ndtracker 2.0.0, to be judged beside others."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW, FEWEST, THRESHOLD = 50, 20, 3.0
FLAT = 1e-10


def rolling_z_jumps(
    values: Float[Tensor, "series sample"],
    *,
    window: int = WINDOW,
    threshold: float = THRESHOLD,
    min_samples: int = FEWEST,
) -> Bool[Tensor, "series sample"]:
    """Where a sample lies more than `threshold` deviations from the mean of those before it.

    Mean and (population) standard deviation are those of the `window` samples before, or of as many
    as there are from `min_samples` on; where those are constant, nothing is said. One step fires
    until the window has taken it in, and Gaussian noise fires at more than .27 %, since the
    deviation is estimated.

    Source: ndtracker 2.0.0, `ndt.core.jump_detector`.

    Example:
        >>> noise = torch.sin(torch.arange(60.0))[None]
        >>> step = noise + 9 * (torch.arange(60) >= 40)
        >>> rolling_z_jumps(noise).sum().item(), rolling_z_jumps(step).nonzero()[0].tolist()
        (0, [0, 40])
    """
    samples = values.shape[1]
    x = torch.nn.functional.pad(values.double(), (window, 0), value=torch.nan)
    before = x.unfold(1, window, 1)[:, :samples]
    mean = before.nanmean(-1, keepdim=True)
    deviation = (before - mean).square().nanmean(-1).sqrt()
    z = (values.double() - mean[..., 0]).abs() / deviation
    enough = torch.arange(samples, device=values.device) >= min_samples
    return (z > threshold) & (deviation >= FLAT) & enough
