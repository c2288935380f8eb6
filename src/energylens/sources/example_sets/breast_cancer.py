"""Measurements of cell nuclei, from scikit-learn."""

import hashlib
from typing import Any

import numpy as np
import torch

from energylens.sources.examples import Examples, example_set
from energylens.sources.reference import package_label


@example_set(name="breast-cancer", about="30 measurements of cell nuclei, malignant or benign")
def breast_cancer() -> Examples:
    """569 tumours of Wolberg, Street and Mangasarian 1993."""
    from sklearn.datasets import load_breast_cancer

    found: Any = load_breast_cancer()
    features = np.ascontiguousarray(found.data, dtype=np.float32)
    return Examples(
        inputs=torch.from_numpy(features), labels=torch.from_numpy(found.target.astype(np.int64)),
        units=torch.arange(len(features)), classes=[str(name) for name in found.target_names],
        name="breast-cancer", source=package_label("scikit-learn"),
        sha256=hashlib.sha256(features.tobytes()).hexdigest(),
    )  # fmt: skip
