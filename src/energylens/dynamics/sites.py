"""Where a network is looked at, and the rows that its tensors become."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from energylens.activations.hooks import module_at
from energylens.core.errors import SiteNotAvailable, UnknownName
from energylens.core.sites import Port, expand, parse_port

_LISTS = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A tensor of the network.

    Attributes:
        name: As it was asked for.
        port: Where it is.
        units: The axis of its tensor that holds units; None: the last, or the channels where the
            module works on maps of channels.
    """

    name: str
    port: Port
    units: int | None = None


def default_sites(model: nn.Module) -> list[str]:
    """Modules that are worth a look: linear maps, convolutions, attention, recurrent nets, blocks.

    A linear map is any module without parts whose weight is a matrix or more, embeddings left out;
    a block is a module with parts in a list of modules of its class. What never runs is among them.
    """
    blocks = {
        id(member)
        for group in model.modules()
        if isinstance(group, _LISTS) and len({type(m) for m in group}) == 1
        for member in group
        if any(member.children()) and not isinstance(member, _LISTS)
    }
    # The parts of torch's attention run inside of it and fire no hook.
    inner = {id(part) for module in model.modules() if isinstance(module, nn.MultiheadAttention)
             for part in module.children()}  # fmt: skip
    return [
        name
        for name, module in model.named_modules()
        if name and id(module) not in inner and (id(module) in blocks or _maps(module))
    ]


def _maps(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return True
    weight = module._parameters.get("weight")
    embeds = isinstance(module, nn.Embedding | nn.EmbeddingBag)
    return not any(module.children()) and not embeds and weight is not None and weight.ndim >= 2


def find_sites(
    model: nn.Module, asked: Sequence[str], units: Mapping[str, int] | None = None
) -> list[Site]:
    """Sites of modules (`layers.0.linear1`), ports (`layers.0:out[1]`) and wildcards of modules.

    The output projection of torch's attention runs inside of it and fires no hook: asking for
    `…out_proj` gives the output of the attention, which is the same tensor.

    Raises:
        UnknownName: If there is no such module; carries the nearest names.
        BadInput: If a wildcard matches nothing.
    """
    known = [name for name, _ in model.named_modules() if name]
    if strangers := sorted(set(units or {}) - set(known)):
        raise UnknownName("module", strangers[0], known)
    names = [n for name in asked for n in (expand(name, known) if "*" in name else [name])]
    found = []
    for name in dict.fromkeys(names):
        port = parse_port(name) or Port(name, "out")
        module_at(model, port.path)  # raises with the nearest names
        path, _, last = port.path.rpartition(".")
        if last == "out_proj" and isinstance(module_at(model, path), nn.MultiheadAttention):
            port = Port(path, port.side, port.item)
        found.append(Site(name=name, port=port, units=(units or {}).get(port.path)))
    return found


@contextmanager
def watched(
    model: nn.Module, sites: Sequence[Site], see: Callable[[Site, nn.Module, object], None]
) -> Iterator[None]:
    """Show what passes each site, in the order of the pass; nothing is changed."""
    handles = []
    try:
        for site in sites:
            module = module_at(model, site.port.path)
            if site.port.side == "out":

                def after(module: nn.Module, _: Any, output: Any, site: Site = site) -> None:
                    see(site, module, output)

                handles.append(module.register_forward_hook(after))
            else:

                def before(
                    module: nn.Module, args: Any, named: dict[str, Any], site: Site = site
                ) -> None:
                    see(site, module, (*args, *named.values()))

                handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def rows_of(
    value: Tensor,
    site: Site,
    module: nn.Module,
    *,
    pooled: bool,
    most: int | None,
    padding: Shaped[Tensor, "sample pos"] | None,
) -> Float[Tensor, "row unit"]:
    """A tensor as rows of units, in memory of their own: networks change tensors in place.

    Maps of channels become (sample · place) × channel, sequences (sample · position) × unit.

    Args:
        pooled: One row a sample: the mean over places or positions.
        most: Rows that are kept where there are more, the same ones always; None: all.
        padding: Which positions are real; the rows of others are left out, where the tensor has
            those positions.
    """
    if value.ndim == 1:
        value = value[:, None]
    axis = site.units if site.units is not None else _units_axis(value, module)
    last = value.movedim(axis, -1)
    if padding is not None and (last.ndim != 3 or last.shape[:2] != padding.shape):
        padding = None
    if pooled and last.ndim > 2:
        last = _pooled(last, padding)
    elif padding is not None:
        last = last[padding]
    rows = last.shape[:-1].numel()
    if most is None or rows <= most:
        return last.flatten(0, -2).clone()
    # Only these are copied out of a large map.
    return last[torch.unravel_index(_subset(rows, most, last.device), last.shape[:-1])]


def _pooled(last: Tensor, padding: Tensor | None) -> Tensor:
    if padding is None:
        return last.mean(tuple(range(1, last.ndim - 1)))
    share = padding / padding.sum(1, keepdim=True).clamp_min(1)
    return (last * share[..., None]).sum(1)


@lru_cache(maxsize=64)
def _subset(rows: int, most: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randperm(rows, generator=generator)[:most].sort().values.to(device)


def _units_axis(value: Tensor, module: nn.Module) -> int:
    """Channels lie behind samples in what convolutions make, units last in everything else."""
    kinds = [type(m) for m in module.modules()]
    maps = any(issubclass(kind, _ConvNd | _BatchNorm) for kind in kinds)
    # Blocks of sequences may convolve inside and still give (sample, position, unit).
    mixed = value.ndim == 3 and any(issubclass(kind, nn.Linear) for kind in kinds)
    return 1 if maps and not mixed else -1


def tensor_of(value: Any, site: Site) -> Tensor:
    """The tensor of an output, or the one asked for: the first of a tuple or of named outputs.

    Raises:
        SiteNotAvailable: If there is none, or it holds no real numbers.
    """
    if site.port.item is not None and isinstance(value, tuple | list):
        value = value[site.port.item]
    while not isinstance(value, Tensor):
        parts = list(value.values()) if isinstance(value, Mapping) else value
        if not isinstance(parts, tuple | list) or not parts:
            raise SiteNotAvailable(
                f"{site.name} holds a {type(value).__name__}, no tensor: name another module, or"
                " which of several as `:out[i]`"
            )
        value = parts[0]
    if not value.is_floating_point():
        raise SiteNotAvailable(f"{site.name} holds {value.dtype}, no activations: name another one")
    return value.detach()
