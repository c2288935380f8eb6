"""Token sequences of one forward pass, with everything about padding in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from energylens.core.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sequences padded to one length; positions and targets follow from the mask.

    Attributes:
        ids: Token ids; what stands at padded places is never read.
        mask: True at real tokens.
        document: Which document each sequence is from: the statistical unit.
    """

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    document: Int[Tensor, " batch"]

    @classmethod
    def full(
        cls, ids: Int[Tensor, "batch pos"], document: Int[Tensor, " batch"] | None = None
    ) -> "Batch":
        """A batch without padding; without `document`, each sequence is its own."""
        rows = torch.arange(len(ids), device=ids.device)
        return cls(
            ids=ids,
            mask=torch.ones_like(ids, dtype=torch.bool),
            document=rows if document is None else document,
        )

    @classmethod
    def padded(
        cls,
        sequences: Sequence[Sequence[int]],
        *,
        pad_id: int = 0,
        side: Literal["left", "right"] = "right",
    ) -> "Batch":
        """Pad sequences of different lengths to the longest.

        Raises:
            BadInput: If a sequence is empty.
        """
        if not sequences or not all(sequences):
            raise BadInput("a batch needs at least one token in every sequence, found none in one")
        longest = max(map(len, sequences))
        ids = torch.full((len(sequences), longest), pad_id)
        mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            first = longest - len(sequence) if side == "left" else 0
            ids[row, first : first + len(sequence)] = torch.tensor(sequence)
            mask[row, first : first + len(sequence)] = True
        return cls(ids=ids, mask=mask, document=torch.arange(len(sequences)))

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(
            ids=self.ids.to(device), mask=self.mask.to(device), document=self.document.to(device)
        )

    def take(self, rows: Int[Tensor, " row"]) -> "Batch":
        """The batch of some of its sequences; a sequence may be taken more than once."""
        return Batch(ids=self.ids[rows], mask=self.mask[rows], document=self.document[rows])

    @property
    def positions(self) -> Int[Tensor, "batch pos"]:
        """Position of each real token in its own sequence; 0 at padding."""
        return (self.mask.long().cumsum(1) - 1).clamp_min(0)

    @property
    def next_ids(self) -> Int[Tensor, "batch pos"]:
        """The token that follows each place; meaningless where `has_next` is False."""
        return self.ids.roll(-1, dims=1)

    @property
    def has_next(self) -> Bool[Tensor, "batch pos"]:
        """Whether a real token follows in the same sequence."""
        following = self.mask.roll(-1, dims=1)
        following[:, -1] = False
        return self.mask & following

    @property
    def scored(self) -> Bool[Tensor, "batch pos"]:
        """Places that enter dictionaries and statistics.

        The first position carries massive activations (norms a hundred times the median) and the
        last has no next token; both are left out.
        """
        return self.has_next & (self.positions > 0)

    def inputs(self) -> dict[str, Tensor]:
        """Arguments for a Hugging Face model; without padding the mask is left out.

        An explicit all-ones mask only makes attention slower.
        """
        if bool(self.mask.all()):
            return {"input_ids": self.ids}
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask.long(),
            "position_ids": self.positions,
        }
