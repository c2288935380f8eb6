"""One process at a time works in a run's folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from energylens.core.errors import BadInput
from energylens.core.files import LOCK


@contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder; the system lets go of it when the process ends, however it ends.

    Raises:
        BadInput: If another process holds it.
    """
    with (run_dir / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BadInput(
                f"{run_dir} is in use by process {holder}: "
                "wait for it, or choose another folder with --out"
            ) from None
        except OSError as error:
            raise BadInput(
                f"the disk of {run_dir} cannot lock files ({error.strerror}): "
                "choose a folder on another one with --out"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def held(run_dir: Path) -> bool:
    """Whether another process works in the folder at this moment."""
    try:
        with (run_dir / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such folder, or a disk without locks: nobody can hold it
        return False
    return False
