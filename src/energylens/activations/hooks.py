"""Watch and replace tensors at ports of a module, and leave the module as it was found."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from energylens.core.errors import SiteNotAvailable, UnknownName
from energylens.core.sites import Port

Edit = Callable[[Tensor], Tensor]


class Stop(Exception):
    """Raised inside a forward pass when nothing above it is wanted."""


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The sub-module at a dotted path; the empty path is the root.

    Raises:
        UnknownName: If there is none; carries the nearest paths.
    """
    try:
        return root.get_submodule(path)
    except AttributeError:
        paths = [name for name, _ in root.named_modules() if name]
        raise UnknownName("module", path, paths) from None


@contextmanager
def ports_edited(root: nn.Module, edits: Iterable[tuple[Port, Edit]]) -> Iterator[None]:
    """Pass the tensor at each port through a function; a function may return it unchanged."""
    handles: list[RemovableHandle] = []
    try:
        for port, edit in edits:
            handles.append(_attach(module_at(root, port.path), port, edit))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attach(module: nn.Module, port: Port, edit: Edit) -> RemovableHandle:
    if port.side == "out":

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            new = edit(_pick(output, port))
            return _put(output, port.item, new)

        return module.register_forward_hook(after)

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            at = port.item or 0
            new = edit(_tensor(args[at], port))
            return (*args[:at], new, *args[at + 1 :]), kwargs
        name = next(iter(kwargs))  # the first named argument is the hidden state by convention
        return args, {**kwargs, name: edit(_tensor(kwargs[name], port))}

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _pick(output: Any, port: Port) -> Tensor:
    # A family may say `[0]` where a release of the library returns the bare tensor.
    if isinstance(output, tuple):
        return _tensor(output[port.item or 0], port)
    return _tensor(output, port)


def _put(output: Any, index: int | None, new: Tensor) -> Any:
    if isinstance(output, tuple):
        at = index or 0
        return (*output[:at], new, *output[at + 1 :])
    return new


def _tensor(value: Any, port: Port) -> Tensor:
    if not isinstance(value, Tensor):
        found = f"{type(value).__name__}"
        raise SiteNotAvailable(
            f"{port} holds a {found}, not a tensor: name another port or give its index as `[i]`"
        )
    return value
