"""Modular addition: memorised at once, understood much later."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, optim
from torch.nn.functional import cross_entropy

from energylens.dynamics.fourier import (
    excluded_loss,
    key_frequencies,
    number_power,
    restricted_loss,
    sum_power,
)
from energylens.studies.phase_changes.networks import ModularAddition, initialise
from energylens.studies.phase_changes.setting import Reading, Setting
from energylens.studies.planted_energies.networks import seeded

HEADS = 4
RATE, BETAS = 3e-3, (0.9, 0.98)
NO_OTHER = float("nan")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """All pairs of numbers below p, what the network is told of them, and which it is taught.

    Attributes:
        answers: a + b mod p, or the same dealt out among the pairs.
        taught: Rows to learn from.
        new: Pairs that are not taught in either order, since a network soon takes a + b for b + a;
            in two halves.
    """

    p: int
    inputs: Int[Tensor, "pair 2"]
    answers: Int[Tensor, " pair"]
    taught: Int[Tensor, " row"]
    new: tuple[Int[Tensor, " some"], Int[Tensor, " others"]]


def all_pairs(p: int, *, share: float, shuffled: bool, generator: torch.Generator) -> Pairs:
    """The pairs in order of a and b, split at random.

    Args:
        share: Of the pairs to learn from.
        shuffled: Whether answers are dealt out, so that nothing can be understood.
    """
    inputs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    order = torch.randperm(p * p, generator=generator)
    taught, others = order.tensor_split([round(share * p * p)])
    is_taught = torch.zeros(p, p, dtype=torch.bool)
    is_taught[*inputs[taught].T] = True
    new = others[~is_taught.T[*inputs[others].T]]
    answers = inputs.sum(1) % p
    if shuffled:
        answers = answers[torch.randperm(p * p, generator=generator)]
    first, second = new.tensor_split(2)
    return Pairs(p=p, inputs=inputs, answers=answers, taught=taught, new=(first, second))


def addition(
    *, seed: int, shuffled: bool, p: int, share: float, d_model: int, decay: float
) -> Setting:
    """A transformer of one layer that is taught some of the sums, all of them at every step."""
    network = ModularAddition(p=p, d_model=d_model, heads=HEADS)
    initialise(network, seeded(seed, "addition", "weights"))
    pairs = all_pairs(
        p, share=share, shuffled=shuffled, generator=seeded(seed, "addition", "pairs")
    )
    inputs, answers = pairs.inputs[pairs.taught], pairs.answers[pairs.taught]
    return Setting(
        network=network,
        optimizer=optim.AdamW(
            network.parameters(), lr=RATE, betas=BETAS, weight_decay=decay, fused=True
        ),
        loss=lambda: cross_entropy(network(inputs), answers),
        probe=pairs.inputs[torch.cat(pairs.new)],
        sites=("embed", "attention", "neurons", "stream"),
        progress=partial(progress_of, network, pairs),
        hindsight=partial(_hindsight, network, pairs),
        accuracy="new_accuracy", chance=1 / p,
        data="shuffled_addition" if shuffled else "modular_addition",
        architecture="transformer_1", layers=1,
    )  # fmt: skip


def progress_of(network: Callable[[Tensor], Tensor], pairs: Pairs) -> dict[str, Reading]:
    """What a network knows of the pairs it was taught, and of new ones."""
    logits = network(pairs.inputs)
    found = {"taught_accuracy": (_accuracy(logits, pairs, pairs.taught), NO_OTHER),
             "taught_loss": (_loss(logits, pairs, pairs.taught), NO_OTHER)}  # fmt: skip
    first, second = pairs.new
    return found | {
        "new_accuracy": (_accuracy(logits, pairs, first), _accuracy(logits, pairs, second)),
        "new_loss": (_loss(logits, pairs, first), _loss(logits, pairs, second)),
        "sum_power": (float(sum_power(_by_pair(logits)).sum()), NO_OTHER),
    }


def _hindsight(network: ModularAddition, pairs: Pairs) -> Callable[[], Mapping[str, Reading]]:
    """Measures on the frequencies that hold nine tenths of the final logits' waves in a + b."""
    keys = key_frequencies(sum_power(_by_pair(network(pairs.inputs))))
    a, b = pairs.inputs[pairs.taught].T
    answers = pairs.answers[pairs.taught]

    def measured() -> dict[str, Reading]:
        logits = _by_pair(network(pairs.inputs))
        return {
            "restricted_loss": (float(restricted_loss(logits, keys)), NO_OTHER),
            "excluded_loss": (float(excluded_loss(logits, keys, a, b, answers)), NO_OTHER),
            "key_power": (
                float(number_power(network.embed.weight[: pairs.p])[keys - 1].sum()), NO_OTHER
            ),
        }  # fmt: skip

    return measured


def _by_pair(logits: Float[Tensor, "pair answer"]) -> Float[Tensor, "a b answer"]:
    return logits.unflatten(0, (logits.shape[1], logits.shape[1]))


def _accuracy(logits: Tensor, pairs: Pairs, rows: Tensor) -> float:
    return float((logits[rows].argmax(1) == pairs.answers[rows]).double().mean())


def _loss(logits: Tensor, pairs: Pairs, rows: Tensor) -> float:
    return float(cross_entropy(logits[rows].double(), pairs.answers[rows]))
