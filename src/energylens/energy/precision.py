"""Whether forward and backward passes may run in bfloat16: where it is faster and forces agree."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.core.errors import BadInput
from energylens.core.timing import bf16_speedup, fastest_seconds
from energylens.energy.energies.downstream import downstream_gradients

FULL, HALF = "float32", "bfloat16"
# A force with independent noise on it loses of each correlation the share that it correlates less
# with itself: at .995 an EFAS of .100 is told as .0995, a tenth of its interval and less.
LEAST_CORRELATION = 0.995
# Nats per token, and of the time; what changes less, or saves less, is not worth the doubt.
MOST_LOSS_CHANGE, LEAST_SPEEDUP = 0.01, 1.2
FEATURES = 256


@dataclass(frozen=True, kw_only=True)
class Precision:
    """What the passes run in, and what was seen when it was chosen.

    Attributes:
        name: `float32` or `bfloat16` (by autocast: states and gradients stay float32).
        reason: In words.
        speedup: Time of float32 over that of bfloat16; nan where no pass was timed.
        force_correlation: Of the worst site, over places and decoder rows; nan where not tried.
        loss_change: |Difference| of the mean loss, nats per token; nan where not tried.
    """

    name: str
    reason: str
    speedup: float = float("nan")
    force_correlation: float = float("nan")
    loss_change: float = float("nan")

    def passes(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which passes run so."""
        if self.name == FULL:
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)


EXACT = Precision(name=FULL, reason="float32 was asked for")


def choose_precision(
    subject: Subject,
    batch: Batch,
    directions: Mapping[str, Float[Tensor, "feature d_model"]],
    wanted: str = "auto",
) -> Precision:
    """Run one batch both ways and compare forces, losses and times.

    Args:
        directions: Decoder rows by site, whose forces are compared.
        wanted: `auto`: bfloat16 where it is faster and agrees; or one of the two.

    Raises:
        BadInput: If bfloat16 is wanted and does not agree with float32 on this model.
    """
    if wanted == FULL:
        return EXACT
    if wanted == "auto" and (gain := bf16_speedup(subject.device)) < LEAST_SPEEDUP:
        reason = f"a product in bfloat16 is here {gain:.2g} times as fast as one in float32"
        return Precision(name=FULL, reason=reason)
    half = Precision(name=HALF, reason="").passes(subject.device)

    def forces() -> tuple[dict[str, Tensor], Tensor]:
        _, gradients, surprisal = downstream_gradients(subject, batch, list(directions))
        return {
            site: gradients[site][:, 1:].flatten(0, 1).double() @ rows[:FEATURES].double().T
            for site, rows in directions.items()
        }, surprisal[:, :-1].double()

    def rough_forces() -> tuple[dict[str, Tensor], Tensor]:
        with half:
            return forces()

    full_seconds, rough_seconds = fastest_seconds([forces, rough_forces], subject.device)
    (exact, loss), (rough, rough_loss) = forces(), rough_forces()
    return judged(
        wanted,
        speedup=full_seconds / rough_seconds,
        force_correlation=min(_correlation(exact[site], rough[site]) for site in directions),
        loss_change=float((loss - rough_loss).mean().abs()),
    )


def judged(
    wanted: str, *, speedup: float, force_correlation: float, loss_change: float
) -> Precision:
    """The decision, from what was measured.

    Raises:
        BadInput: As `choose_precision`.
    """
    agrees = force_correlation >= LEAST_CORRELATION and loss_change <= MOST_LOSS_CHANGE
    seen = (
        f"forces in bfloat16 correlate {force_correlation:.4f} with those in float32 at the worst"
        f" site and mean losses differ by {loss_change:.2g} nats ({LEAST_CORRELATION} and"
        f" {MOST_LOSS_CHANGE} are asked for), {speedup:.2g} times as fast"
    )
    if wanted == HALF and not agrees:
        raise BadInput(f"bfloat16 was asked for and does not do: {seen}; use --precision float32")
    fast = wanted == HALF or speedup >= LEAST_SPEEDUP
    return Precision(
        name=HALF if agrees and fast else FULL, reason=seen, speedup=speedup,
        force_correlation=force_correlation, loss_change=loss_change,
    )  # fmt: skip


def _correlation(a: Tensor, b: Tensor) -> float:
    """Over places, pooled over directions so that those of large forces weigh more."""
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
