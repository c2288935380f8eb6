"""End to end: the step is the gradient of the model's own loss, and it makes that loss small."""

from dataclasses import replace

import pytest
import torch

from energylens.activations.batch import Batch
from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput
from energylens.features.end_to_end import Seat, divergence, slope_of, train_end_to_end
from energylens.features.step import reconstruct_batch, step
from energylens.features.training import TrainOptions
from tests.activations.models import subject, tokens
from tests.common.compare import assert_close
from tests.features.planted import random_weights, topk_dictionary

SITE = "blocks.0.resid_post"
OPTIONS = TrainOptions(width=48, k=4, aux_k=8, dead_after_tokens=400, lr=3e-3)


@pytest.fixture
def model():
    return subject("llama", dtype=torch.float32)


def passes_of(count=6):
    some = [Batch.full(tokens(8, 24, seed=seed)) for seed in range(count)]
    return lambda: iter(some)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "standard"])
def test_the_step_is_the_gradient_of_the_models_loss(generator, architecture):
    model = subject("llama")
    batch = Batch.full(tokens(4, 16))
    with torch.no_grad(), model.capture(SITE) as seen:
        clean = model.forward(batch)
    states, places = seen[SITE], batch.scored
    d = states.shape[-1]
    dictionary = replace(
        topk_dictionary(random_weights(generator, width=24, d=d), 3), architecture=architecture
    )
    rows = states[places]
    made = reconstruct_batch(dictionary, rows)
    whole = states.clone()
    whole[places] = made
    loss, slope = slope_of(Seat(subject=model, site=SITE), batch, whole, clean)
    n = len(rows)
    found = step(dictionary, rows, 1.0, target=made - slope[places] * n / 2)

    weights = {name: w.detach().clone().requires_grad_() for name, w in dictionary.weights.items()}
    pre = (rows - weights["b_dec"]) @ weights["W_enc"].T + weights["b_enc"]
    kept = torch.zeros_like(pre)
    if architecture == "standard":
        kept = (pre > 0).double()
    elif architecture == "topk":
        kept = kept.scatter(1, pre.topk(3, dim=1).indices, 1.0)
    else:
        kept.view(-1)[pre.relu().flatten().topk(3 * n).indices] = 1.0
    rebuilt = (pre.relu() * kept) @ weights["W_dec"] + weights["b_dec"]
    assert_close(made, rebuilt)
    put = states.clone()
    put[places] = rebuilt
    with model.edit({SITE: lambda value: put}):
        changed = model.forward(batch)
    expected = divergence(changed, clean, batch).sum() / batch.has_next.sum()
    expected.backward()
    assert_close(loss, expected, rtol=1e-6)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        assert_close(found.gradients[name], weights[name].grad, rtol=1e-5, atol=1e-10)


def test_the_divergence_falls_and_a_killed_training_goes_on_to_the_bit(model, generator, tmp_path):
    passes = passes_of()

    def run(**more):
        seeded = torch.Generator().manual_seed(1)
        return train_end_to_end(Seat(subject=model, site=SITE), passes, OPTIONS, 40, seeded, **more)

    whole = run()
    loss = whole.record().loss
    assert sum(loss[-6:]) < 0.75 * sum(loss[:6]) and len(loss) == 40

    class Killed(BaseException):
        pass

    def die(label, number, trace):
        if number == 23:
            raise Killed

    with pytest.raises(Killed):
        run(checkpoint=FolderCheckpoint(tmp_path, every=5), watch=die)
    again = run(checkpoint=FolderCheckpoint(tmp_path, every=5))
    for name, weight in whole.finish().weights.items():
        assert torch.equal(weight, again.finish().weights[name]), name
    assert again.record().loss == loss


def test_what_cannot_be_trained_end_to_end_is_refused(model, generator):
    for name in ("gated", "matryoshka_batchtopk"):
        with pytest.raises(
            BadInput, match="has a loss of its own and cannot be trained end to end"
        ):
            train_end_to_end(Seat(subject=model, site=SITE), passes_of(),
                             replace(OPTIONS, architecture=name), 3, generator)  # fmt: skip
