"""TopK: the k largest pre-activations of each row are kept (Gao et al. 2024, arXiv 2406.04093)."""

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.sparse import by_feature, combine, sampled_products, transposed_product
from energylens.features.architecture import Step, architecture
from energylens.features.code import SparseCode
from energylens.features.dictionary import Dictionary
from energylens.features.kernels import encode_top_k


@architecture("topk")
class TopK:
    """a = TopK_k(W_enc (x − b_dec) + b_enc)₊,  x̂ = W_decᵀ a + b_dec."""

    def encode(self, dictionary: Dictionary, rows: Float[Tensor, "sample d_in"]) -> SparseCode:
        """The k largest pre-activations of each row; those below 0 become 0."""
        values, indices = encode_top_k(
            rows - dictionary.b_dec, dictionary.W_enc, dictionary.b_enc, dictionary.k
        )
        return SparseCode(indices=indices, values=values, width=dictionary.width)

    @torch.no_grad()
    def step(
        self, dictionary: Dictionary, rows: Float[Tensor, "sample d_in"], variance: float
    ) -> Step:
        """Mean over rows of ‖x − x̂‖² / variance, and its gradients by hand.

        With g = ∂loss/∂x̂ and the selection held fixed (it is piecewise constant), ∂loss/∂a is
        g · W_dec at the positive entries alone, and b_dec enters twice: as what is subtracted
        from x and as what is added to the reconstruction.
        """
        centered = rows - dictionary.b_dec
        values, indices = encode_top_k(centered, dictionary.W_enc, dictionary.b_enc, dictionary.k)
        residual = centered - combine(indices, values, dictionary.W_dec)
        loss = residual.square().sum() / (len(rows) * variance)
        g = residual * (-2 / (len(rows) * variance))
        by_value = sampled_products(g, indices, dictionary.W_dec) * (values > 0)
        entries = by_feature(indices, dictionary.width)
        b_enc = torch.zeros_like(dictionary.b_enc)
        b_enc.index_add_(0, indices.flatten(), by_value.flatten())
        return Step(
            loss=loss,
            W_enc=transposed_product(entries, by_value, centered),
            b_enc=b_enc,
            W_dec=transposed_product(entries, values, g),
            b_dec=g.sum(0) - b_enc @ dictionary.W_enc,
            code=SparseCode(indices=indices, values=values, width=dictionary.width),
            residual=residual,
        )
