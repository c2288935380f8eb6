"""Do, then measure: change one feature at a site and run the rest of the network.

The state is moved along the feature's decoder row, h ← h + (a' − a)·d_f, so whatever the
dictionary fails to reconstruct is carried along unchanged. Only windows where the feature is
active are run, only above the site, and each window's own baseline once for all its variants.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.batch import Batch
from energylens.activations.subject import Subject
from energylens.activations.suffix import run_from
from energylens.core.ports import Progress, silence


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of one window: at these positions, the state moves by these amounts.

    Attributes:
        window: Which of the windows given.
        positions: Where the state is changed.
        change: By how much, in units of activation along `direction`: −a for an ablation.
        direction: The direction of the change, unit norm.
    """

    window: int
    positions: Int[Tensor, " place"]
    change: Float[Tensor, " place"]
    direction: Float[Tensor, " d_model"]


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What each step did, in nats.

    Attributes:
        energy: Change of the window's summed loss (downstream energy).
        surprisal: Change of the loss at each position; the columns sum to `energy`.
        divergence: KL from the unchanged to the changed output distribution, mean over positions
            from the first change on.
    """

    energy: Float[Tensor, " step"]
    surprisal: Float[Tensor, "step pos"]
    divergence: Float[Tensor, " step"]


@torch.no_grad()
def measure_effects(
    subject: Subject,
    site: str,
    batch: Batch,
    states: Float[Tensor, "batch pos d_model"],
    steps: Sequence[Step],
    *,
    rows: int = 8,
    progress: Progress = silence,
    label: str = "interventions",
) -> Effects:
    """Run every step above the site and compare with the same window unchanged.

    Args:
        batch: The windows that steps point into.
        states: Residual stream of those windows at the site, as captured.
        rows: Sequences in one forward pass; the baseline rides in the same pass as its variants,
            so that both meet the same arithmetic.

    Raises:
        BadInput: If the site is not a residual stream between blocks.
    """
    n_pos = batch.ids.shape[1]
    effects = Effects(
        energy=states.new_full((len(steps),), torch.nan),
        surprisal=states.new_full((len(steps), n_pos), torch.nan),
        divergence=states.new_full((len(steps),), torch.nan),
    )
    with progress.task(label, len(steps), "interventions") as advance:
        for window, members in _by_window(steps, rows - 1):
            here = torch.full((len(members) + 1,), window, device=states.device)
            changed = states[window].expand(len(here), -1, -1).clone()
            for row, member in enumerate(members, start=1):
                step = steps[member]
                moved = step.change[:, None] * step.direction
                changed[row].index_add_(0, step.positions, moved.to(changed.dtype))
            part = batch.take(here)
            logits = run_from(subject, site, changed, part)
            _compare(logits, part, steps, members, effects)
            advance(len(members))
    return effects


def _by_window(steps: Sequence[Step], most: int) -> list[tuple[int, list[int]]]:
    groups: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        groups.setdefault(step.window, []).append(number)
    return [
        (window, members[first : first + most])
        for window, members in groups.items()
        for first in range(0, len(members), most)
    ]


def _compare(
    logits: Tensor, part: Batch, steps: Sequence[Step], members: list[int], effects: Effects
) -> None:
    """Row 0 of `logits` is the baseline; the other rows are overwritten by their change."""
    log_z = torch.logsumexp(logits, -1)
    chosen = logits.gather(-1, part.next_ids[..., None])[..., 0]
    surprisal = (log_z - chosen) * part.has_next
    base = (logits[0] - log_z[0, :, None]).exp_()
    change = logits[1:].sub_(logits[0])
    for row, member in enumerate(members):
        moved = surprisal[row + 1] - surprisal[0]
        effects.surprisal[member] = moved
        effects.energy[member] = moved.double().sum()
        first = int(steps[member].positions.min())
        # KL(p‖q) = log Z_q − log Z_p − ⟨p, z_q − z_p⟩
        expected = torch.linalg.vecdot(base[first:], change[row, first:])
        divergence = log_z[row + 1, first:] - log_z[0, first:] - expected
        effects.divergence[member] = divergence.mean()
