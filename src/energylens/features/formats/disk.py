"""Files that others wrote, read without running anything they hold; files of ours, whole or not."""

import json
import os
import pickle  # noqa: TID251  # for the name of its error alone
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.core.files import flush, write_atomic
from energylens.results.format import size

Write = Callable[[Path], object]
MOST_UNFOLDED = 8
"""Bytes that a byte of an archive may unfold to: stored weights give one, compressed ones two."""


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Raises:
        ArtifactRefused: If the file is missing, is not JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactRefused(f"{path} is missing: name the folder that holds it") from error
    except OSError as error:
        raise ArtifactRefused(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ArtifactRefused(f"{path} should hold settings by name, found {type(found).__name__}")
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU.

    Raises:
        ArtifactRefused: If the file is missing or damaged.
    """
    _there(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactRefused(f"{path} is no readable safetensors file: {error}") from error


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of a file that `numpy.savez` wrote, on the CPU. No pickled array is read.

    Raises:
        ArtifactRefused: If the file is missing or damaged, if an array holds no plain numbers, or
            if it would unfold to many times the size of the file, as weights never do.
    """
    _there(path)
    try:
        with ZipFile(path) as archive:
            unfolded = sum(entry.file_size for entry in archive.infolist())
    except (BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ArtifactRefused(f"{path} is no readable npz file of numbers: {error}") from error
    if unfolded > MOST_UNFOLDED * path.stat().st_size + 2**20:
        raise ArtifactRefused(
            f"{path} has {size(path.stat().st_size)} and would unfold to {size(unfolded)}, which "
            "weights do not: it is damaged or made to fill the memory, and was not read"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except Exception as error:  # a damaged archive fails in any way there is
        raise ArtifactRefused(f"{path} is no readable npz file of numbers: {error}") from error


def read_pickle(path: Path, *, allow_pickle: bool) -> dict[str, Any]:
    """The state that `torch.save` wrote, if it is tensors, numbers, text and containers of them.

    Args:
        path: The file.
        allow_pickle: A pickle can hold code. None is run here, but reading one at all is for the
            user to decide.

    Raises:
        ArtifactRefused: If it was not allowed, or the file is missing, damaged or asks for more.
    """
    _there(path)
    if not allow_pickle:
        raise ArtifactRefused(
            f"{path} is a pickle, a kind of file that can hold code: if you trust where it is from,"
            " pass allow_pickle=True, which reads its tensors and runs nothing"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        raise ArtifactRefused(
            f"{path} asks for more than tensors, numbers and text, or is damaged, and was not read:"
            " ask its author for a file of tensors alone"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way there is
        raise ArtifactRefused(f"{path} is damaged or no file of torch.save: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ArtifactRefused(
            f"{path} should hold tensors by name, found {type(found).__name__}: save the state_dict"
        )
    return dict(found)


def write_pickle(path: Path, kept: Mapping[str, Any]) -> None:
    """Write a state as `torch.save` does: tensors, numbers and text, which `weights_only` reads."""
    torch.save(dict(kept), path)  # noqa: TID251  # nothing else is read by the programs that keep it


def _there(path: Path) -> None:
    if not path.is_file():
        raise ArtifactRefused(f"{path} is missing: name the file, or the folder that holds it")


def refuse_non_finite(kept: Mapping[str, Tensor]) -> None:
    """Refuse tensors that hold nan or infinity.

    Raises:
        BadInput: Names the first.
    """
    for name, tensor in kept.items():
        if not bool(tensor.isfinite().all()):
            raise BadInput(f"{name} holds values that are nan or infinity: train it again")


def write_npz(path: Path, kept: Mapping[str, Tensor]) -> None:
    """Write arrays as `numpy.savez` does; equal tensors give equal bytes."""
    with path.open("wb") as file:  # by a path, numpy would add an ending of its own
        np.savez(file, allow_pickle=False, **{n: t.cpu().numpy() for n, t in kept.items()})  # type: ignore[arg-type]


def write_folder(folder: Path, files: Mapping[str, Write]) -> Path:
    """A new folder with these files, all of it or nothing.

    The folder is filled under a temporary name, flushed to the disk and renamed.

    Raises:
        BadInput: If the folder is in use.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise BadInput(f"{folder} exists already: remove it or name another folder")
    beside = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
    beside.mkdir(parents=True)
    try:
        for name, write in files.items():
            write(beside / name)
            flush(beside / name)
        flush(beside)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    flush(folder.parent)
    return folder


def write_file(path: Path, write: Write) -> Path:
    """A new file, whole or not there.

    Raises:
        BadInput: If something of that name exists.
    """
    if path.exists():
        raise BadInput(f"{path} exists already: remove it or name another file")
    write_atomic(path, write)
    return path
