"""The energies that are read off a state where it is: through the raw lens and the tuned one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.activations.subject import Subject
from energylens.energy.descent import Slope
from energylens.energy.energies.tuned import Translator
from energylens.energy.lens_gradients import LENS_ENERGIES, LensEnergies, lens_energies, lens_values

RAW, TUNED = LENS_ENERGIES, "tuned"
LENS = (*RAW, TUNED)


def read_energies(
    subject: Subject,
    translator: Translator | None,
    rows: Float[Tensor, "sample d_model"],
    next_ids: Int[Tensor, " sample"],
    names: Sequence[str],
) -> LensEnergies:
    """Some of the lens energies of each row, with gradients by the row itself."""
    norm, unembed = subject.final_norm, subject.unembed
    raw = [name for name in names if name in RAW]
    found = lens_energies(rows, next_ids, norm, unembed, names=raw)
    if TUNED not in names:
        return found
    assert translator is not None
    through = lens_energies(translator(rows), next_ids, norm, unembed, names=("surprisal",))
    return LensEnergies(
        value={**found.value, TUNED: through.value["surprisal"]},
        gradient={**found.gradient, TUNED: translator.pull(through.gradient["surprisal"])},
    )


def read_values(
    subject: Subject,
    translator: Translator | None,
    rows: Float[Tensor, "sample d_model"],
    next_ids: Int[Tensor, " sample"],
    names: Sequence[str],
) -> dict[str, Float[Tensor, " sample"]]:
    """The same without gradients."""
    norm, unembed = subject.final_norm, subject.unembed
    raw = [name for name in names if name in RAW]
    found = lens_values(rows, next_ids, norm, unembed, names=raw)
    if TUNED in names:
        assert translator is not None
        through = lens_values(translator(rows), next_ids, norm, unembed, names=("surprisal",))
        found[TUNED] = through["surprisal"]
    return found


def tuned_entropy(subject: Subject, translator: Translator) -> Slope:
    """Entropy of the tuned lens at each state, and its gradient by the state."""

    def slope(states: Tensor) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros(len(states), dtype=torch.long, device=states.device)
        found = lens_energies(translator(states), nothing, subject.final_norm, subject.unembed,
                              names=("entropy",))  # fmt: skip
        return found.value["entropy"], translator.pull(found.gradient["entropy"])

    return slope


@torch.no_grad()
def tuned_distribution(
    subject: Subject, translator: Translator, states: Float[Tensor, "sample d_model"]
) -> Float[Tensor, "sample vocab"]:
    """What the tuned lens expects next, as probabilities."""
    return subject.lens(translator(states)).softmax(-1)
