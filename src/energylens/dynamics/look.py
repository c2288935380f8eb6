"""One look at a network: the dimensions of every site on a fixed probe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from energylens.core.errors import SiteNotAvailable, nearest
from energylens.dynamics.dimension import dimensions_of_each
from energylens.dynamics.gram import ceiling
from energylens.dynamics.probe import Forward, Probe, padding_of
from energylens.dynamics.sites import Site, rows_of, tensor_of, watched
from energylens.dynamics.unseen import unseen


@dataclass(frozen=True, kw_only=True)
class TrackOptions:
    """How sites are measured.

    Attributes:
        centred: Whether the mean row is taken off before dimensions are measured.
        again: Whether the probe is halved, and everything measured on the second half too: what
            differs is how far values depend on the samples.
        q: Share of the energy rank.
        pooled: One row a sample: the mean over places of a map or positions of a sequence.
        most_rows: Rows that are kept at each site and half, the same ones always, drawn once; they
            bound what a look costs, and the dimensions that can be seen. None: all.
        units: Axis of the units, by module, where it is neither the last nor that of channels.
        update_norm: Whether the size of an update is measured, which keeps a copy of the weights
            for the length of one step.
    """

    centred: bool = True
    again: bool = True
    q: float = 0.9
    pooled: bool = False
    most_rows: int | None = 256
    units: Mapping[str, int] = field(default_factory=dict)
    update_norm: bool = True


def rows_seen(
    model: nn.Module, probe: Probe, part: int, sites: Sequence[Site], options: TrackOptions,
    forward: Forward, *, pass_over: bool = False,
) -> dict[str, Float[Tensor, "row unit"]]:  # fmt: skip
    """Rows of every site that fired, in the order of the pass; of all its calls, if there are more.

    To be called inside `unseen`.

    Args:
        pass_over: Leave out sites that hold no activations, rather than refuse.

    Raises:
        SiteNotAvailable: If a site holds no activations.
    """
    seen: dict[str, list[Tensor]] = {}
    padding = padding_of(probe.parts[part])

    def see(site: Site, module: nn.Module, output: object) -> None:
        try:
            value = tensor_of(output, site)
        except SiteNotAvailable:
            if pass_over:
                return
            raise
        rows = rows_of(value, site, module, pooled=options.pooled, most=options.most_rows,
                       padding=padding)  # fmt: skip
        seen.setdefault(site.name, []).append(rows)

    with watched(model, sites, see):
        forward(model, probe.parts[part])
    return {name: calls[0] if len(calls) == 1 else torch.cat(calls)
            for name, calls in seen.items()}  # fmt: skip


@torch.no_grad()
def look(
    model: nn.Module, probe: Probe, sites: Sequence[Site], options: TrackOptions, forward: Forward
) -> dict[str, Float[Tensor, "part site"]]:
    """Every measure of every site, on each part of the probe; nan where one is not defined.

    Layers of one shape are multiplied and decomposed together. The network is left as it was.

    Raises:
        SiteNotAvailable: If a site was not reached.
    """
    with unseen(model):
        parts = [rows_seen(model, probe, part, sites, options, forward)
                 for part in range(len(probe.parts))]  # fmt: skip
    for seen in parts:
        require_fired(sites, seen)
    tensors = [seen[site.name] for seen in parts for site in sites]
    found = dimensions_of_each(tensors, centred=options.centred, q=options.q)
    return {name: values.view(len(parts), len(sites)) for name, values in found.items()}


def require_fired(sites: Sequence[Site], seen: dict[str, Tensor]) -> None:
    """Refuse sites that the pass did not reach.

    Raises:
        SiteNotAvailable: Names the first, and which sites near it were reached.
    """
    silent = [site.name for site in sites if site.name not in seen]
    if silent:
        near = nearest(silent[0], seen) or list(seen)[:3]
        raise SiteNotAvailable(
            f"{silent[0]} never fired: the network ran on the probe without it"
            + (f" (nor {len(silent) - 1} others)" if len(silent) > 1 else "")
            + ("; what did fire is " + ", ".join(near) if near else "; nothing fired")
        )


def ceilings(seen: dict[str, Tensor], options: TrackOptions) -> dict[str, int]:
    """The largest value that a dimension could have at each site."""
    return {name: ceiling(*rows.shape, centred=options.centred) for name, rows in seen.items()}
