"""What a measurement is compared with: the same thing with the effect taken out."""

import torch
from jaxtyping import Bool, Float, Float64, Int, Num, Shaped
from torch import Tensor

from energylens.core.errors import BadInput, InsufficientData
from energylens.stats.ranking import average_ranks

FEATURES_AT_ONCE = 256


def enough_evidence(
    n_active: Num[Tensor, " feature"],
    n_units: Num[Tensor, " feature"],
    *,
    min_active: int = 30,
    min_units: int = 5,
) -> Bool[Tensor, " feature"]:
    """Features that may be scored; the rest are undefined.

    One active sample in n gives the same correlation whatever its size, so few say nothing.

    Example:
        >>> enough_evidence(torch.tensor([30, 29, 90]), torch.tensor([5, 9, 4]))
        tensor([ True, False, False])

    Args:
        n_active: Samples in which the feature is active.
        n_units: Units in which it is active at least once.
    """
    return (n_active >= min_active) & (n_units >= min_units)


def random_unit_directions(
    count: int, d: int, generator: torch.Generator, *, like: Float[Tensor, "..."]
) -> Float[Tensor, "count d"]:
    """Directions uniform on the sphere, in the dtype and on the device of `like`."""
    drawn = torch.randn(count, d, generator=generator, device=generator.device, dtype=torch.float64)
    return (drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)).to(like)


def states_alike(
    rows: Float[Tensor, "row d"], sizes: Float[Tensor, " state"], generator: torch.Generator
) -> Float[Tensor, "state d"]:
    """Random states with the mean and covariance of some rows, each of the norm asked for.

    Gaussian, so whatever else is true of the rows is not true of them. A direction in which rows
    never vary stays empty.

    Raises:
        InsufficientData: If there are fewer than two rows.
    """
    if len(rows) < 2:
        raise InsufficientData(f"a covariance needs 2 rows, got {len(rows)}: give more text")
    states = _normal_rows(rows.double(), len(sizes), generator)
    return (states * (sizes / torch.linalg.vector_norm(states, dim=1))[:, None]).to(rows)


def _normal_rows(
    rows: Float64[Tensor, "row d"], count: int, generator: torch.Generator
) -> Float64[Tensor, "count d"]:
    """Normal rows with the mean and covariance of some rows."""
    spread = torch.linalg.eigh(torch.cov(rows.T).reshape(rows.shape[1], -1))
    root = spread.eigenvectors * spread.eigenvalues.clamp_min(0).sqrt()
    drawn = torch.randn(count, rows.shape[1], generator=generator, device=generator.device,
                        dtype=torch.float64)  # fmt: skip
    return rows.mean(0) + drawn.to(rows.device) @ root.T


def permute_rows(
    matrix: Shaped[Tensor, "row ..."], generator: torch.Generator
) -> Shaped[Tensor, "row ..."]:
    """Rows handed out again so that none keeps its own (a uniform derangement).

    Raises:
        InsufficientData: If there are fewer than two rows.
    """
    if len(matrix) < 2:
        raise InsufficientData(
            f"no row may stay in place, which needs 2 rows, got {len(matrix)}: use a wider matrix"
        )
    own = torch.arange(len(matrix), device=generator.device)
    order = own
    while bool((order == own).any()):  # a permutation leaves no row with probability 1/e
        order = _permutation(len(matrix), generator)
    return matrix[order.to(matrix.device)]


def permute_columns(
    matrix: Shaped[Tensor, "row column"], generator: torch.Generator
) -> Shaped[Tensor, "row column"]:
    """Each column dealt out anew among the rows: the same values, and nothing that goes together.

    Of the transpose: each row keeps its norm and its values, and they stand elsewhere.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> permute_columns(torch.tensor([[1, 4], [2, 5], [3, 6]]), g).sort(0).values.tolist()
        [[1, 4], [2, 5], [3, 6]]
    """
    dealt = torch.empty_like(matrix)
    for start in range(0, matrix.shape[1], FEATURES_AT_ONCE):  # an order of all is large
        here = matrix[:, start : start + FEATURES_AT_ONCE]
        drawn = torch.rand(here.shape, generator=generator, device=generator.device)
        dealt[:, start : start + here.shape[1]] = here.gather(0, drawn.argsort(0).to(here.device))
    return dealt


def copula_surrogate(
    matrix: Float[Tensor, "row column"], generator: torch.Generator
) -> Float[Tensor, "row column"]:
    """Rows with the values of each column, which go together as smoothly as in a normal law.

    The ranks are those of normal rows that have the correlations of the columns' normal scores, so
    whatever is in the columns beyond that, such as clusters, is not in the surrogate.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> one = torch.arange(5.0)[:, None]
        >>> copula_surrogate(torch.cat([one, 2 * one], 1), g).diff(dim=1).sum().item()
        10.0

    Raises:
        InsufficientData: If there are fewer than two rows.
    """
    rows = len(matrix)
    if rows < 2:
        raise InsufficientData(f"a correlation needs 2 rows, got {rows}: give more")
    scores = torch.special.ndtri((average_ranks(matrix.T).T - 0.5) / rows)
    drawn = _normal_rows(scores, rows, generator)
    return matrix.sort(0).values.gather(0, drawn.argsort(0).argsort(0))


def unit_permutation(
    values: Shaped[Tensor, "unit ..."], generator: torch.Generator
) -> Shaped[Tensor, "unit ..."]:
    """What was measured once per unit, handed to the units in random order."""
    return values[_permutation(len(values), generator).to(values.device)]


def thresholds_matched_in_rate(
    projections: Float[Tensor, "sample feature"], rate: Float[Tensor, " feature"]
) -> Float[Tensor, " feature"]:
    """The threshold that as many samples exceed as fire at the wanted rate.

    The share of `projections > threshold` is the rate rounded to whole samples (less where the
    samples next to the threshold are equal).

    Example:
        >>> column = torch.tensor([[1.0], [4.0], [2.0], [3.0]])
        >>> thresholds_matched_in_rate(column, torch.tensor([0.5])).item()
        2.0

    Raises:
        BadInput: If a rate is outside 0 to 1.
    """
    if not bool(((rate >= 0) & (rate <= 1)).all()):
        raise BadInput("a firing rate lies between 0 and 1, found one outside: divide by samples")
    samples, features = projections.shape
    above = (rate.double() * samples).round().long().to(projections.device)
    thresholds = projections.new_full((features,), -torch.inf)
    for start in range(0, features, FEATURES_AT_ONCE):  # a sort of all would hold indices of all
        here = slice(start, start + FEATURES_AT_ONCE)
        ranked = projections[:, here].sort(0, descending=True).values
        k = above[here]
        at = ranked.gather(0, k.clamp(max=samples - 1)[None])[0]
        thresholds[here] = torch.where(k < samples, at, -torch.inf)
    return thresholds


def circular_shift(
    values: Shaped[Tensor, "sample ..."],
    unit_ids: Int[Tensor, " sample"],
    generator: torch.Generator,
) -> Shaped[Tensor, "sample ..."]:
    """Turn the sequence of each unit by its own random number of places, never by none.

    Keeps what lies within a unit and its order but breaks the alignment with anything else. A unit
    of one sample stays as it is. Samples of a unit are taken in the order in which they stand.
    """
    order = unit_ids.argsort(stable=True)
    _, unit, lengths = unit_ids[order].unique_consecutive(return_inverse=True, return_counts=True)
    start = lengths.cumsum(0) - lengths
    place = torch.arange(len(values), device=unit.device) - start[unit]
    drawn = torch.rand(
        len(lengths), generator=generator, device=generator.device, dtype=torch.float64
    ).to(unit.device)
    turn = 1 + (drawn * (lengths - 1)).long()
    source = start[unit] + (place + turn[unit]) % lengths[unit]
    shifted = torch.empty_like(values)
    shifted[order] = values[order[source]]
    return shifted


def circular_shifts(
    values: Shaped[Tensor, "series sample"],
    draws: int,
    generator: torch.Generator,
    *,
    blocks: int = 1,
    least: int = 1,
) -> Shaped[Tensor, "draw series sample"]:
    """Series turned round in time, each by its own random number of places, many times over.

    Keeps the values of a series and how its neighbours go together, but breaks its alignment with
    the other series. Within blocks of time it also keeps the course of the whole: what is left to
    find is what goes together beyond a course that is shared.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> drawn = circular_shifts(torch.arange(6)[None], 2, g, blocks=2)[:, 0]
        >>> drawn[:, :3].sort(1).values.tolist(), bool((drawn != torch.arange(6)).all())
        ([[0, 1, 2], [0, 1, 2]], True)

    Args:
        blocks: Parts of (nearly) equal length, turned one by one.
        least: Fewest places, either way, by which a part is turned.

    Raises:
        InsufficientData: If a part is too short to be turned by as much.
    """
    series, samples = values.shape
    edge = torch.linspace(0, samples, blocks + 1).round().long()
    length = edge.diff()
    free = length - 2 * least + 1  # numbers of places to choose from
    if bool((free < 1).any()):
        raise InsufficientData(
            f"{blocks} parts of {samples} samples cannot be turned by {least} places either way:"
            " take fewer parts, or measure more often"
        )
    drawn = torch.rand(draws, series, blocks, generator=generator, device=generator.device)
    turn = (least + (drawn * free.to(drawn.device)).long()).to(values.device)
    block = torch.repeat_interleave(torch.arange(blocks), length).to(values.device)
    start, length = edge[:-1].to(values.device)[block], length.to(values.device)[block]
    place = torch.arange(samples, device=values.device) - start
    source = start + (place + turn[:, :, block]) % length
    return values.expand(draws, series, samples).gather(2, source)


def split_units(
    units: int, generator: torch.Generator
) -> tuple[Bool[Tensor, " unit"], Bool[Tensor, " unit"]]:
    """Two random halves: choose on one, report on the other. The first is larger by at most one.

    Raises:
        InsufficientData: If there are fewer than two units.
    """
    if units < 2:
        raise InsufficientData(f"two halves need 2 units, got {units}: use more documents")
    first = _permutation(units, generator) < (units + 1) // 2
    return first, ~first


def _permutation(n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    return torch.randperm(n, generator=generator, device=generator.device)
