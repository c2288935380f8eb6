"""What a file calls the tensors of a dictionary, and how they lie in it.

A layout is a table from the file's names to ours, with the axes as the file has them. Reading
checks every tensor against the table, and the shapes against one another; a matrix that lies the
other way round is turned.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import WEIGHTS, Dictionary


class Entry(NamedTuple):
    """A tensor of a file: what it is called here, and its axes there; a number has none."""

    name: str
    axes: tuple[str, ...]


Layout = Mapping[str, Entry]

AXES = {
    "W_enc": ("feature", "d_in"),
    "b_enc": ("feature",),
    "W_dec": ("feature", "d_out"),
    "b_dec": ("d_out",),
    "W_skip": ("d_out", "d_in"),
}
"""How the tensors of a `Dictionary` lie; what an architecture owns has one value a feature."""

TYPES = {str(t).removeprefix("torch."): t
         for t in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}  # fmt: skip


def layout(turned: Collection[str] = (), /, **names: str) -> dict[str, Entry]:
    """The layout in which our tensors have these names.

    Args:
        turned: Those of our matrices that the file stores transposed.
        names: The file's name of each.

    Example:
        >>> layout(["W_enc"], W_enc="encoder", b_dec="bias")["encoder"]
        Entry(name='W_enc', axes=('d_in', 'feature'))
    """
    made = {}
    for ours, theirs in names.items():
        axes = AXES.get(ours, ("feature",))
        made[theirs] = Entry(ours, axes[::-1] if ours in turned else axes)
    return made


def unpack(
    source: Path | str,
    kept: Mapping[str, Any],
    wanted: Layout,
    *,
    one_site: bool,
    optional: Collection[str] = (),
) -> dict[str, Tensor]:
    """The tensors of a file under our names and in our orientation.

    Args:
        source: Where they were found, for errors.
        kept: What the file holds.
        wanted: What it should hold.
        one_site: Whether rows are written as wide as they are read.
        optional: Names that may be missing.

    Raises:
        ArtifactRefused: If a tensor is missing, left over, of the wrong shape or type, not finite.
    """
    missing = [name for name in wanted if name not in kept and name not in optional]
    extra = sorted(set(kept) - set(wanted))
    if missing or extra:
        wrong = [f"{', '.join(missing)} not found"] if missing else []
        wrong += [f"found {', '.join(extra)} as well"] if extra else []
        raise ArtifactRefused(f"{source} should hold {', '.join(wanted)}: {'; '.join(wrong)}")
    sizes: dict[str, int] = {}
    made = {}
    dtype = None
    for name, (ours, axes) in wanted.items():
        if name not in kept:
            continue
        tensor = _plain(name, kept[name])
        if one_site:
            axes = tuple("d_in" if axis == "d_out" else axis for axis in axes)
        _fit(name, tensor, axes, sizes, wanted)
        dtype = _checked_type(name, tensor, dtype if axes else tensor.dtype)
        turned = len(axes) == 2 and wanted[name].axes != AXES[ours]
        made[ours] = (tensor.T if turned else tensor).contiguous()
    return made


def _plain(name: str, found: Any) -> Tensor:
    if not isinstance(found, Tensor) or found.layout != torch.strided or found.is_meta:
        raise ArtifactRefused(f"{name} should be a tensor of numbers, found {type(found).__name__}")
    return found.detach()


def _fit(
    name: str, tensor: Tensor, axes: tuple[str, ...], sizes: dict[str, int], wanted: Layout
) -> None:
    """Hold a shape against the sizes that earlier tensors gave the axes, and add its own."""
    given = [sizes.get(axis) for axis in axes]
    right = tensor.ndim == len(axes) and all(
        size in (None, there) for size, there in zip(given, tensor.shape, strict=True)
    )
    if not right:
        shape = ", ".join(str(sizes.get(axis, axis)) for axis in axes)
        shape += "," if len(axes) == 1 else ""
        first, (_, of_first) = next(iter(wanted.items()))
        beside = f" beside {first} of {tuple(map(sizes.get, of_first))}" if sizes else ""
        raise ArtifactRefused(
            f"{name} should have shape ({shape}){beside}, found {tuple(tensor.shape)}"
        )
    sizes.update(zip(axes, tensor.shape, strict=True))


def _checked_type(name: str, tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The type that all tensors share; a number alone may have its own."""
    number = tensor.ndim == 0 and not tensor.is_complex()
    if not number and (
        tensor.dtype not in TYPES.values() or tensor.dtype != (dtype or tensor.dtype)
    ):
        raise ArtifactRefused(
            f"all tensors share one of {', '.join(TYPES)}, found {name} as {tensor.dtype}"
        )
    bad = int((~tensor.isfinite()).sum())
    if bad:
        raise ArtifactRefused(f"{name} holds {bad} values that are nan or infinity")
    return dtype or tensor.dtype


def pack(dictionary: Dictionary, wanted: Layout) -> dict[str, Tensor]:
    """The tensors of a dictionary as a file calls and turns them.

    Raises:
        BadInput: If a value is not finite.
    """
    made = {}
    for name, (ours, axes) in wanted.items():
        tensor = dictionary.weights[ours].detach()
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise BadInput(f"{ours} holds {bad} values that are nan or infinity: train it again")
        turned = len(axes) == 2 and axes != AXES[ours]
        # A copy: no two tensors of a file may share memory, as those of a tied dictionary do.
        made[name] = (tensor.T if turned else tensor).clone(memory_format=torch.contiguous_format)
    return made


def dictionary_of(
    source: Path | str,
    parts: Mapping[str, Tensor],
    *,
    architecture: str,
    k: int | None,
    subtracts_b_dec: bool,
    metadata: Mapping[str, Any],
) -> Dictionary:
    """The dictionary whose tensors these are.

    Args:
        source: Where they were found, for errors.
        parts: From `unpack`; what is no weight is the architecture's own.
        architecture: Name in `ARCHITECTURES`.
        k: Active features a row; None if the file does not say, and then all may be active.
        subtracts_b_dec: Whether b_dec is subtracted from the input.
        metadata: Where the dictionary belongs.

    Raises:
        ArtifactRefused: If k is missing where it decides, or not in 1 … width, or if the
            architecture's own tensors are not all there.
    """
    kind = ARCHITECTURES[architecture]
    weights = {name: parts[name] for name in WEIGHTS if name in parts}
    own = {name: tensor for name, tensor in parts.items() if name not in WEIGHTS}
    width = len(parts["b_enc"])
    lacking = sorted(set(kind.own(1, parts["b_enc"])) - set(own))
    if lacking:
        raise ArtifactRefused(f"{source} lacks {', '.join(lacking)}, which a {architecture} needs")
    if k is None and not kind.each_alone:
        raise ArtifactRefused(f"{source} does not say k, which a {architecture} needs")
    if not 1 <= (width if k is None else k) <= width:
        raise ArtifactRefused(f"{source}: k must lie in 1 … {width}, the width; found {k}")
    if architecture == "groupmax" and k and width % k:
        raise ArtifactRefused(f"{source}: k = {k} does not divide {width} features into groups")
    return Dictionary(
        architecture=architecture, k=width if k is None else k, own=own,
        subtracts_b_dec=subtracts_b_dec, metadata=dict(metadata), **weights,
    )  # fmt: skip


def without_offset(dictionary: Dictionary) -> Dictionary:
    """The same function of rows; what was subtracted from them is in the encoder's offset."""
    if not dictionary.subtracts_b_dec:
        return dictionary
    return replace(dictionary.reading_from(dictionary.b_dec), subtracts_b_dec=False)


def with_offset(dictionary: Dictionary) -> Dictionary:
    """The same function of rows, of which b_dec is subtracted: the inverse of `without_offset`."""
    if dictionary.subtracts_b_dec:
        return dictionary
    return replace(dictionary.reading_from(-dictionary.b_dec), subtracts_b_dec=True)


def everywhere(threshold: Tensor, like: Tensor) -> Tensor:
    """One threshold for every feature; one that was never set, below 0, cuts nothing off."""
    return threshold.to(like.dtype).clamp(min=0).expand(len(like)).clone()


def setting(source: Path, config: Mapping[str, Any], name: str, kind: type) -> Any:
    """A setting of this very type.

    Raises:
        ArtifactRefused: If it is missing or of another type.
    """
    if type(config.get(name)) is not kind:
        raise ArtifactRefused(f"{source} needs {name} as {kind.__name__}: {config.get(name)!r}")
    return config[name]
