"""Is a label more frequent in a group than chance allows? The hypergeometric test."""

import torch
from jaxtyping import Bool, Float64
from torch import Tensor


def enrichment_p(
    groups: Bool[Tensor, "unit group"], labels: Bool[Tensor, "unit label"]
) -> Float64[Tensor, "group label"]:
    """P that a group holds so many units of a label, or more, when units are drawn blindly.

    Every row must be an independent unit: one state a document, not all its tokens. nan for
    groups and labels without a unit, or with all of them, where nothing can be enriched.

    Example:
        >>> inside = torch.tensor([1, 1, 1, 0, 0, 0]).bool()[:, None]
        >>> round(enrichment_p(inside, inside).item(), 6)  # 3 of 3 drawn from 3 in 6: 1 / 20
        0.05
    """
    from scipy.stats import hypergeom

    both = (groups.double().T @ labels.double()).numpy(force=True)
    units = len(groups)
    in_group, with_label = groups.sum(0), labels.sum(0)
    p = hypergeom.sf(
        both - 1, units, with_label[None, :].numpy(force=True),
        in_group[:, None].numpy(force=True),
    )  # fmt: skip
    p = torch.as_tensor(p, dtype=torch.float64, device=groups.device)
    idle = ((in_group == 0) | (in_group == units))[:, None] | (
        (with_label == 0) | (with_label == units)
    )[None, :]
    return torch.where(idle, torch.nan, p.clamp(0, 1))
