"""Small image classifiers, trained here in seconds: an MLP and a convolutional network."""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from energylens.core.errors import EnergylensError
from energylens.core.ports import Progress, silence

KINDS = ("mlp", "cnn")
HIDDEN = 64
# Few passes: a network that is sure of every image has no slope left to follow.
EPOCHS = {"mlp": 12, "cnn": 6}
BATCH = 32
LR, DECAY = 1e-3, 1e-2


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What training did.

    Attributes:
        loss: Mean training loss of each pass over the images, nats.
    """

    loss: tuple[float, ...]
    epochs: int


class _Standard(nn.Module):
    """Pixels brought to mean 0 and standard deviation 1, by what the training images have."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


def small_classifier(
    kind: str, shape: tuple[int, int, int], classes: int, generator: torch.Generator
) -> nn.Sequential:
    """An untrained network; its hidden layers are `hidden1`, `hidden2`, … (of the CNN `conv1`,
    `conv2` and `hidden1`), each with its ReLU inside.

    Args:
        kind: `mlp` or `cnn`.
        shape: Channels, height and width of an image.
        generator: Of the first weights.
    """
    channels, height, width = shape

    def dense(inward: int, outward: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inward, outward), nn.ReLU())

    def conv(inward: int, outward: int, stride: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inward, outward, 3, stride, padding=1), nn.ReLU())

    layers: dict[str, nn.Module] = {"standard": _Standard()}
    if kind == "mlp":
        flat = channels * height * width
        layers |= {"flat": nn.Flatten(), "hidden1": dense(flat, HIDDEN)}
        layers |= {"hidden2": dense(HIDDEN, HIDDEN), "hidden3": dense(HIDDEN, HIDDEN)}
    else:
        down = 32 * math.ceil(height / 2) * math.ceil(width / 2)
        layers |= {"conv1": conv(channels, 16, 1), "conv2": conv(16, 32, 2)}
        layers |= {"flat": nn.Flatten(), "hidden1": dense(down, HIDDEN)}
    layers["head"] = nn.Linear(HIDDEN, classes)
    module = nn.Sequential(OrderedDict(layers))
    _draw(module, generator)
    return module


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """He's normal weights for ReLU (He et al. 2015), biases 0."""
    for parameter in module.parameters():
        if parameter.ndim < 2:
            parameter.zero_()
            continue
        fan_in = parameter[0].numel()
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)


def fit(
    module: nn.Sequential,
    pixels: Float[Tensor, "image channel height width"],
    labels: Int[Tensor, " image"],
    generator: torch.Generator,
    *,
    epochs: int,
    progress: Progress = silence,
) -> Fitted:
    """Train by cross-entropy with AdamW, the learning rate falling to 0 along a cosine.

    Raises:
        EnergylensError: If the loss stops being finite.
    """
    standard = module.get_submodule("standard")
    assert isinstance(standard, _Standard)
    standard.mean.copy_(pixels.mean())
    standard.std.copy_(pixels.std().clamp_min(1e-6))
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    losses = []
    module.train()
    with progress.task("training the network", epochs * len(pixels), "images") as advance:
        for _ in range(epochs):
            order = torch.randperm(len(pixels), generator=generator).to(pixels.device)
            total = 0.0
            for rows in order.split(BATCH):
                loss = cross_entropy(module(pixels[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += float(loss.detach()) * len(rows)
                advance(len(rows))
            schedule.step()
            losses.append(total / len(pixels))
            if not math.isfinite(losses[-1]):
                raise EnergylensError("training the network diverged: its loss is not finite")
    module.eval()
    return Fitted(loss=tuple(losses), epochs=epochs)
