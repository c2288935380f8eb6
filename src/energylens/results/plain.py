"""Plain values, as JSON can hold them: nan is written as null, and infinity is refused.

Reading gives null back as None; whoever expects a number there turns it into nan (as
`results.record` does), because only the reader knows which fields are numbers.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

from energylens.core.errors import ArtifactRefused

_LARGEST = 32 * 1024 * 1024


def plain(value: Any, where: str = "record") -> Any:
    """The same value made of dicts, lists, text, numbers, booleans and None only.

    Raises:
        ValueError: If a number is infinite.
        TypeError: If something has no plain form.

    Example:
        >>> plain({"slope": float("nan"), "sites": ("embed",)})
        {'slope': None, 'sites': ['embed']}
    """
    if value is None or isinstance(value, bool | str):
        return _text(value) if isinstance(value, str) else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _number(float(value), where)
    if isinstance(value, PurePath):
        return _text(str(value))
    if isinstance(value, Mapping):
        return {_text(str(k)): plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    raise TypeError(f"{where} is a {type(value).__name__}: a record holds plain values only")


def _number(value: float, where: str) -> float | None:
    if math.isinf(value):
        raise ValueError(f"{where} is infinite: undefined is nan, and infinity has no JSON")
    return None if math.isnan(value) else value


def _text(value: str) -> str:
    """Valid Unicode always: tokens of a byte-level vocabulary can carry lone surrogates."""
    return value.encode("utf-8", "replace").decode() if not value.isascii() else value


def encode(value: Any) -> bytes:
    """A plain value as indented UTF-8 JSON; equal values give equal bytes."""
    text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def decode(data: bytes, name: str) -> Any:
    """Read JSON strictly: no nan or infinity, no key twice, at most 32 MB.

    Raises:
        ArtifactRefused: If it is anything else; the sentence begins with `name`.
    """
    if len(data) > _LARGEST:
        raise ArtifactRefused(f"{name} has {len(data):,} bytes: at most {_LARGEST:,} are read")
    try:
        return json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise ArtifactRefused(f"{name} is not the JSON it should be: {error}") from error


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
