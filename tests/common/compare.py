"""The one way tests compare numbers: it asserts, so a dropped comparison cannot pass."""

from typing import Any

import numpy as np
import torch


def assert_close(actual: Any, expected: Any, *, rtol: float = 1e-6, atol: float = 1e-9) -> None:
    """Equal within tolerance, same shape, nan only where nan is expected."""
    a, b = (_array(x) for x in (actual, expected))
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
    assert a.shape == b.shape, f"shape {a.shape} is not {b.shape}"


def _array(x: Any) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    return np.asarray(x)
