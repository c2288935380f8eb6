import pytest
import torch

from energylens.activations.batch import Batch
from energylens.energy.energies.downstream import downstream_energy, downstream_gradients
from energylens.energy.intervention import Step, measure_effects
from tests.activations.models import SHAPES, subject, tokens
from tests.common.compare import assert_close

SITE = "blocks.1.resid_post"


def steps(count, size, generator):
    unit = torch.nn.functional.normalize
    draw = lambda *s: torch.randn(*s, generator=generator, dtype=torch.float64)
    return [
        Step(window=i % 3, positions=torch.tensor([2, 5]), change=size * draw(2),
             direction=unit(draw(32), dim=0))
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("rows", [2, 4, 8])
def test_batched_effects_equal_one_edit_at_a_time(family, rows):
    found, batch = subject(family), Batch.full(tokens(3, 9))
    with found.capture(SITE) as seen:
        base = found.forward(batch)
    wanted = steps(7, 1.0, torch.Generator().manual_seed(0))
    effects = measure_effects(found, SITE, batch, seen[SITE], wanted, rows=rows)
    for i, step in enumerate(wanted):

        def move(h, step=step):
            h = h.clone()
            h[step.window, step.positions] += step.change[:, None] * step.direction
            return h

        with found.edit({SITE: move}):
            logits = found.forward(batch)
        change = downstream_energy(logits, batch) - downstream_energy(base, batch)
        assert_close(effects.energy[i], change[step.window], rtol=1e-9, atol=1e-10)
        old, new = (x[step.window].log_softmax(-1)[2:] for x in (base, logits))
        kl = (old.exp() * (old - new)).sum(-1).mean()
        assert_close(effects.divergence[i], kl, rtol=1e-8, atol=1e-12)
        assert_close(effects.surprisal[i].sum(), effects.energy[i], rtol=1e-9)


def test_small_steps_do_what_the_gradient_predicts():
    found, batch = subject(), Batch.full(tokens(3, 9))
    states, gradients, _ = downstream_gradients(found, batch, [SITE])
    wanted = steps(6, 1e-5, torch.Generator().manual_seed(1))
    effects = measure_effects(found, SITE, batch, states[SITE], wanted)
    predicted = [
        (step.change * (gradients[SITE][step.window, step.positions] @ step.direction)).sum()
        for step in wanted
    ]
    assert_close(effects.energy, torch.stack(predicted), rtol=1e-3)


def test_nothing_changes_before_the_first_changed_position():
    found, batch = subject(), Batch.full(tokens(3, 9))
    with found.capture(SITE) as seen:
        found.forward(batch)
    effects = measure_effects(
        found, SITE, batch, seen[SITE], steps(3, 1.0, torch.Generator().manual_seed(2))
    )
    assert_close(effects.surprisal[:, :2], torch.zeros(3, 2))
