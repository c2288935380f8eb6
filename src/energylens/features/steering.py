"""A penalty's weight that is steered so that as many features are active as were asked for.

With it, k means the same for every architecture, and dictionaries are compared at equal L0.
"""

import math
from collections.abc import Mapping

SMOOTH = 0.8
"""Weight of the past in the average of log L0."""
AT_ONCE, IN_TIME = 0.5, 10.0
"""How much of the error is answered at once, and how much over all steps together."""
FIRST = 0.02
MOST = 3.0
"""Errors of log L0 count no more than this: at the start nearly everything is active."""


class Steering:
    """log weight = sum of the errors so far + a share of the last, error = log(L0 / k).

    Args:
        k: Wanted mean of active features a row.
        steps: In all.
        fixed: A weight that stays as it is; then nothing is steered.
    """

    def __init__(self, *, k: int, steps: int, fixed: float | None = None) -> None:
        self._k, self._steps, self._fixed = k, steps, fixed
        self.total, self.error = math.log(FIRST), 0.0

    @property
    def weight(self) -> float:
        """Of the penalty at the next step."""
        if self._fixed is not None:
            return self._fixed
        return math.exp(self.total + AT_ONCE * self.error)

    def saw(self, l0: float) -> None:
        """A step was made with this many active features a row."""
        now = max(-MOST, min(MOST, math.log(max(l0, 1e-3) / self._k)))
        self.error = SMOOTH * self.error + (1 - SMOOTH) * now
        self.total += IN_TIME / self._steps * self.error

    def state(self) -> dict[str, float]:
        """What the next weight depends on."""
        return {"total": self.total, "error": self.error}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on as the one whose `state` this is."""
        self.total, self.error = state["total"], state["error"]
