"""A power law with a floor, fitted the slow way: every exponent of a grid, by Nelder and Mead."""

import itertools
import math

import numpy as np
from scipy.optimize import minimize


def fit(loss, sizes, *, exponents) -> tuple[list[float], float]:
    """Floor, amplitudes, exponents and the sum of squares of ln loss about the law.

    Args:
        loss: One number a point.
        sizes: One row a point, one column an axis.
        exponents: Those that are tried along each axis.
    """
    best: list[float] = []
    least = math.inf
    axes = len(sizes[0])
    for tried in itertools.product(exponents, repeat=axes):

        def squares(parameters, tried=tried):
            if min(parameters) < 0:
                return 1e9
            total = 0.0
            for y, row in zip(loss, sizes, strict=True):
                law = parameters[0]
                for amplitude, size, exponent in zip(parameters[1:], row, tried, strict=True):
                    law += amplitude * size**-exponent
                total += (math.log(law) - math.log(y)) ** 2 if law > 0 else 1e3
            return total

        start = np.full(1 + axes, float(min(loss)) / (1 + axes))
        end = minimize(squares, start, method="Nelder-Mead",
                       options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000})  # fmt: skip
        if end.fun < least:
            best, least = [*map(float, end.x), *tried], float(end.fun)
    return best, least
