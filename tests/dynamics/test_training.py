"""Training while somebody watches: what is learned, what is told, and going on after a kill."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from energylens.core.checkpoint import FolderCheckpoint
from energylens.core.errors import BadInput, EnergylensError
from energylens.dynamics.training import TrainingPlan, correct, train_classifier
from energylens.sources.suite_networks import ARCHITECTURES, network
from tests.common.compare import assert_close

PLAN = TrainingPlan(steps=24, batch=8, pause=4)
SHAPE = (1, 8, 8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(count: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(count) % 3
    inputs = torch.randn(count, *SHAPE, generator=seeded(5))
    return inputs + labels[:, None, None, None], labels


class Killed(Exception):
    pass


def trained(name: str, folder=None, *, kill_at: int = -1, plan: TrainingPlan = PLAN):
    """A trained network, and the losses that were told by their step."""
    drawn, told = seeded(), {}
    module = network(ARCHITECTURES[name], SHAPE, 3, drawn)

    def after_step(step, loss):
        if step == kill_at:
            raise Killed
        told[step] = float(loss)
        module.eval()  # as one does who measures

    train_classifier(
        module, *blobs(), plan, seeded(1), after_step, generators={"dropout": drawn},
        checkpoint=FolderCheckpoint(folder, every=8) if folder else None,
    )  # fmt: skip
    return module, told


def test_it_is_adam_on_cross_entropy_pass_by_pass():
    inputs, labels = blobs()
    mine, told = trained("mlp_narrow")
    theirs = network(ARCHITECTURES["mlp_narrow"], SHAPE, 3, seeded())
    generator, optimizer = seeded(1), torch.optim.Adam(theirs.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        order = torch.randperm(100, generator=generator)
        for rows in order[:96].split(8):
            loss = cross_entropy(theirs(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert_close(one, other, atol=1e-6)
    assert list(told) == list(range(1, 25))
    assert list(told.values()) == pytest.approx(losses, abs=1e-5)


@pytest.mark.parametrize("name", ["mlp_narrow", "cnn_shallow", "transformer_narrow"])
def test_a_killed_training_goes_on_to_the_bit(name, tmp_path):
    whole, told = trained(name)
    with pytest.raises(Killed):
        trained(name, tmp_path, kill_at=20)
    resumed, rest = trained(name, tmp_path)
    assert list(rest) == list(range(17, 25))  # from the checkpoint at 16 on
    assert rest[24] == told[24]
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_same_seed_is_the_same_training_and_it_learns():
    inputs, labels = blobs()
    plan = TrainingPlan(steps=100, batch=8)
    one, told = trained("cnn_shallow", plan=plan)
    same, again = trained("cnn_shallow", plan=plan)
    assert told == again
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert correct(one, inputs, labels).float().mean() > 0.9
    assert told[100] < 0.5 < told[1]


def test_the_largest_logit_is_the_answer():
    found = correct(nn.Identity(), torch.eye(4), torch.tensor([0, 1, 3, 3]), batch=3)
    assert found.tolist() == [True, True, False, True]


def test_what_cannot_be_trained_is_refused():
    inputs, labels = blobs(6)
    module = network(ARCHITECTURES["mlp_narrow"], SHAPE, 3, seeded())
    with pytest.raises(BadInput, match="batches of 8 were asked for and there are 6"):
        train_classifier(module, inputs, labels, PLAN, seeded(), lambda *_: None)
    inputs, labels = blobs()
    with pytest.raises(EnergylensError, match="no longer finite at step 4"):
        train_classifier(module, inputs * torch.nan, labels, PLAN, seeded(), lambda *_: None)
