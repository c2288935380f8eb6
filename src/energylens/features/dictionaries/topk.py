"""TopK: the k largest pre-activations of each row are kept (Gao et al. 2024, arXiv 2406.04093)."""

from torch import Tensor

from energylens.features.architecture import Architecture, Kept, architecture, of_columns
from energylens.features.dictionary import Dictionary
from energylens.features.kernels import top_k


@architecture("topk")
class TopK(Architecture):
    """a = TopK_k(W_enc (x − b_dec) + b_enc)₊,  x̂ = W_decᵀ a + b_dec."""

    each_alone = False

    def keep(self, pre: Tensor, dictionary: Dictionary) -> Kept:
        return of_columns(*top_k(pre, dictionary.k))
