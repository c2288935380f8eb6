"""How a network does modular addition: on which frequencies, and what it can do without them.

Inputs are all pairs (a, b) of numbers below an odd p, and the answer is a + b mod p. What depends
on the sum alone can be written in cos(2πk(a + b)/p) and sin(2πk(a + b)/p), k = 1 … (p − 1)/2
(Nanda et al. 2023, Progress measures for grokking via mechanistic interpretability).
"""

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from energylens.core.errors import BadInput
from energylens.core.registry import measure

NANDA = "Nanda et al. 2023"


@measure(
    units="share of the power about the mean",
    axes=("frequency",),
    source=NANDA,
    null="random rows: 2 / (p − 1) at every frequency",
    formula="Σ over units of |DFT_k|² / Σ over k and units",
    unchanged_by=("a common scale", "rotation of the units", "adding a number to all rows"),
)
def number_power(table: Float[Tensor, "number unit"]) -> Float64[Tensor, " frequency"]:
    """How much of what a table holds of the numbers below p lies at each frequency; nan if nothing.

    Raises:
        BadInput: If p is even or less than 3.

    Example:
        >>> turn = torch.arange(5) * 2 * torch.pi * 2 / 5
        >>> number_power(torch.stack([turn.cos(), turn.sin()], 1)).round(decimals=6).tolist()
        [0.0, 1.0]
    """
    _check_odd(len(table))
    power = torch.fft.rfft(table.double(), dim=0)[1:].abs().square().sum(1)
    return power / _beyond_rounding(power.sum(), table)


@measure(
    units="share of the variance over inputs",
    axes=("frequency",),
    source=NANDA,
    null="random logits: 2 / (p² − 1) at every frequency",
    formula="Σ over answers of the squared projection on cos and sin of k (a + b) / Σ of variance",
    unchanged_by=("a common scale", "a constant added to an answer's logits"),
)
def sum_power(logits: Float[Tensor, "a b answer"]) -> Float64[Tensor, " frequency"]:
    """How much of the logits is a wave in a + b, by its frequency; nan if they are constant.

    What is left to 1 is no function of the sum.

    Raises:
        BadInput: If there are not p of a and of b, or p is even.

    Example:
        >>> float(sum_power(planted_logits(5, torch.tensor([1]))).sum().round(decimals=6))
        1.0
    """
    _check_pairs(logits)
    wide = logits.double()
    variance = (wide - wide.mean((0, 1))).square().sum()
    spectrum = torch.fft.rfft(by_sum(wide), dim=0)[1:]
    # Twice: a frequency and its mirror image; p rows of a sum each stand for p pairs.
    power = 2 * spectrum.abs().square().sum(1)
    return power / _beyond_rounding(variance, logits)


def key_frequencies(
    power: Float[Tensor, " frequency"], *, share: float = 0.9
) -> Int[Tensor, " key"]:
    """The fewest frequencies that hold a share of the power, ascending; the first is 1.

    None where the power is undefined or 0.

    Example:
        >>> key_frequencies(torch.tensor([0.05, 0.6, 0.0, 0.35])).tolist()
        [2, 4]
    """
    if not bool(power.sum() > 0):
        return torch.zeros(0, dtype=torch.long, device=power.device)
    order = power.argsort(descending=True, stable=True)
    held = power[order].cumsum(0) / power.sum()
    few = int((held < share - 1e-12).sum()) + 1
    return order[:few].sort().values + 1


@measure(
    units="nats",
    axes=(),
    source=f"{NANDA}: over all pairs",
    null="ln p: frequencies that hold nothing of the answer leave it to chance",
    formula="cross-entropy of the logits' mean and their waves in a + b at key frequencies",
    unchanged_by=("what is no function of the sum", "waves of other frequencies"),
)
def restricted_loss(
    logits: Float[Tensor, "a b answer"], frequencies: Int[Tensor, " key"]
) -> Float64[Tensor, ""]:
    """The loss of what the network does on some frequencies alone.

    It falls as the circuit on these forms, while the loss on new pairs may still be high.

    Raises:
        BadInput: If a frequency is not of p, or the logits are not of all pairs.

    Example:
        >>> planted = planted_logits(5, torch.tensor([1]), amplitude=9.0)
        >>> round(float(restricted_loss(planted, torch.tensor([1]))), 6)
        0.003975
        >>> round(float(restricted_loss(planted, torch.tensor([2]))), 6)  # ln 5
        1.609438
    """
    wide = logits.double()
    kept = waves(wide, frequencies) + wide.mean((0, 1))
    # Every sum has p pairs, which by now are alike.
    return cross_entropy(kept, torch.arange(len(kept), device=kept.device))


@measure(
    units="nats",
    axes=(),
    source=f"{NANDA}: over the training pairs",
    null="the loss with as many other frequencies taken out",
    formula="cross-entropy of the logits less their waves in a + b at key frequencies",
    unchanged_by=("waves of these frequencies",),
)
def excluded_loss(
    logits: Float[Tensor, "a b answer"],
    frequencies: Int[Tensor, " key"],
    a: Int[Tensor, " pair"],
    b: Int[Tensor, " pair"],
    answers: Int[Tensor, " pair"],
) -> Float64[Tensor, ""]:
    """The loss on some pairs without what the network does on some frequencies.

    On training pairs it falls while they are memorised, and rises again as the circuit takes over.

    Args:
        answers: Of the pairs, as the network was taught.

    Raises:
        BadInput: If a frequency is not of p, or the logits are not of all pairs.

    Example:
        >>> planted, ends = planted_logits(5, torch.tensor([1])), torch.tensor([0, 4])
        >>> taught = (ends + ends) % 5
        >>> round(float(excluded_loss(planted, torch.tensor([1]), ends, ends, taught)), 6)
        1.609438
    """
    wide = logits.double()
    without = wide[a, b] - waves(wide, frequencies)[(a + b) % len(wide)]
    return cross_entropy(without, answers)


def waves(
    logits: Float[Tensor, "a b answer"], frequencies: Int[Tensor, " key"]
) -> Float64[Tensor, "sum answer"]:
    """What of the logits is a wave in a + b at some frequencies, by the sum modulo p.

    Raises:
        BadInput: If a frequency is not of p, or the logits are not of all pairs.
    """
    _check_pairs(logits)
    p, spectrum = len(logits), torch.fft.rfft(by_sum(logits.double()), dim=0)
    if outside := [int(k) for k in frequencies if not 1 <= k < len(spectrum)]:
        raise BadInput(
            f"frequency {outside[0]} was asked of numbers modulo {p}: they have 1 to"
            f" {len(spectrum) - 1}"
        )
    kept = torch.zeros_like(spectrum)
    kept[frequencies] = spectrum[frequencies]
    return torch.fft.irfft(kept, n=p, dim=0)


def by_sum(logits: Float[Tensor, "a b answer"]) -> Float[Tensor, "sum answer"]:
    """Mean over the pairs of each sum modulo p."""
    p = len(logits)
    numbers = torch.arange(p, device=logits.device)
    b = (numbers[:, None] - numbers) % p  # of each sum, down, and each a
    return logits[numbers, b].mean(1)


def planted_logits(
    p: int, frequencies: Int[Tensor, " key"], *, amplitude: float | int = 1.0
) -> Float64[Tensor, "a b answer"]:
    """Logits that know the answer by some frequencies: Σ over k of cos(2πk(a + b − c)/p).

    Example:
        >>> planted_logits(5, torch.tensor([1])).argmax(2)[3, 4].item()
        2
    """
    n = torch.arange(p, dtype=torch.float64, device=frequencies.device)
    away = n[:, None, None] + n[:, None] - n
    turns = 2 * torch.pi / p * frequencies.double()
    return amplitude * (away.unsqueeze(-1) * turns).cos().sum(-1)


def _beyond_rounding(spread: Tensor, values: Tensor) -> Tensor:
    """A sum of squares about the mean; nan where it is what rounding leaves of none."""
    least = 1e-24 * values.double().square().sum()
    return torch.where(spread > least, spread, torch.nan)


def _check_odd(p: int) -> None:
    if p < 3 or p % 2 == 0:
        raise BadInput(
            f"numbers modulo {p} were given: frequencies are told apart for an odd p of 3 or more"
        )


def _check_pairs(logits: Tensor) -> None:
    p = len(logits)
    _check_odd(p)
    if logits.shape[1] != p:
        raise BadInput(
            f"logits of {p} × {logits.shape[1]} pairs were given: all pairs of p numbers are needed"
        )
