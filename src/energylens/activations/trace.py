"""One forward pass with every module's input and output: what discovery looks at."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from energylens.core.sites import Port


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a module: the tensors that its ports `:in` and `:out` held.

    Attributes:
        entered: Number of the call in the order in which calls began.
        in_tuple: Whether the output is the first item of a tuple.
        flattened: Whether the module gives its output with batch and positions in one axis.
    """

    path: str
    module: nn.Module
    entered: int
    into: Tensor | None
    out: Tensor | None
    in_tuple: bool
    flattened: bool = False

    @property
    def depth(self) -> int:
        return self.path.count(".")

    def inside(self, path: str) -> bool:
        """Whether the module lies below another, or is a module of a model when `path` is ""."""
        return self.path.startswith(f"{path}.") if path else bool(self.path)

    @property
    def port_out(self) -> Port:
        return Port(self.path, "out", 0 if self.in_tuple else None)

    @property
    def port_in(self) -> Port:
        return Port(self.path, "in")


@contextmanager
def traced(root: nn.Module) -> Iterator[list[Call]]:
    """Collect the calls of the passes inside the block, in the order in which they returned."""
    calls: list[Call] = []
    begun: dict[str, tuple[int, Tensor | None]] = {}
    count = 0

    def before(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal count
        given = args[0] if args else next(iter(kwargs.values()), None)
        begun[path] = (count, _kept(given))
        count += 1

    def after(path: str, module: nn.Module, output: Any) -> None:
        entered, into = begun[path]
        in_tuple = isinstance(output, tuple) and bool(output)
        calls.append(
            Call(path=path, module=module, entered=entered, into=into,
                 out=_kept(output[0] if in_tuple else output), in_tuple=in_tuple)
        )  # fmt: skip

    handles: list[Any] = []
    try:
        for path, module in root.named_modules():
            handles += [
                module.register_forward_pre_hook(
                    lambda m, args, kwargs, path=path: before(path, args, kwargs), with_kwargs=True
                ),
                module.register_forward_hook(lambda m, args, out, path=path: after(path, m, out)),
            ]
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def once(calls: list[Call]) -> list[Call]:
    """The calls of modules that were called once."""
    times = Counter(call.path for call in calls)
    return [call for call in calls if times[call.path] == 1]


def _kept(value: Any) -> Tensor | None:
    # A copy, because what comes later may write in place.
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone()
    return None
