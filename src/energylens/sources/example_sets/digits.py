"""The small digits of scikit-learn."""

import torch

from energylens.sources.examples import Examples, example_set
from energylens.sources.images import DIGITS, load_images


@example_set(name="digits", about="handwritten digits of 8 × 8 pixels, ten classes")
def digits() -> Examples:
    """1,797 digits of Alpaydin and Kaynak 1998."""
    images = load_images(DIGITS)
    return Examples(
        inputs=images.pixels, labels=images.labels, units=torch.arange(len(images)),
        classes=images.classes, name="digits", source=images.source, sha256=images.sha256,
    )  # fmt: skip
