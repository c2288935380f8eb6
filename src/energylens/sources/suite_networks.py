"""Networks of the suite: perceptrons, convolutional networks and transformers of set sizes."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from energylens.core.errors import BadInput, UnknownName
from energylens.sources.small_transformer import SmallTransformer, token_shape

Family = Literal["mlp", "cnn", "transformer"]
BAG = 64  # numbers that stand for a text in a perceptron: the mean over its words
PER_WORD = 16  # numbers that stand for a word in a transformer


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network up to the shape of its inputs and the number of classes.

    Attributes:
        widths: Units of each hidden layer, channels of each convolution, or width of each block.
        heads: Attention heads of a block.
    """

    name: str
    family: Family
    widths: tuple[int, ...]
    heads: int = 0

    @property
    def depth(self) -> int:
        """Hidden layers, convolutions or blocks."""
        return len(self.widths)

    @property
    def width(self) -> int:
        """The widest of them."""
        return max(self.widths)


def _named(family: Family, heads: int = 0, **widths: tuple[int, ...]) -> dict[str, Architecture]:
    return {
        f"{family}_{name}": Architecture(
            name=f"{family}_{name}", family=family, widths=of_layers, heads=heads
        )
        for name, of_layers in widths.items()
    }


ARCHITECTURES: dict[str, Architecture] = {
    **_named(
        "mlp", shallow_2=(128, 64), medium_5=(64, 64, 64, 64, 32), deep_10=(32,) * 10,
        verydeep_15=(24,) * 15, narrow=(32,) * 4, medium=(128, 128, 64, 64),
        wide=(256, 256, 128, 128), verywide=(512, 512, 256, 256),
    ),
    **_named("cnn", shallow=(32, 64), medium=(32, 64, 128), deep=(32, 64, 128, 256)),
    **_named("transformer", 4, shallow=(128,) * 2, medium=(128,) * 4, deep=(128,) * 6,
             narrow=(64,) * 4),
}  # fmt: skip


def architecture(name: str) -> Architecture:
    """An architecture by name.

    Raises:
        UnknownName: If there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise UnknownName("architecture", name, sorted(ARCHITECTURES))
    return ARCHITECTURES[name]


def network(
    wanted: Architecture,
    shape: tuple[int, ...],
    classes: int,
    generator: torch.Generator,
    *,
    words: int = 0,
) -> nn.Module:
    """An untrained network of an architecture.

    Args:
        wanted: Which.
        shape: Of one input: (channels, height, width), (features,), or (words,) of a text.
        classes: Outputs.
        generator: Of the first weights, and then of what is dropped while it trains.
        words: How many numbers of words there are, where inputs are words; each word then has
            numbers of its own that are learned, and a perceptron reads their mean.

    Raises:
        BadInput: If the architecture cannot read inputs of this shape.

    Example:
        >>> made = network(ARCHITECTURES["mlp_shallow_2"], (1, 28, 28), 10, torch.Generator())
        >>> sum(weights.numel() for weights in made.parameters()), tracked_sites(made)
        (109386, ('linear1', 'linear2', 'head'))
    """
    makes: dict[Family, Callable[..., nn.Module]] = {
        "mlp": _perceptron, "cnn": _convolutional, "transformer": _transformer,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # modules draw on construction what is drawn anew below
        module = makes[wanted.family](wanted, shape, classes, generator, words)
    _draw(module, generator)
    return module


def tracked_sites(module: nn.Module) -> tuple[str, ...]:
    """Modules whose outputs are watched, from input to output: linear maps and convolutions before
    their ReLU; of a transformer's block what attention adds, what the perceptron adds, and the
    stream behind both."""
    if isinstance(module, SmallTransformer):
        return module.tracked_sites()
    kinds = (nn.Linear, nn.Conv2d)
    return tuple(name for name, part in module.named_modules() if isinstance(part, kinds))


def _perceptron(
    wanted: Architecture, shape: tuple[int, ...], classes: int, _: torch.Generator, words: int
) -> nn.Module:
    layers: dict[str, nn.Module] = {"flat": nn.Flatten()}
    if words:
        layers = {"bag": nn.EmbeddingBag(words, BAG, mode="mean", padding_idx=0)}
    inward = BAG if words else math.prod(shape)
    for number, width in enumerate(wanted.widths, 1):
        layers |= {f"linear{number}": nn.Linear(inward, width), f"relu{number}": nn.ReLU()}
        inward = width
    return nn.Sequential(OrderedDict(layers | {"head": nn.Linear(inward, classes)}))


def _convolutional(
    wanted: Architecture, shape: tuple[int, ...], classes: int, _: torch.Generator, words: int
) -> nn.Module:
    """3 × 3 kernels; along an axis of one pixel there is nothing to convolve, and no pooling."""
    if len(shape) != 3 or words:
        raise BadInput(
            f"architecture {wanted.name} was asked for with inputs of shape {shape}: convolutional"
            " networks read images; take another architecture or data set"
        )
    inward, *sides = shape
    layers: dict[str, nn.Module] = {}
    for number, channels in enumerate(wanted.widths, 1):
        height, width = (3 if side > 1 else 1 for side in shape[1:])
        layers[f"conv{number}"] = nn.Conv2d(
            inward, channels, (height, width), padding=(height // 2, width // 2)
        )
        if max(sides) > 1:
            halved = tuple(2 if side > 1 else 1 for side in sides)
            layers[f"pool{number}"] = nn.MaxPool2d(halved)
            sides = [side // half for side, half in zip(sides, halved, strict=True)]
        layers[f"relu{number}"] = nn.ReLU()  # behind the pooling it gives the same, for a quarter
        inward = channels
    layers |= {"flat": nn.Flatten(), "head": nn.Linear(inward * math.prod(sides), classes)}
    # Channels innermost is the faster layout on CPUs and GPUs; shapes stay as they are.
    module = nn.Sequential(OrderedDict(layers))
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _transformer(
    wanted: Architecture,
    shape: tuple[int, ...],
    classes: int,
    generator: torch.Generator,
    words: int,
) -> nn.Module:
    size = math.prod(shape) * (PER_WORD if words else 1)
    tokens, _ = token_shape(size)
    if tokens == 1:
        raise BadInput(
            f"architecture {wanted.name} was asked for with inputs of {size} numbers, which cannot"
            " be cut into equal tokens: take another architecture or data set"
        )
    return SmallTransformer(
        size, classes, width=wanted.width, heads=wanted.heads, layers=wanted.depth,
        embedding=nn.Embedding(words, PER_WORD, padding_idx=0) if words else None,
        generator=generator,
    )  # fmt: skip


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """First weights by torch's own rules, from a generator: uniform within 1/√inputs for linear
    maps, convolutions and their biases, normal for words and positions; attention by Glorot's rule
    with biases of 0, as in torch's own transformer."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            bound = part.weight[0].numel() ** -0.5
            part.weight.copy_(_uniform(part.weight, bound, generator))
            assert part.bias is not None
            part.bias.copy_(_uniform(part.bias, bound, generator))
            if name.endswith("attention.qkv"):
                glorot = (6 / sum(part.weight.shape)) ** 0.5
                part.weight.copy_(_uniform(part.weight, glorot, generator))
            if ".attention." in name:
                part.bias.zero_()
        elif isinstance(part, nn.Embedding | nn.EmbeddingBag):
            part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
            part.weight[0] = 0.0
        elif isinstance(part, SmallTransformer):
            part.positions.copy_(torch.randn(part.positions.shape, generator=generator))


def _uniform(like: Tensor, bound: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(like.shape, generator=generator) - 1) * bound
