"""Read level-1 ports with plain torch hooks, independently of the room that captures."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from energylens.core.sites import parse_port
from energylens.sources.family import Family


def ports_of(family: Family, n_layers: int) -> dict[str, str]:
    ports = dict(family.model_sites)
    for layer in range(n_layers):
        for site, port in family.block_sites.items():
            block = f"{family.blocks}.{layer}"
            ports[f"blocks.{layer}.{site}"] = port.format(block=block)
    return ports


def read_ports(
    module: nn.Module, ports: Mapping[str, str], ids: Tensor
) -> tuple[dict[str, list[Tensor]], Tensor]:
    """Every tensor that passes each port in one forward pass, and the logits."""
    seen: dict[str, list[Tensor]] = {name: [] for name in ports}
    handles = []
    for name, text in ports.items():
        port = parse_port(text)
        assert port is not None, text

        def watch(mod, args, output=None, *, name=name, port=port):
            value = args[0] if port.side == "in" else output
            seen[name].append((value if port.item is None else value[port.item]).clone())

        target = module.get_submodule(port.path)
        side = target.register_forward_pre_hook if port.side == "in" else None
        handles.append((side or target.register_forward_hook)(watch))
    try:
        with torch.no_grad():
            logits = module(ids).logits
    finally:
        for handle in handles:
            handle.remove()
    return seen, logits
