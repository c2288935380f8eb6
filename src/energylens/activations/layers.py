"""The hidden layers of a classifier of any make, found by what is called, not by names."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from energylens.activations.trace import Call, once, traced
from energylens.core.errors import SiteNotAvailable

MOST_AXES = 4


def hidden_layers(module: nn.Module, forward: Callable[[], Tensor]) -> list[str]:
    """Sites `path:out` of the hidden layers, in the order in which a pass reaches them.

    They are the outermost list of modules of one class that are called once each and give a
    tensor; of lists of one depth the longest, and of equally long ones the last (of Linear and
    ReLU in turn, the ReLUs). What gives the output itself is left out.

    Raises:
        SiteNotAvailable: If there is no such list; says how to name sites.
    """
    with torch.no_grad(), traced(module) as every:
        output = forward()
    calls = {call.path: call for call in once(every) if _hidden(call, output)}
    lists = sorted(_siblings(module, calls), key=lambda found: (found[0].count("."), -len(found)))
    if not lists:
        raise SiteNotAvailable(
            f"{type(module).__name__} has no list of layers of one class to read by default: name"
            " sites, any module as `path:out`"
        )
    best = [found for found in lists if _rank(found) == _rank(lists[0])][-1]
    return [str(calls[path].port_out) for path in best]


def _rank(paths: list[str]) -> tuple[int, int]:
    return paths[0].count("."), len(paths)


def _hidden(call: Call, output: Tensor) -> bool:
    """Whether a call gives states of a hidden layer: batch first, and not the scores."""
    out = call.out
    if out is None or not 2 <= out.ndim <= MOST_AXES or len(out) != len(output):
        return False
    return out.shape != output.shape or not torch.equal(out, output)


def _siblings(module: nn.Module, calls: dict[str, Call]) -> Iterator[list[str]]:
    for path, parent in module.named_modules():
        if not isinstance(parent, nn.ModuleList | nn.Sequential):
            continue
        by_class: dict[type, list[str]] = {}
        for name, child in parent.named_children():
            here = f"{path}.{name}".lstrip(".")
            if here in calls:
                by_class.setdefault(type(child), []).append(here)
        for paths in by_class.values():
            if len(paths) > 1:
                yield sorted(paths, key=lambda p: calls[p].entered)
