"""What a dictionary must beat: codes of as many numbers that nobody had to train.

Each baseline is a dictionary itself, so that it is judged by the very same code. A direction with a
sign is two features, itself and its opposite, of which a TopK code keeps the one that is positive:
the k largest of such pairs are the k largest magnitudes.

Of a transcoder the baselines write what a linear map predicts of the target: the principal
directions of that prediction are reduced-rank regression (Izenman 1975).
"""

import warnings
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.errors import InsufficientData
from energylens.core.threads import one_blas_thread
from energylens.features.chance import fit_encoder, random_dictionary_like
from energylens.features.dictionary import Dictionary

ICA_ROWS = 8_192
ICA_COMPONENTS = 256
"""FastICA takes whole eigenvalue problems a pass: more components take minutes."""
_ICA_PASSES = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearMap:
    """x ↦ W x + b, which brings rows of one site to those of another."""

    weight: Float[Tensor, "d_out d_in"]
    offset: Float[Tensor, " d_out"]

    def __call__(self, rows: Float[Tensor, "sample d_in"]) -> Float[Tensor, "sample d_out"]:
        return rows @ self.weight.T + self.offset

    def before(self, dictionary: Dictionary) -> Dictionary:
        """The dictionary that makes of x what this one makes of W x + b."""
        shift = self.offset - dictionary.b_dec if dictionary.subtracts_b_dec else self.offset
        return replace(
            dictionary, W_enc=dictionary.W_enc @ self.weight,
            b_enc=dictionary.b_enc + dictionary.W_enc @ shift, subtracts_b_dec=False,
        )  # fmt: skip


def least_squares_map(
    rows: Float[Tensor, "sample d_in"], target: Float[Tensor, "sample d_out"]
) -> LinearMap:
    """The linear map that predicts the target best, in float64; the shortest of equals.

    Raises:
        InsufficientData: If there are no more rows than dimensions: any target would fit.
    """
    if len(rows) <= rows.shape[1]:
        raise InsufficientData(
            f"a linear map of {rows.shape[1]} dimensions needs more rows than that, got"
            f" {len(rows)}: give more text"
        )
    x, y = rows.double(), target.double()
    center, middle = x.mean(0), y.mean(0)
    solved = torch.linalg.lstsq(x - center, y - middle, driver="gelsd" if x.is_cpu else None)
    weight = solved.solution.T
    return LinearMap(weight=weight.to(rows), offset=(middle - weight @ center).to(rows))


def pca_dictionary(rows: Float[Tensor, "sample d"], k: int) -> Dictionary:
    """Principal directions, of which each row takes the k largest by magnitude.

    All d directions are there, so a row costs as many numbers as a sparse code of k does, and as
    many names of features.
    """
    directions = _principal(rows)
    return _both_signs(directions, directions, rows.mean(0), k)


def pca_subspace(rows: Float[Tensor, "sample d"], k: int) -> Dictionary:
    """The first k principal directions, all of them for every row: the best subspace of k
    dimensions (Eckart & Young 1936)."""
    directions = _principal(rows)[:k]
    return _both_signs(directions, directions, rows.mean(0), k)


def ica_dictionary(
    rows: Float[Tensor, "sample d"], k: int, generator: torch.Generator
) -> tuple[Dictionary, bool]:
    """Independent components (FastICA, Hyvärinen 1999), of which each row takes the k largest.

    Components are scaled so that what they write has norm 1, and a value is a length as in any
    dictionary. At most `ICA_COMPONENTS` of the leading principal directions are turned, on at most
    `ICA_ROWS` rows.

    Returns:
        The dictionary, and whether the components had settled.
    """
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    order = torch.randperm(len(rows), generator=generator)[:ICA_ROWS]
    some = rows[order.to(rows.device)].double().cpu()
    count = min(ICA_COMPONENTS, rows.shape[1], len(some) - 1)
    seed = int(torch.randint(2**31, (), generator=generator))
    model = FastICA(count, whiten="unit-variance", max_iter=_ICA_PASSES, tol=1e-3,
                    random_state=seed)  # fmt: skip
    with warnings.catch_warnings(record=True) as told, one_blas_thread():
        warnings.simplefilter("always")
        model.fit(some.numpy())
    settled = not any(issubclass(w.category, ConvergenceWarning) for w in told)
    write = torch.from_numpy(model.mixing_).T
    read = torch.from_numpy(model.components_)
    size = torch.linalg.vector_norm(write, dim=1, keepdim=True)
    center = torch.from_numpy(model.mean_).to(rows)
    return _both_signs((read * size).to(rows), (write / size).to(rows), center, k), settled


def random_baseline(
    rows: Float[Tensor, "sample d"], width: int, k: int, generator: torch.Generator
) -> Dictionary:
    """Random unit directions about the mean of rows, scaled for their best reconstruction."""
    blank = rows.new_zeros(width, rows.shape[1])
    shape = Dictionary(
        architecture="topk", k=k, W_enc=blank, W_dec=blank, b_enc=rows.new_zeros(width),
        b_dec=rows.mean(0),
    )  # fmt: skip
    return fit_encoder(random_dictionary_like(shape, generator), rows)


def _principal(rows: Tensor) -> Tensor:
    """Principal directions, the largest first, in float64 until they are settled."""
    wide = rows.double()
    spread = torch.linalg.eigh(torch.cov(wide.T).reshape(rows.shape[1], -1))
    return spread.eigenvectors.T.flip(0).to(rows)


def _both_signs(read: Tensor, write: Tensor, center: Tensor, k: int) -> Dictionary:
    return Dictionary(
        architecture="topk", k=min(k, len(read)), W_enc=torch.cat([read, -read]),
        W_dec=torch.cat([write, -write]), b_enc=read.new_zeros(2 * len(read)), b_dec=center,
    )  # fmt: skip
