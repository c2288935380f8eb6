"""What an architecture of dictionaries has to say: what it keeps, what becomes of it, its loss.

One file in `features/dictionaries` and one decorator add an architecture; training, formats and
evaluation take it from the registry. Everything that costs time is written once, in `entries` and
`step`: an architecture is a few lines on pre-activations, and autograd differentiates them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from energylens.core.registry import Registry
from energylens.features.entries import Chosen, Entries, summed
from energylens.features.mesh import Mesh
from energylens.features.proposals import Proposals

if TYPE_CHECKING:
    from energylens.features.dictionary import Dictionary


class Kept(NamedTuple):
    """What is kept of a block of rows: how many entries of each row, and the entries in order.

    `left` is what no entry that was left out of a row can exceed, where that is not plain.
    """

    count: Int64[Tensor, " sample"]
    feature: Int64[Tensor, " entry"]
    z: Float[Tensor, " entry"]
    left: Float[Tensor, " sample"] | None = None


class Settled(NamedTuple):
    """What stays of the candidates of a batch, unless `rows` have too few candidates to tell.

    None where the architecture always can tell: then no process asks the others.
    """

    chosen: Chosen
    rows: Int64[Tensor, " row"] | None = None


class Terms(NamedTuple):
    """A loss as a function of the weights, and what the reconstruction leaves over.

    `loss` is summed over rows and in units of the squared error.
    """

    loss: Float[Tensor, ""]
    residual: Float[Tensor, "sample d_out"]


class Demand(NamedTuple):
    """What training asks for at a step.

    `sparsity` is the weight of the penalty; `share` the part of the steps that is done; `unit` the
    length that activations are measured in, √d of the rows as they are scaled for training;
    `sites` the widths of what is written side by side, where a crosscoder writes several sites.
    """

    sparsity: float
    share: float
    unit: float
    sites: tuple[int, ...] = ()


@runtime_checkable
class Proposing(Protocol):
    """An architecture whose candidates can be told by a product in bf16."""

    def propose(self, rough: Proposals, dictionary: "Dictionary") -> Kept:
        """As `candidates`, of rough pre-activations; the entries' values are exact.

        What may be missing is told by `left`, or nothing is.
        """
        ...


class Architecture:
    """The parts an architecture may differ in; as they stand, those of a plain ReLU.

    Attributes:
        unit_decoder: Whether decoder rows are kept at norm 1.
        each_alone: Whether every entry is kept or not whatever the others are. Then a full code can
            be trained by dense products, and k is the mean that the penalty is steered to.
        common: Those of its own parameters that have one value for all features.
        resamples: Whether dead features can be begun anew at single rows.
    """

    unit_decoder: bool = True
    each_alone: bool = True
    common: frozenset[str] = frozenset()
    resamples: bool = False

    def own(self, width: int, like: Float[Tensor, "..."]) -> dict[str, Tensor]:
        """Trained parameters, one value a feature, besides encoder and decoder."""
        return {}

    def k_of_part(self, k: int, parts: int) -> int:
        """The k of one of so many equal parts of a dictionary, each held by another process."""
        return k

    def keep(self, pre: Float[Tensor, "sample feature"], dictionary: "Dictionary") -> Kept:
        """Entries of a block of rows that may be active."""
        return of_mask(pre > 0, pre)

    def candidates(
        self, pre: Float[Tensor, "sample feature"], dictionary: "Dictionary", wide: int
    ) -> Kept:
        """Entries of a block that may be active or carry a gradient in training.

        Args:
            wide: How many times as many as usual are wanted, where there is a choice.
        """
        return self.keep(pre, dictionary)

    def settle(self, chosen: Chosen, dictionary: "Dictionary", mesh: Mesh) -> Settled:
        """Of this process's candidates of a whole batch, those that stay."""
        return Settled(chosen)

    def activate(self, entries: Entries, weights: Mapping[str, Tensor]) -> Tensor:
        """Activations, in the shape of `entries.z`."""
        return entries.z.relu()

    def penalty(
        self, entries: Entries, values: Tensor, weights: Mapping[str, Tensor], demand: Demand
    ) -> Tensor:
        """What a code costs, summed over rows, before its weight; 0 where k decides."""
        return values.new_zeros(())

    def terms(
        self,
        entries: Entries,
        values: Tensor,
        weights: Mapping[str, Tensor],
        target: Float[Tensor, "sample d_out"],
        demand: Demand,
    ) -> Terms:
        """Squared error and penalty."""
        loss, residual = entries.squared_error(target, values, weights["W_dec"], weights["b_dec"])
        if self.each_alone:
            penalty = self.penalty(entries, values, weights, demand)
            loss = loss + demand.sparsity * summed(penalty, entries.across)
        return Terms(loss, residual)

    def watch(self, dictionary: "Dictionary", values: Tensor | None, mesh: Mesh) -> None:
        """Look at a step that was made; may write to the dictionary's own tensors.

        `values` are the activations of what was chosen; None after a step by whole products.
        """

    def finish(self, dictionary: "Dictionary") -> "Dictionary":
        """What is used after training: the same, or its equal of another architecture."""
        return dictionary


def of_mask(mask: Tensor, pre: Float[Tensor, "sample feature"]) -> Kept:
    """The entries of a block that a mask says are kept."""
    row, feature = mask.nonzero(as_tuple=True)
    return Kept(mask.sum(1), feature, pre[row, feature])


def of_columns(
    values: Float[Tensor, "sample active"],
    columns: Int64[Tensor, "sample active"],
    left: Float[Tensor, " sample"] | None = None,
) -> Kept:
    """Equally many entries of each row."""
    count = torch.full((len(values),), values.shape[1], device=values.device)
    return Kept(count, columns.flatten(), values.flatten(), left)


def decoder_norms(
    W_dec: Float[Tensor, "feature d_out"], sites: tuple[int, ...] = ()
) -> Float[Tensor, " feature"]:
    """‖d_f‖; of a crosscoder Σ_s ‖d_fs‖ over the sites s, whose widths are given.

    The sum over sites is least where one site has all of it, which is what tells features of one
    site alone from shared ones (Lindsey et al. 2024).

    Example:
        >>> W_dec = torch.tensor([[3.0, 4.0]])
        >>> float(decoder_norms(W_dec)), float(decoder_norms(W_dec, (1, 1)))
        (5.0, 7.0)
    """
    parts = W_dec.split(sites or W_dec.shape[1], dim=1)
    return sum((part.norm(dim=1) for part in parts), W_dec.new_zeros(()))


A = TypeVar("A", bound=Callable[[], Architecture])
ARCHITECTURES: Registry[Architecture] = Registry(
    "dictionary architecture", "energylens.features.dictionaries"
)


def architecture(name: str) -> Callable[[A], A]:
    """Register a class as the architecture of this name (its name in SAELens' format)."""

    def register(kind: A) -> A:
        ARCHITECTURES.add(name, kind())
        return kind

    return register
