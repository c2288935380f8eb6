"""Attention patterns of the blocks above a residual site, as the model itself computes them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.hooks import Stop
from energylens.activations.subject import Subject
from energylens.activations.suffix import blocks_below, run_from
from energylens.core.errors import SiteNotAvailable

# Softmax is taken in single precision even in a double model.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@torch.no_grad()
def attention_patterns(
    subject: Subject, site: str, states: Float[Tensor, "batch pos d_model"], batch: Batch
) -> list[Float[Tensor, "batch head query key"]]:
    """The pattern of every block above a site, lowest first; empty at the last block's output.

    Kernels that never make a pattern are swapped for the library's plain one during the pass and
    put back afterwards. What an attention module hands out beside its output counts as a pattern
    only if each of its rows is a distribution.

    Args:
        site: `blocks.i.resid_post` or `blocks.i.resid_pre`.
        states: The residual stream there.

    Raises:
        SiteNotAvailable: If the model does not hand its patterns out.
        BadInput: If the site is not a residual stream between blocks.
    """
    layers = range(blocks_below(site), subject.n_layers)
    ports = [f"{subject.port(f'blocks.{layer}.attn_out').path}:out[1]" for layer in layers]
    if not ports:
        return []
    with _plain_attention(subject), subject.capture(*ports, stop=True) as seen, suppress(Stop):
        run_from(subject, site, states, batch)
    for layer, port in zip(layers, ports, strict=True):
        _check_rows(seen[port], layer)
    return [seen[port] for port in ports]


@contextmanager
def _plain_attention(subject: Subject) -> Iterator[None]:
    module: Any = subject.module
    former = getattr(getattr(module, "config", None), "_attn_implementation", None)
    if former is None or not hasattr(module, "set_attn_implementation"):
        raise SiteNotAvailable(
            f"{subject.loaded.name} cannot be asked for its attention patterns: only models of the"
            " transformers library can"
        )
    if former == "eager":
        yield
        return
    module.set_attn_implementation("eager")
    try:
        yield
    finally:
        module.set_attn_implementation(former)


def _check_rows(pattern: Tensor, layer: int) -> None:
    square = pattern.ndim == 4 and pattern.shape[2] == pattern.shape[3]
    off = float((pattern.sum(-1) - 1).abs().max()) if square else float("inf")
    if not (off <= TOLERANCE[pattern.dtype] and float(pattern.min()) >= 0):
        raise SiteNotAvailable(
            f"what attention hands out in block {layer} is no pattern: shape"
            f" {list(pattern.shape)}, rows off a sum of 1 by {off:.1e}"
        )
