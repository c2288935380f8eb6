"""The store of a study that several processes run: the first writes, all wait, and all read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from energylens.core.ports import Collective, Kept
from energylens.run.edges.store.folder import Folder

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


class SharedStore:
    """A run's folder as all its processes have it; it implements `core.ports.Store`.

    They call it in the same order, with what each of them has computed; what the first gives is
    what is kept. Where writing fails, it fails for all.

    Args:
        folder: Of the run, which lies on a disk that all can read.
        collective: The processes.
    """

    def __init__(self, folder: Folder, collective: Collective) -> None:
        self._folder, self._collective = folder, collective

    def done(self, part: str) -> bool:
        return self._collective.once(lambda: self._folder.done(part))

    def save(self, part: str, **kept: Unpack[Kept]) -> None:
        self._collective.once(lambda: self._folder.save(part, **kept))
        self._look_again()

    def tensors(self, name: str) -> "dict[str, Tensor]":
        return self._folder.tensors(name)

    def tensor(self, name: str, key: str) -> "Tensor":
        return self._folder.tensor(name, key)

    def table(self, name: str) -> "pa.Table":
        return self._folder.table(name)

    def record(self, name: str) -> Any:
        return self._folder.record(name)

    def folder(self, name: str) -> Path:
        return self._folder.folder(name)

    def require_room(self, num_bytes: int) -> None:
        self._collective.once(lambda: self._folder.require_room(num_bytes))

    def forget(self, prefix: str) -> None:
        self._collective.once(lambda: self._folder.forget(prefix))
        self._look_again()

    def log(self, series: str, step: int, values: Mapping[str, float]) -> None:
        if self._collective.rank == 0:
            self._folder.log(series, step, values)

    def workplace(self, name: str) -> Path:
        return Path(self._collective.once(lambda: str(self._folder.workplace(name))))

    def _look_again(self) -> None:
        if self._collective.rank:
            self._folder = Folder(self._folder.path)
