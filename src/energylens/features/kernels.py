"""Selection of the k largest pre-activations, at little more than the encoder product's price.

With n rows, width m and k active features, selection reads the n × m pre-activations once, block
by block; everything after it touches n × k entries (`core.sparse`). Plain torch operations.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 512
"""Rows whose pre-activations exist at one time."""

_COARSE, _FINE = 8, 4
"""Columns a group, groups a cell: the fastest of the pairs tried at m = 4,096, k = 32."""


def top_k(
    scores: Float[Tensor, "sample feature"], k: int
) -> tuple[Float[Tensor, "sample active"], Int64[Tensor, "sample active"]]:
    """The k largest scores of each row and their columns, unordered.

    Exact on every route. Among equal scores at the threshold any may be taken, as in `torch.topk`.

    Example:
        >>> values, columns = top_k(torch.tensor([[1.0, 5.0, 3.0]]), 2)
        >>> sorted(values[0].tolist()), sorted(columns[0].tolist())
        ([3.0, 5.0], [1, 2])
    """
    if _elimination_wins(scores, k):
        return top_k_by_elimination(scores, k)
    values, columns = scores.topk(k, dim=1, sorted=False)
    return values, columns


def _elimination_wins(scores: Tensor, k: int) -> bool:
    """Measured: never slower from 1,024 columns on, 1.2 times as fast there, 1.9 at 16,384."""
    width, cell = scores.shape[1], _COARSE * _FINE
    fits = width % cell == 0 and width // cell >= 2 * k
    return fits and width >= 1024 and scores.device.type == "cpu"


def top_k_by_elimination(
    scores: Float[Tensor, "sample feature"], k: int
) -> tuple[Float[Tensor, "sample active"], Int64[Tensor, "sample active"]]:
    """As `top_k`, by discarding groups of columns whose maximum is not among the k largest maxima.

    The k groups with the largest maxima hold a set of k largest scores: each of the k maxima is
    itself a score at least as large as anything outside. A group is a stride of columns, so that
    its maximum vectorises. `feature` must divide into 32 parts of at least k columns.
    """
    rows, width = scores.shape
    groups = width // _COARSE
    cells = groups // _FINE
    maxima = scores.view(rows, _COARSE, groups).amax(1)
    best = maxima.view(rows, _FINE, cells).amax(1).topk(k, dim=1, sorted=False).indices
    columns = _members(best, _FINE, cells)
    best = columns.gather(1, maxima.gather(1, columns).topk(k, dim=1, sorted=False).indices)
    columns = _members(best, _COARSE, groups)
    values, place = scores.gather(1, columns).topk(k, dim=1, sorted=False)
    return values, columns.gather(1, place)


def _members(group: Tensor, members: int, stride: int) -> Tensor:
    """The columns group, group + stride, group + 2 · stride … of every group named."""
    steps = torch.arange(0, members * stride, stride, device=group.device)
    return (group.unsqueeze(1) + steps.view(1, members, 1)).flatten(1)


def pre_activations(
    centered: Float[Tensor, "sample d_in"],
    W_enc: Float[Tensor, "feature d_in"],
    b_enc: Float[Tensor, " feature"],
) -> Iterator[Float[Tensor, "block feature"]]:
    """W_enc x + b_enc of `BLOCK` rows at a time, without gradients.

    Each block takes the place of the one before: memory that comes and goes in large pieces leaves
    holes in the heap, which a process then holds besides.
    """
    room = centered.new_empty(min(BLOCK, len(centered)), len(W_enc))
    for block in centered.split(BLOCK):
        yield torch.addmm(b_enc, block, W_enc.T, out=room[: len(block)])


def encode_top_k(
    centered: Float[Tensor, "sample d_in"],
    W_enc: Float[Tensor, "feature d_in"],
    b_enc: Float[Tensor, " feature"],
    k: int,
) -> tuple[Float[Tensor, "sample active"], Int64[Tensor, "sample active"]]:
    """The k largest of W_enc x + b_enc on each row, negative ones set to 0, in blocks of rows."""
    parts = [top_k(pre, k) for pre in pre_activations(centered, W_enc, b_enc)]
    values = torch.cat([part[0] for part in parts])
    return values.relu(), torch.cat([part[1] for part in parts])
