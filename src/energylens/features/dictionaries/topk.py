"""TopK: the k largest pre-activations of each row are kept (Gao et al. 2024, arXiv 2406.04093)."""

from torch import Tensor

from energylens.features.architecture import (
    Architecture,
    Kept,
    Settled,
    architecture,
    of_columns,
)
from energylens.features.dictionary import Dictionary
from energylens.features.entries import Chosen
from energylens.features.kernels import top_k
from energylens.features.mesh import Mesh
from energylens.features.proposals import Proposals
from energylens.features.selection import among_best


@architecture("topk")
class TopK(Architecture):
    """a = TopK_k(W_enc (x − b_dec) + b_enc)₊,  x̂ = W_decᵀ a + b_dec."""

    each_alone = False

    def keep(self, pre: Tensor, dictionary: Dictionary) -> Kept:
        return of_columns(*top_k(pre, min(dictionary.k, dictionary.width)))

    def propose(self, rough: Proposals, dictionary: Dictionary) -> Kept:
        return of_columns(*rough.top_k(min(dictionary.k, dictionary.width)))

    def settle(self, chosen: Chosen, dictionary: Dictionary, mesh: Mesh) -> Settled:
        """A row's k candidates of each process compete."""
        rows, each = len(chosen.start), min(dictionary.k, dictionary.width)
        if each * mesh.features.world <= dictionary.k:
            return Settled(chosen)
        kept = among_best(chosen.z.view(rows, each), dictionary.k, mesh.features)
        count, stay = kept.sum(1), kept.flatten()
        best = Chosen(chosen.feature[stay], count.cumsum(0) - count, chosen.z[stay])
        return Settled(best)
