"""One process at a time works in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.core.files import LOCK


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process ends, however it ends.

    Raises:
        BadInput: If another process holds it.
    """
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BadInput(
                f"{folder} is in use by process {holder}: "
                "wait for it, or choose another folder (of a run: --out)"
            ) from None
        except OSError as error:
            raise BadInput(
                f"the disk of {folder} cannot lock files ({error.strerror}): "
                "choose a folder on another one (of a run: --out)"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def held(folder: Path) -> bool:
    """Whether another process works in the folder at this moment."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such folder, or a disk without locks: nobody can hold it
        return False
    return False
