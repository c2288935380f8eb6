"""GroupMax: one feature of each of k groups is kept (EleutherAI's sparsify)."""

import torch
from torch import Tensor

from energylens.core.errors import BadInput
from energylens.features.architecture import Architecture, Kept, architecture, of_columns
from energylens.features.dictionary import Dictionary
from energylens.features.proposals import Proposals


@architecture("groupmax")
class GroupMax(Architecture):
    """The features lie in k groups of neighbours; the largest pre-activation of each is kept, if it
    is positive. Selection reads each pre-activation once, without sorting anything."""

    each_alone = False

    def k_of_part(self, k: int, parts: int) -> int:
        if k % parts:
            raise BadInput(
                f"groupmax with k = {k} groups was asked of {parts} processes: choose a k that"
                f" {parts} divides, so that no group is torn"
            )
        return k // parts

    def keep(self, pre: Tensor, dictionary: Dictionary) -> Kept:
        width, k = _dealt(dictionary)
        best = pre.view(len(pre), k, width // k).max(2)
        first = torch.arange(0, width, width // k, device=pre.device)
        return of_columns(best.values, best.indices + first)

    def propose(self, rough: Proposals, dictionary: Dictionary) -> Kept:
        return of_columns(*rough.largest_of_groups(_dealt(dictionary)[1]))


def _dealt(dictionary: Dictionary) -> tuple[int, int]:
    """Width and number of groups."""
    width, k = dictionary.width, dictionary.k
    if width % k:
        raise BadInput(
            f"groupmax deals {width} features into k = {k} groups of one size: choose a k that"
            f" divides {width}"
        )
    return width, k
