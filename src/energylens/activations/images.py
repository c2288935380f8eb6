"""Images of one forward pass, and states at any layer as positions within an image.

An image's patches, or the pixels of a map of channels, are its positions: they are to the image
what tokens are to a document. A layer that has one vector an image has one position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.core.errors import SiteNotAvailable


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """Images with their labels.

    Attributes:
        document: Which image each is, counted from 0: the statistical unit.
    """

    pixels: Float[Tensor, "batch channel height width"]
    labels: Int[Tensor, " batch"]
    document: Int[Tensor, " batch"]

    def inputs(self) -> dict[str, Tensor]:
        """Arguments for a Hugging Face image classifier."""
        return {"pixel_values": self.pixels}

    def take(self, rows: Int[Tensor, " row"]) -> "ImageBatch":
        """The batch of some of its images; an image may be taken more than once."""
        return ImageBatch(
            pixels=self.pixels[rows], labels=self.labels[rows], document=self.document[rows]
        )

    def to(self, device: torch.device | str) -> "ImageBatch":
        return ImageBatch(
            pixels=self.pixels.to(device), labels=self.labels.to(device),
            document=self.document.to(device),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Places:
    """Positions that enter the statistics, and the unit of each sequence of them."""

    scored: Bool[Tensor, "batch pos"]
    document: Int[Tensor, " batch"]


def as_positions(value: Tensor, site: str) -> Float[Tensor, "batch pos d"]:
    """The tensor at a site, positions in one axis and channels last.

    Raises:
        SiteNotAvailable: If it is neither a vector, nor a sequence, nor a map of channels.

    Example:
        >>> as_positions(torch.zeros(2, 16, 4, 4), "conv").shape
        torch.Size([2, 16, 16])
    """
    if value.ndim == 2:
        return value[:, None]
    if value.ndim == 3:
        return value
    if value.ndim == 4:
        return value.flatten(2).transpose(1, 2)
    shape = "×".join(map(str, value.shape))
    raise SiteNotAvailable(
        f"site {site!r} holds a tensor of shape {shape}: name one with a vector an image, a"
        " sequence of them, or a map of channels"
    )


def in_shape_of(
    states: Float[Tensor, "batch pos d"], like: Float[Tensor, "batch ..."]
) -> Float[Tensor, "batch ..."]:
    """The inverse of `as_positions`: states as the module itself lays them out."""
    if like.ndim == 4:
        return states.transpose(1, 2).reshape(len(states), *like.shape[1:])
    return states.reshape(len(states), *like.shape[1:])


def grid_of(shape: Sequence[int]) -> tuple[int, int] | None:
    """Rows and columns of positions in the image; None where a layer has one vector an image.

    Of a sequence, the positions after the first ones (class and register tokens) that make a
    square.

    Example:
        >>> grid_of((1, 16, 4, 6)), grid_of((1, 17, 32)), grid_of((1, 64))
        ((4, 6), (4, 4), None)
    """
    if len(shape) == 4:
        return shape[2], shape[3]
    if len(shape) == 3:
        side = int(shape[1] ** 0.5)
        return (side, side) if side > 1 else None
    return None
