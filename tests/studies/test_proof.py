"""What the proof of a site measures, against one state at a time."""

import torch

from energylens.activations.batch import Batch
from energylens.energy.energies.downstream import downstream_gradients, next_token_surprisal
from energylens.energy.energies.entropy import entropy
from energylens.energy.energies.free_energy import free_energy
from energylens.energy.energies.surprisal import surprisal
from energylens.energy.energies.tuned import Translator, tuned
from energylens.energy.intervention import Step
from energylens.studies.energy_lens import proof
from energylens.studies.energy_lens.held import Held
from energylens.studies.energy_lens.lens import LENS
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close

SITE = "blocks.1.resid_post"


def half_b(found) -> Held:
    ids = tokens(4, 9)
    batch = Batch.full(ids)
    states, gradients, loss = downstream_gradients(found, batch, [SITE])
    nothing = torch.zeros(4, 7, 2)
    return Held(
        ids=ids, document=torch.arange(4), starts=torch.zeros(4, dtype=torch.long),
        indices=nothing.long(), values=nothing, states=states[SITE], gradients=gradients[SITE],
        loss=loss,
    )  # fmt: skip


def test_lens_changes_are_those_of_one_step_at_a_time(monkeypatch):
    monkeypatch.setattr(proof, "STEPS_AT_ONCE", 3)
    found, generator = subject(), torch.Generator().manual_seed(0)
    here = half_b(found)
    steps = [
        Step(window=n % 3, positions=torch.tensor([2, 3 + n % 4]),
             change=torch.randn(2, generator=generator, dtype=torch.float64),
             direction=torch.nn.functional.normalize(
                 torch.randn(32, generator=generator, dtype=torch.float64), dim=0))
        for n in range(8)
    ]  # fmt: skip
    translator = Translator(
        A=torch.randn(32, 32, generator=generator, dtype=torch.float64) / 6,
        b=torch.randn(32, generator=generator, dtype=torch.float64),
    )
    changes = proof._lens_changes(found, translator, here, steps)
    for step, row in zip(steps, changes, strict=True):
        targets = here.ids[step.window, step.positions + 1]
        moved = step.change[:, None] * step.direction
        energies = {
            "surprisal": lambda h, targets=targets: surprisal(h, targets, found.lens),
            "free_energy": lambda h: free_energy(h, found.lens),
            "entropy": lambda h: entropy(h, found.lens),
            "tuned": lambda h, targets=targets: tuned(h, targets, found.lens, translator),
        }
        for number, name in enumerate(LENS):
            before = here.states[step.window, step.positions].clone().requires_grad_()
            energy = energies[name](before)
            (slope,) = torch.autograd.grad(energy.sum(), before)
            after = energies[name](before.detach() + moved)
            assert_close(row[number], (moved * slope).sum(), rtol=1e-8, atol=1e-10)
            assert_close(row[len(LENS) + number], (after - energy.detach()).sum(), rtol=1e-8,
                         atol=1e-10)  # fmt: skip


def test_the_loss_of_a_window_is_the_models_own():
    found = subject()
    here = half_b(found)
    assert_close(here.loss, next_token_surprisal(found.forward(here.batch), here.batch).detach(),
                 rtol=1e-12)  # fmt: skip
