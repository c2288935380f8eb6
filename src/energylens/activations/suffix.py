"""Run only the part of a model above a residual site, from states given by the caller.

Blocks below the site hand the given states on instead of computing; nothing is assumed of the
architecture beyond its list of blocks.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.core.sites import canonical, layer_of


def run_from(
    subject: Subject, site: str, states: Float[Tensor, "batch pos d_model"], batch: Batch
) -> Float[Tensor, "batch pos vocab"]:
    """Logits of the model whose residual stream at `site` is replaced by `states`.

    Args:
        site: `blocks.i.resid_post` or `blocks.i.resid_pre`.
        states: The residual stream there, at every position (attention above reads all of them).

    Raises:
        BadInput: If the site is not a residual stream between blocks.
        SiteNotAvailable: If the model does more between its blocks than hand a stream on.
    """
    with starting_from(subject, site, states):
        return subject.forward(batch)


def logits_at(
    subject: Subject, batch: Batch, positions: Int[Tensor, " batch"]
) -> Float[Tensor, "batch vocab"]:
    """Logits at one position of each sequence: the product with the vocabulary is made there only.

    Raises:
        SiteNotAvailable: If the model has no lens.
    """
    subject.require("lens")
    last = f"blocks.{subject.n_layers - 1}.resid_post"
    with subject.capture(last, stop=True) as seen:
        subject.run(batch)
    rows = torch.arange(len(positions), device=positions.device)
    return subject.lens(seen[last][rows, positions])


@contextmanager
def starting_from(
    subject: Subject, site: str, states: Float[Tensor, "batch pos d_model"]
) -> Iterator[None]:
    """Inside the block a pass starts at `site` with `states`; what lies below does not compute.

    Raises:
        BadInput: If the site is not a residual stream between blocks.
        SiteNotAvailable: If the model does more between its blocks than hand a stream on.
    """
    subject.require("suffix")
    name = canonical(site)
    skipped = blocks_below(name)
    subject.port(name)
    with ExitStack() as stack:
        stack.enter_context(_blocks_hand_on(subject, skipped, states))
        if name.endswith("resid_pre"):
            stack.enter_context(subject.edit({name: lambda value: states}))
        yield


def blocks_below(site: str) -> int:
    """How many blocks lie below a residual site.

    Raises:
        BadInput: If the site is not a residual stream between blocks.

    Example:
        >>> blocks_below("blocks.3.resid_pre"), blocks_below("blocks.3.resid_post")
        (3, 4)
    """
    name = canonical(site)
    layer = layer_of(name)
    kind = name.split(".", 2)[-1]
    if layer is None or kind not in ("resid_pre", "resid_post"):
        raise BadInput(
            f"a pass can start at blocks.i.resid_pre or blocks.i.resid_post, not at {site!r}"
        )
    return layer + (kind == "resid_post")


@contextmanager
def _blocks_hand_on(subject: Subject, count: int, states: Tensor) -> Iterator[None]:
    result: Any = (states,) if subject.blocks_return_tuple else states

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        return result

    blocks = subject.blocks[:count]
    former: list[tuple[nn.Module, Callable[..., Any] | None]] = []
    try:
        for block in blocks:
            # accelerate and others may have put a forward of their own on the instance
            former.append((block, block.__dict__.get("forward")))
            block.forward = hand_on
        yield
    finally:
        for block, own in former:
            if own is None:
                del block.forward
            else:
                block.forward = own
