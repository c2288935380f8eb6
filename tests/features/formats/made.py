"""Dictionaries and files to read: of every architecture, without any structure."""

import json
from pathlib import Path

import torch
from torch import Tensor

from energylens.features.architecture import ARCHITECTURES
from energylens.features.dictionary import Dictionary

WIDTH, D, K = 40, 8, 5
INFERENCE = ("topk", "standard", "gated", "jumprelu", "groupmax")


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


def dictionary(
    architecture: str,
    generator: torch.Generator,
    *,
    d_out: int = D,
    skip: bool = False,
    subtracts_b_dec: bool = True,
    dtype: torch.dtype = torch.float32,
    **metadata: object,
) -> Dictionary:
    of = lambda *shape: draw(generator, *shape, dtype=dtype)
    own = {
        name: of(len(w)).abs() if name.startswith("threshold") else 0.3 * of(len(w))
        for name, w in ARCHITECTURES[architecture].own(WIDTH, of(1)).items()
    }
    return Dictionary(
        architecture=architecture, k=K, W_enc=of(WIDTH, D), b_enc=0.3 * of(WIDTH),
        W_dec=of(WIDTH, d_out), b_dec=of(d_out), own=own,
        W_skip=of(d_out, D) if skip else None, subtracts_b_dec=subtracts_b_dec, metadata=metadata,
    )  # fmt: skip


def same(found: Dictionary, wanted: Dictionary, x: Tensor) -> None:
    """Assert that two dictionaries do exactly the same, and are called the same."""
    assert found.architecture == wanted.architecture
    assert found.subtracts_b_dec == wanted.subtracts_b_dec
    assert found.weights.keys() == wanted.weights.keys()
    for name, weight in wanted.weights.items():
        assert found.weights[name].dtype == weight.dtype
        assert torch.equal(found.weights[name], weight), name
    assert torch.equal(found.encode(x).dense(), wanted.encode(x).dense())
    assert torch.equal(found.reconstruct(x), wanted.reconstruct(x))


def write_json(path: Path, **content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def save_pickle(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)  # noqa: TID251  # what the peers do
    return path


def changed(kept: dict[str, object], **changes: object) -> dict[str, object]:
    """With these entries instead; without those that are None."""
    return {name: value for name, value in (kept | changes).items() if value is not None}
