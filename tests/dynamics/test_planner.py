import itertools

import pytest
import torch
from torch import nn

from energylens.core.errors import ArtifactRefused, BadInput
from energylens.dynamics.planner import (
    CONTROL,
    EVENT,
    CheckpointKeeper,
    CheckpointPlan,
    load_checkpoint,
    plan_checkpoints,
)
from tests.common.compare import assert_close


def plan(steps, strength, generator, *, budget=60, num_steps=2000, half=10, **options):
    at = torch.tensor(steps, dtype=torch.long)
    return plan_checkpoints(
        at, (at - half).clamp(min=0), (at + half).clamp(max=num_steps), torch.tensor(strength),
        num_steps=num_steps, budget=budget, generator=generator, **options,
    )  # fmt: skip


def test_the_strongest_come_first_and_overlapping_ones_are_one(generator):
    found = plan([500, 515, 1200, 100], [2.0, 3.0, 9.0, 1.0], generator)
    events = [w for w in found.windows if w.kind == EVENT]
    assert [w.event for w in events] == [2, 1, 3]
    assert events[0].steps == (1170, 1200, 1230)
    assert found.left_out == (0,)


def test_controls_have_the_distances_of_their_event_and_are_quiet(generator):
    steps = [150, 420, 900, 1300, 1750]
    found = plan(steps, [5.0, 4, 3, 2, 1], generator)
    pairs = list(found.pairs())
    assert len(pairs) == 5 and not found.unmatched
    for event, control in pairs:
        assert (control.peak - control.pre, control.post - control.peak) == (30, 30)
        assert event.peak * 10 // 2001 == control.peak * 10 // 2001  # of the same tenth
        for at in steps:
            assert control.post < at - 30 or control.pre > at + 30
    spans = sorted((w.pre, w.post) for w in found.windows)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("budget", [6, 7, 11, 12, 25])
def test_the_budget_is_kept(budget, generator):
    found = plan(list(range(100, 1900, 150)), [1.0] * 12, generator, budget=budget)
    assert len(found.steps) <= budget
    assert found.steps == tuple(sorted(set(found.steps)))
    assert len(list(found.pairs())) >= budget // 6 - 1 or budget < 12


def test_events_at_the_ends_are_clipped_and_stay_inside(generator):
    found = plan([10, 1990], [1.0, 1.0], generator)
    assert min(found.steps) == 0 and max(found.steps) == 2000
    found = plan([0], [1.0], generator)
    assert found.windows == () and found.left_out == (0,)


def test_without_a_quiet_place_an_event_stays_unmatched(generator):
    found = plan([100], [1.0], generator, num_steps=200, half=60)
    assert found.unmatched == (0,) and len(found.windows) == 1


def test_there_may_be_no_event(generator):
    found = plan([], [], generator)
    assert found.steps == () and found.windows == ()


def test_the_same_seed_plans_the_same_and_a_plan_survives_its_text(generator):
    one = plan([500, 900], [1.0, 2.0], torch.Generator().manual_seed(4))
    again = plan([500, 900], [1.0, 2.0], torch.Generator().manual_seed(4))
    assert one == again == CheckpointPlan.from_json(one.to_json())
    assert any(w.kind == CONTROL for w in one.windows)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 1}', '{"schema": 2}'])
def test_a_foreign_plan_is_refused(text):
    with pytest.raises(ArtifactRefused, match="plan anew"):
        CheckpointPlan.from_json(text)


def test_bad_input_is_refused(generator):
    with pytest.raises(BadInput, match="takes 6 checkpoints, and the budget is 5"):
        plan([500], [1.0], generator, budget=5)
    with pytest.raises(BadInput, match="training steps, not numbers of samples"):
        at = torch.tensor([2500])
        plan_checkpoints(at, at, at, torch.ones(1), num_steps=2000, budget=9, generator=generator)


# ---- keeping them


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.normal = nn.BatchNorm1d(3)


def train(model, keeper, steps):
    for step in steps:
        with torch.no_grad():
            model.first.bias += 1
        keeper.after_step(step, loss=1.0)


def test_exactly_the_planned_steps_are_saved_as_they_were(tmp_path, generator):
    wanted = plan([50], [1.0], generator, num_steps=100, half=2)
    model = Tied()
    start = model.first.bias.detach().clone()
    keeper = CheckpointKeeper(model, wanted, tmp_path)
    assert keeper.missing() == wanted.steps
    train(model, keeper, range(1, 101))
    assert keeper.missing() == ()
    there = sorted(int(p.stem.split("_")[1]) for p in tmp_path.glob("*.safetensors"))
    assert tuple(there) == wanted.steps
    other = Tied()
    for step in wanted.steps:
        other.load_state_dict(load_checkpoint(tmp_path, step))
        assert_close(other.first.bias, start + step, rtol=1e-5)


def test_a_training_that_goes_on_keeps_what_is_missing_and_no_other(tmp_path, generator):
    wanted = plan([50], [1.0], generator, num_steps=100, half=2)
    model = Tied()
    train(model, CheckpointKeeper(model, wanted, tmp_path), range(1, wanted.steps[2] + 1))
    first = (tmp_path / f"step_{wanted.steps[0]:08d}.safetensors").stat().st_mtime_ns
    keeper = CheckpointKeeper(model, wanted, tmp_path)
    assert keeper.missing() == wanted.steps[3:]
    train(model, keeper, range(1, 101))
    assert keeper.missing() == ()
    assert (tmp_path / f"step_{wanted.steps[0]:08d}.safetensors").stat().st_mtime_ns == first


def test_another_plan_or_a_damaged_file_is_refused(tmp_path, generator):
    wanted = plan([50], [1.0], generator, num_steps=100, half=2)
    model = Tied()
    train(model, CheckpointKeeper(model, wanted, tmp_path), range(1, 101))
    with pytest.raises(BadInput, match="checkpoints of another plan"):
        CheckpointKeeper(model, plan([40], [1.0], generator, num_steps=100), tmp_path)
    with pytest.raises(
        BadInput, match=f"no checkpoint of step 3 in .*: there is {wanted.steps[0]}"
    ):
        load_checkpoint(tmp_path, 3)
    (tmp_path / f"step_{wanted.steps[0]:08d}.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactRefused, match="is damaged"):
        load_checkpoint(tmp_path, wanted.steps[0])
