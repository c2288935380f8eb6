"""Whether two dictionaries are one: the same rows through both."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.features.cross_layer import CrossLayerTranscoder
from energylens.features.dictionary import Dictionary

ROWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the outputs of two dictionaries on the same rows lie apart.

    Differences are lengths of ŷ₁ − ŷ₂ in parts of that of ŷ₁ − b_dec, the largest of all rows.

    Attributes:
        rows: Rows that went through both.
        silent: Rows on which the first writes b_dec alone: no difference is defined there.
        fired: Features of the first that are active on some row.
        identical: Whether every value is the same, to the bit.
        difference: Between the two.
        rounding: Of the first from itself in float64: what its own type of numbers costs.
        dealt_out: Of the first from itself with the decoder rows dealt out among the features: what
            a wrong file would give.
        activations: Largest difference of an activation, in parts of the largest activation.
    """

    rows: int
    silent: int
    fired: int
    identical: bool
    difference: float
    rounding: float
    dealt_out: float
    activations: float


@torch.no_grad()
def agreement(
    first: Dictionary,
    second: Dictionary,
    rows: Float[Tensor, "sample d_in"],
    generator: torch.Generator,
) -> Agreement:
    """Compare what two dictionaries make of rows.

    Args:
        first: The one that is converted.
        second: What was made of it; of the same widths and type.
        rows: In the type of both; `telling_rows` makes some.
        generator: For the order in which decoder rows are dealt out.
    """
    order = torch.randperm(first.width, generator=generator).to(first.W_dec.device)
    dealt_out, exact = replace(first, W_dec=first.W_dec[order]), first.to(dtype=torch.float64)
    parts: dict[str, list[Tensor]] = {"difference": [], "rounding": [], "dealt_out": []}
    fired = torch.zeros(first.width, dtype=torch.bool, device=rows.device)
    identical, activation, largest, silent = True, 0.0, 0.0, 0
    for some in rows.split(ROWS_AT_ONCE):
        codes = [dictionary.encode(some).dense().double() for dictionary in (first, second)]
        made = first.reconstruct(some)
        again = second.reconstruct(some)
        identical &= bool(torch.equal(made, again) and torch.equal(*codes))
        activation = max(activation, float((codes[0] - codes[1]).abs().max()))
        largest = max(largest, float(codes[0].abs().max()))
        fired |= (codes[0] != 0).any(0)
        silent += int((made == first.b_dec).all(1).sum())
        others = (again, exact.reconstruct(some.double()), dealt_out.reconstruct(some))
        for name, other in zip(parts, others, strict=True):
            parts[name].append(apart_by(made, other, first.b_dec))
    worst = {name: _largest(torch.cat(found)) for name, found in parts.items()}
    return Agreement(
        rows=len(rows), silent=silent, fired=int(fired.sum()), identical=identical,
        activations=activation / largest if largest else math.nan, **worst,
    )  # fmt: skip


def agreement_across_layers(
    first: CrossLayerTranscoder,
    second: CrossLayerTranscoder,
    count: int,
    generator: torch.Generator,
) -> Agreement:
    """Compare two cross-layer transcoders, layer by layer, by all that a layer's features write.

    Largest differences are those of any layer; rows and features are counted over all.

    Args:
        count: Rows that go through each layer.
    """
    found = [
        agreement(one, other, telling_rows(one, count, generator), generator)
        for one, other in zip(first.parts, second.parts, strict=True)
    ]
    largest = {
        name: max((v for v in (getattr(f, name) for f in found) if v == v), default=math.nan)
        for name in ("difference", "rounding", "dealt_out", "activations")
    }
    return Agreement(
        rows=sum(f.rows for f in found), silent=sum(f.silent for f in found),
        fired=sum(f.fired for f in found),
        identical=all(f.identical for f in found) and torch.equal(first.b_dec, second.b_dec),
        **largest,
    )  # fmt: skip


def apart_by(
    made: Float[Tensor, "sample d_out"],
    other: Float[Tensor, "sample d_out"],
    b_dec: Float[Tensor, " d_out"],
) -> Float[Tensor, " sample"]:
    """‖ŷ − ŷ'‖ / ‖ŷ − b_dec‖ of each row, in float64; nan where ŷ is b_dec.

    Example:
        >>> apart_by(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 5.0]]), torch.zeros(2))
        tensor([0.2000], dtype=torch.float64)
    """
    length = (made.double() - b_dec.double()).norm(dim=1)
    apart = (other.double() - made.double()).norm(dim=1)
    return torch.where(length > 0, apart / length, math.nan)


def _largest(apart: Float[Tensor, " sample"]) -> float:
    known = apart[apart.isfinite()]
    return float(known.max()) if len(known) else math.nan


def telling_rows(
    dictionary: Dictionary, count: int, generator: torch.Generator
) -> Float[Tensor, "sample d_in"]:
    """Random rows on which a dictionary has something to say.

    One half is drawn about what the dictionary takes for the middle, at lengths over four powers of
    ten; the other half reads along single encoder rows, as far as it takes to pass the threshold,
    so that features fire which no random direction would wake.

    Args:
        count: Rows, at least 2.
        generator: Of the CPU.
    """
    W = dictionary.W_enc.double()
    drawn = torch.randn(count // 2, dictionary.d_in, generator=generator, dtype=torch.float64)
    lengths = torch.logspace(-2, 2, count // 2, dtype=torch.float64)
    features = torch.randint(dictionary.width, (count - count // 2,), generator=generator)
    chosen = W[features.to(W.device)]
    norm = chosen.norm(dim=1).clamp(min=1e-12)
    need = 1 + dictionary.b_enc.double().abs()[features]
    for own in dictionary.own.values():
        need = need + own.double().abs()[features]
    along = chosen / norm[:, None] * (2 * need / norm)[:, None]
    rows = torch.cat([(drawn * lengths[:, None]).to(W), along])
    middle = dictionary.b_dec.double() if dictionary.subtracts_b_dec else 0
    return (rows + middle).to(dictionary.W_enc.dtype)
