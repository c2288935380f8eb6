"""Induction: random segments that repeat, which can be predicted only by looking back."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, optim
from torch.nn.functional import cross_entropy

from energylens.dynamics.attention import prefix_matching, previous_token_attention
from energylens.dynamics.induction import copying, in_context_score
from energylens.studies.phase_changes.networks import AttentionOnly, initialise
from energylens.studies.phase_changes.setting import Reading, Setting
from energylens.studies.planted_energies.networks import seeded

LAYERS, HEADS = 2, 4
VOCAB = 64
RATE = 3e-3
PROBE = 16  # sequences of a half
NO_OTHER = float("nan")


def induction(
    *, seed: int, rotary: bool, d_model: int, context: int, batch: int, table_sd: float | int
) -> Setting:
    """A transformer of two layers of attention.

    Args:
        rotary: Whether it has rotary positions, with which induction heads form within some
            hundreds of steps, or learned ones.
        table_sd: Standard deviation of the first embeddings of tokens and positions. With 1, the
            default of PyTorch, learned positions form no induction heads in that time; with one
            over the root of the width they do.
    """
    network = AttentionOnly(
        vocab=VOCAB, context=context, d_model=d_model, heads=HEADS, layers=LAYERS, rotary=rotary
    )
    initialise(network, seeded(seed, "induction", "weights"), table_sd=table_sd)
    drawn = seeded(seed, "induction", "batches")
    probe = seeded(seed, "induction", "probe")
    halves = (repeated(PROBE, context, probe), repeated(PROBE, context, probe))
    return Setting(
        network=network,
        optimizer=optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01, fused=True),
        loss=lambda: _loss(network, repeated(batch, context, drawn)),
        probe=torch.cat(halves),
        sites=("embed", *(f"blocks.{layer}" for layer in range(LAYERS))),
        progress=partial(_progress, network, halves),
        hindsight=_none,
        accuracy="repeat_accuracy", chance=1 / (VOCAB - 1), data="repeated_segments",
        architecture=f"attention_only_{LAYERS}", layers=LAYERS,
    )  # fmt: skip


def repeated(
    batch: int, context: int, generator: torch.Generator, *, vocab: int = VOCAB
) -> Int[Tensor, "batch pos"]:
    """A beginning (token 0), and a segment of different random tokens over and over.

    Segments are a quarter to a half of the context long, so that no fixed step back is right.

    Example:
        >>> tokens = repeated(2, 9, torch.Generator().manual_seed(0))
        >>> tokens.shape, tokens[:, 0].tolist()
        (torch.Size([2, 9]), [0, 0])
    """
    lengths = torch.randint(context // 4, context // 2 + 1, (batch, 1), generator=generator)
    order = torch.rand(batch, vocab - 1, generator=generator).argsort(1) + 1
    place = torch.arange(context - 1) % lengths
    return torch.cat([torch.zeros(batch, 1, dtype=torch.long), order.gather(1, place)], 1)


def surprisals(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch predicted"]:
    """Surprisal of each token but the first, given those before it, in nats."""
    return cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")


def _loss(network: AttentionOnly, tokens: Tensor) -> Tensor:
    return surprisals(network(tokens), tokens).mean()


def _progress(network: AttentionOnly, halves: tuple[Tensor, Tensor]) -> dict[str, Reading]:
    (first, scores), (second, _) = (_of_half(network, half) for half in halves)
    return {name: (first[name], second[name]) for name in first} | {
        "copying": (_copying(network, int(scores.argmax())), NO_OTHER)
    }


def _of_half(network: AttentionOnly, tokens: Tensor) -> tuple[dict[str, float], Tensor]:
    """Measures on some sequences, and how every head matches prefixes: [layer, head]."""
    patterns = network.patterns(tokens)
    scores = prefix_matching(patterns, tokens)
    logits = network(tokens)
    told, there = tokens[:, 1:], _seen_before(tokens)[:, :-1]
    found = {
        "prefix_matching": float(scores.max()),
        "previous_token": float(previous_token_attention(patterns).max()),
        "in_context_score": float(in_context_score(surprisals(logits, tokens))),
        "repeat_accuracy": float((logits[:, :-1].argmax(2) == told)[there].double().mean()),
    }
    return found, scores


def _seen_before(tokens: Int[Tensor, "batch pos"]) -> Tensor:
    """Positions whose token stands further left too, so that what follows can be known."""
    return (tokens.unsqueeze(2) == tokens.unsqueeze(1)).tril(-1).any(2)


def _copying(network: AttentionOnly, which: int) -> float:
    """Of one head, counted over all layers; of norms, their scales alone."""
    layer, head = divmod(which, HEADS)
    block = network.layers[layer]
    W_V = (block.attention.value.weight * block.norm.weight).unflatten(0, (HEADS, -1)).mT
    W_O = block.attention.out.weight.unflatten(1, (HEADS, -1)).movedim(0, 2)
    W_U = (network.unembed.weight * network.norm.weight).T
    return float(copying(network.embed.weight, W_V, W_O, W_U)[head])


def _none() -> Callable[[], Mapping[str, Reading]]:
    return dict
