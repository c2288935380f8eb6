"""What an architecture of dictionaries has to say: how it encodes, and its gradients.

One file in `features/dictionaries` and one decorator add an architecture; training, formats and
evaluation take it from the registry.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from jaxtyping import Float
from torch import Tensor

from energylens.core.registry import Registry
from energylens.features.code import SparseCode

if TYPE_CHECKING:
    from energylens.features.dictionary import Dictionary


class Step(NamedTuple):
    """Loss of one batch, its gradients, and what the caller may need besides."""

    loss: Float[Tensor, ""]
    W_enc: Float[Tensor, "feature d_in"]
    b_enc: Float[Tensor, " feature"]
    W_dec: Float[Tensor, "feature d_out"]
    b_dec: Float[Tensor, " d_out"]
    code: SparseCode
    residual: Float[Tensor, "sample d_out"]


class Architecture(Protocol):
    """How a kind of dictionary encodes rows and how it learns."""

    def encode(
        self, dictionary: "Dictionary", rows: Float[Tensor, "sample d_in"]
    ) -> SparseCode: ...

    def step(
        self, dictionary: "Dictionary", rows: Float[Tensor, "sample d_in"], variance: float
    ) -> Step:
        """Squared error a row divided by `variance`, mean over rows, and its gradients."""
        ...


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
