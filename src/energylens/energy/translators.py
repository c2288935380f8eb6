"""Training of tuned-lens translators: least squares first, then KL to the model's own output.

Least squares onto the final state is closed-form and does most of it; a few steps on the KL
divergence then trade distance in the residual stream for what the unembedding reads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from energylens.core.errors import BadInput, InsufficientData
from energylens.core.ports import Advance, Progress, silence
from energylens.energy.energies.tuned import Translator

# Rows on which `Translator.kl` is measured; the last of those given.
HELD_OUT = 256
ROW_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class TranslatorOptions:
    """How translators are trained; the defaults are chosen on SmolLM2 with 20,000 rows."""

    steps: int = 20
    """Adam steps on KL(model ‖ lens) after the least-squares start; 0 keeps the start."""
    batch: int = 128
    """Rows of a step."""
    lr: float = 0.01
    """Step of Adam in coordinates where rows are white, over the spread of the start's entries."""
    ridge: float = 1e-3
    """Added to the rows' covariance, as a share of its mean diagonal."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1 or not self.lr > 0 or not self.ridge >= 0:
            raise BadInput(
                f"{self} asked for: steps and ridge are at least 0, batch at least 1, lr above 0"
            )


def rows_needed(d_model: int) -> int:
    """Rows that a translator of so many dimensions is trained and judged on at the least."""
    return -(-20 * d_model // 9)  # twice the dimension in nine tenths of them


def fit_translator(
    rows: Float[Tensor, "sample d_model"],
    final: Float[Tensor, "token d_model"],
    norm: nn.Module,
    unembed: nn.Module,
    options: TranslatorOptions,
    *,
    generator: torch.Generator,
    progress: Progress = silence,
    label: str = "translator",
) -> Translator:
    """Train the affine map of one site (Belrose et al. 2023) to the model's own output.

    Args:
        rows: States of the site; massive activations left out.
        final: The states that the final norm reads, of the same tokens in the same order.
        generator: Of the order of rows; lives on the CPU.

    Raises:
        BadInput: If the two tensors are not of the same tokens.
        InsufficientData: If there are fewer rows than `rows_needed`.
    """
    if rows.shape != final.shape:
        raise BadInput(
            f"rows of shape {list(rows.shape)} and final states of {list(final.shape)} were given:"
            " a translator needs both of the same tokens"
        )
    count, d_model = rows.shape
    held = min(HELD_OUT, count // 10)
    if count < rows_needed(d_model):
        raise InsufficientData(
            f"a translator of {d_model} dimensions needs {rows_needed(d_model)} rows and found"
            f" {count}: give more text"
        )
    known = slice(0, count - held)
    trained = least_squares(rows[known], final[known], ridge=options.ridge)
    if options.steps:
        slope = partial(_slope, norm=norm, unembed=unembed)
        with progress.task(label, options.steps, "steps") as advance:
            trained = _descend(trained, rows[known], final[known], slope, options, generator,
                               advance)  # fmt: skip
    tail = slice(count - held, count)
    untuned = Translator(A=torch.eye(d_model).to(rows), b=torch.zeros_like(trained.b))
    kl, kl_untuned = divergences([trained, untuned], rows[tail], final[tail], norm, unembed)
    return replace(trained, kl=kl, kl_untuned=kl_untuned)


def least_squares(
    rows: Float[Tensor, "sample d_model"],
    final: Float[Tensor, "sample d_model"],
    *,
    ridge: float | int,
) -> Translator:
    """The affine map that predicts `final` from `rows` best, in float64, ridge-regularised."""
    center, target = rows.mean(0), final.mean(0)
    x, y = (rows - center).double(), (final - target).double()
    A = torch.linalg.solve(_covariance(x, ridge), x.T @ y / len(x)).T.to(rows)
    return Translator(A=A, b=target - A @ center)


def _covariance(centred: Tensor, ridge: float | int) -> Tensor:
    covariance = centred.T @ centred / len(centred)
    covariance.diagonal().add_(ridge * covariance.diagonal().mean())
    return covariance


def _descend(
    start: Translator,
    rows: Tensor,
    final: Tensor,
    slope: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    options: TranslatorOptions,
    generator: torch.Generator,
    advance: Advance,
) -> Translator:
    """Adam in coordinates where the rows are white: residual streams are so far from round that
    in their own a step moves along a few directions only."""
    center = rows.mean(0)
    factor = torch.linalg.cholesky(_covariance((rows - center).double(), options.ridge))
    A, b = start.A @ factor.to(rows), start.b + start.A @ center
    optimizer = torch.optim.Adam([A, b], lr=options.lr * float(A.std()), betas=(0.9, 0.99))
    for _ in range(options.steps):
        some = torch.randint(len(rows), (options.batch,), generator=generator).to(rows.device)
        centred = (rows[some] - center).double()
        white = torch.linalg.solve_triangular(factor, centred.T, upper=False).T.to(rows)
        A.grad, b.grad = slope(A, b, white, final[some])
        optimizer.step()
        advance(1)
    back = torch.linalg.solve_triangular(factor, A.double(), upper=False, left=False).to(rows)
    return Translator(A=back, b=b - back @ center)


@torch.no_grad()
def divergences(
    translators: Sequence[Translator],
    rows: Float[Tensor, "sample d_model"],
    final: Float[Tensor, "sample d_model"],
    norm: nn.Module,
    unembed: nn.Module,
) -> list[float]:
    """Mean KL from the model's output to the lens through each translator, in nats."""
    total = [0.0] * len(translators)
    for h, f in zip(rows.split(ROW_BLOCK), final.split(ROW_BLOCK), strict=True):
        true = torch.log_softmax(unembed(norm(f)), -1)
        likely = true.exp()
        for i, translator in enumerate(translators):
            read = torch.log_softmax(unembed(norm(translator(h))), -1)
            total[i] += float((likely * (true - read)).double().sum())
    return [value / len(rows) for value in total]


def _slope(
    A: Tensor, b: Tensor, rows: Tensor, final: Tensor, norm: nn.Module, unembed: nn.Module
) -> tuple[Tensor, Tensor]:
    """Gradient of the mean KL by A and b: two products with the vocabulary up and one down."""
    weight = unembed.weight
    assert isinstance(weight, Tensor)
    with torch.enable_grad():
        moved = (rows @ A.T + b).requires_grad_()
        normed = norm(moved)
    with torch.no_grad():
        surplus = torch.softmax(unembed(normed), -1) - torch.softmax(unembed(norm(final)), -1)
        cotangent = surplus @ weight / len(rows)
    (slope,) = torch.autograd.grad(normed, moved, cotangent)
    return slope.T @ rows, slope.sum(0)
