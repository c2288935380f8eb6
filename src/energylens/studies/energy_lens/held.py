"""Half B of the held-out text as one site sees it: windows, codes, states and gradients."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.studies.energy_lens.scoring import Piece, Scored


@dataclass(frozen=True, kw_only=True)
class Held:
    """One site of half B: features are chosen on half A, so what is shown and measured is here.

    Scored places are positions 1 to context − 2; `place` p is position p + 1.

    Attributes:
        document: Index of each window's document among the held-out ones.
        starts: Where the window starts in its document, in tokens.
        loss: Surprisal of the next token, nats; 0 at the last position.
    """

    ids: Int[Tensor, "window pos"]
    document: Int[Tensor, " window"]
    starts: Int[Tensor, " window"]
    indices: Int[Tensor, "window place active"]
    values: Float[Tensor, "window place active"]
    states: Float[Tensor, "window pos d_model"]
    gradients: Float[Tensor, "window pos d_model"]
    loss: Float[Tensor, "window pos"]

    def activation(self, feature: int) -> Float[Tensor, "window place"]:
        """Activation of one feature at every scored place."""
        return (self.values * (self.indices == feature)).sum(-1)

    def force(self, direction: Float[Tensor, " d_model"]) -> Float[Tensor, "window place"]:
        """Force along a direction at every scored place, active or not."""
        return -(self.gradients[:, 1:-1] @ direction)

    @property
    def batch(self) -> Batch:
        return Batch.full(self.ids, self.document)


def held(
    scored: Scored, pieces: list[Piece], site: str, *, device: torch.device | str = "cpu"
) -> Held:
    """Read half B (pieces of odd number) of one site back, onto a device."""
    odd = list(range(1, len(pieces), 2))
    ids = torch.cat([pieces[i].ids for i in odd]).to(device)
    places = ids.shape[1] - 2

    def read(name: str) -> Tensor:
        return torch.cat([scored.pieces[i][f"{site}/{name}"] for i in odd]).to(device)

    return Held(
        ids=ids,
        document=torch.cat([pieces[i].document for i in odd]).to(device),
        starts=torch.cat([pieces[i].starts for i in odd]),
        indices=read("indices").long().view(len(ids), places, -1),
        values=read("values").view(len(ids), places, -1),
        states=read("states"),
        gradients=read("gradients"),
        loss=torch.cat([scored.pieces[i]["loss"] for i in odd]).to(device),
    )
