"""How the weights of each dictionary lie, and which of its rows another one has too."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.core.ports import Progress
from energylens.dynamics.dimension import dimensions
from energylens.dynamics.isotropic import isotropic_dimensions
from energylens.features.dictionary import Dictionary
from energylens.features.geometry import (
    encoder_decoder_cosine,
    max_cosines,
    mean_max_cosine,
    nearest_cosine,
)
from energylens.stats.nulls import (
    permute_columns,
    permute_rows,
    random_unit_directions,
    states_alike,
)
from energylens.stats.permutation import permutation_test
from energylens.studies.energy_lens.dictionaries import seed_of
from energylens.studies.evaluate_dictionary.entries import Entry

Row = dict[str, Any]
QUANTILES = (5, 50, 95)
SPREAD = ("stable_rank", "participation_ratio")
FOUND_AGAIN = 0.7
"""Cosine from which a row counts as found again, as in Sharkey et al. 2022 and later work."""


def weight_row(entry: Entry, seed: int) -> Row:
    """Spectrum, nearest neighbours, and encoder beside decoder, each beside its null."""
    dictionary = entry.dictionary
    W_dec = _decoder(entry)
    generator = torch.Generator().manual_seed(seed_of(seed, "weights", entry.label))
    width, d = W_dec.shape
    random = _random_like(W_dec, entry.seat.write_widths, generator)
    spread = dimensions(W_dec.double(), centred=False)
    several = len(entry.seat.writes) > 1
    isotropic = (
        {name: float(value) for name, value in dimensions(random.double(), centred=False).items()}
        if several
        else isotropic_dimensions(width, d)
    )
    row: Row = {
        "dictionary": entry.label, "width": dictionary.width, "d_out": dictionary.d_out,
        **{name: float(spread[name]) for name in SPREAD},
        **{f"{name}_isotropic": isotropic[name] for name in SPREAD},
        **_quantiles("nearest", nearest_cosine(W_dec)),
        **_quantiles("nearest_random", nearest_cosine(random)),
    }  # fmt: skip
    if entry.is_transcoder:  # what is read and what is written lie in different spaces
        nowhere = torch.full((1,), torch.nan)
        return row | _quantiles("encoder_decoder", nowhere) | _quantiles("encoder_dealt", nowhere)
    assert isinstance(dictionary, Dictionary)
    W_enc = dictionary.W_enc.float()
    dealt = permute_rows(W_dec, generator)
    return (
        row | _quantiles("encoder_decoder", encoder_decoder_cosine(W_enc, W_dec))
        | _quantiles("encoder_dealt", encoder_decoder_cosine(W_enc, dealt))
    )  # fmt: skip


def _decoder(entry: Entry) -> Float[Tensor, "feature d_out"]:
    made = entry.dictionary
    return (made.W_dec if isinstance(made, Dictionary) else made.decoder).float()


def _random_like(
    W_dec: Tensor, widths: Sequence[int], generator: torch.Generator
) -> Float[Tensor, "feature d_out"]:
    """Random directions; where rows lie at several sites, as long at each as the own ones are."""
    if len(widths) == 1:
        return random_unit_directions(len(W_dec), W_dec.shape[1], generator, like=W_dec)
    return torch.cat([
        random_unit_directions(len(part), part.shape[1], generator, like=part)
        * torch.linalg.vector_norm(part, dim=1, keepdim=True)
        for part in W_dec.split(tuple(widths), dim=1)
    ], 1)  # fmt: skip


def _dealt(
    W_dec: Tensor, widths: Sequence[int], generator: torch.Generator
) -> Float[Tensor, "feature d_out"]:
    """Each row with its coordinates dealt out anew, within each site."""
    parts = W_dec.split(tuple(widths), dim=1)
    return torch.cat([permute_columns(part.T, generator).T for part in parts], 1)


def _quantiles(name: str, values: Tensor) -> Row:
    known = values[values.isfinite()].double()
    return {f"{name}_{q:02d}": float(known.quantile(q / 100)) if len(known) else float("nan")
            for q in QUANTILES}  # fmt: skip


def match_rows(
    entries: Sequence[Entry], *, draws: int, seed: int, progress: Progress
) -> Iterator[Row]:
    """Both ways between any two dictionaries that write the same site of the same model."""
    pairs = [(a, b) for a, b in combinations(entries, 2)
             if (a.model, a.seat.writes) == (b.model, b.seat.writes)]  # fmt: skip
    if not pairs:
        return
    with progress.task("match of decoder rows", 2 * len(pairs), "pair") as advance:
        for pair in pairs:
            for one, other in (pair, pair[::-1]):
                generator = torch.Generator().manual_seed(
                    seed_of(seed, "match", one.label, other.label)
                )
                yield {"dictionary": one.label, "other": other.label, "site": one.seat.target,
                       **match(one, other, draws, generator)}  # fmt: skip
                advance(1)


def match(one: Entry, other: Entry, draws: int, generator: torch.Generator) -> Row:
    """How well decoder rows of one are found again in another, beside three nulls.

    Against the other are set: random directions of the same shape; the own rows, each with its
    coordinates dealt out anew, which keeps its norm; and random rows with the own rows' mean,
    covariance and norms, which lie where they lie and are no features. Where rows lie at several
    sites, the first two keep what is at each.
    """
    mine, theirs = _decoder(one), _decoder(other)
    widths = one.seat.write_widths
    cosines = max_cosines(mine, theirs)
    norms = torch.linalg.vector_norm(mine, dim=1)
    drawn: dict[str, Callable[[torch.Generator], Tensor]] = {
        "random": lambda g: _random_like(mine, widths, g),
        "permuted": lambda g: _dealt(mine, widths, g),
        "alike": lambda g: states_alike(mine, norms, g),
    }
    observed = mean_max_cosine(mine, theirs)
    row: Row = {
        "features": len(mine), "others": len(theirs), "mean_max_cosine": float(observed),
        "found_again": float((cosines > FOUND_AGAIN).double().mean()),
    }  # fmt: skip
    for name, draw in drawn.items():
        test = permutation_test(
            observed, partial(_drawn, draw, theirs), draws=draws, generator=generator
        )
        row |= {f"{name}_mean": float(test.null_mean), f"{name}_sd": float(test.null_sd)}
    return row


def _drawn(
    draw: Callable[[torch.Generator], Tensor], theirs: Tensor, generator: torch.Generator
) -> Tensor:
    return mean_max_cosine(draw(generator), theirs)
