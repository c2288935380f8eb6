"""A tracker sees what a plain pass shows, leaves no trace, and survives its process."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from energylens.core.errors import (
    ArtifactRefused,
    BadInput,
    InsufficientData,
    SiteNotAvailable,
    UnknownName,
)
from energylens.dynamics.dimension import dimensions
from energylens.dynamics.look import TrackOptions
from energylens.dynamics.record import read_history
from energylens.dynamics.tracker import Tracker
from tests.common.compare import assert_close
from tests.dynamics.networks import Encoder, cnn, mlp, samples, train

ALL = TrackOptions(most_rows=None)


def test_values_are_those_of_a_plain_pass_in_evaluation_mode():
    model = mlp()
    tracker = Tracker(model, samples(), every=4)
    train(model, tracker)
    history = tracker.history()
    assert history.steps.tolist() == [0, 4, 8, 12] and history.sites == ("0", "3", "5")
    assert history.ceiling.tolist() == [16, 8, 3]
    model.eval()
    for values, first in ((history.values, 0), (history.again, 1)):
        expected = dimensions(model[:4](samples()[first::2]).detach(), centred=True)
        for name, series in values.items():
            assert_close(series[1, -1], expected[name])
    told = history.training
    assert told["loss"][1:].isfinite().all() and told["loss"][0].isnan()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert_close(told["weight_norm"][-1], weights.norm().item(), rtol=1e-5)
    assert_close(told["update_norm"][-1], 0.1 * told["grad_norm"][-1].item(), rtol=1e-4)


@pytest.mark.parametrize("make", [mlp, cnn, Encoder])
def test_a_training_with_a_tracker_ends_in_the_same_weights_as_one_without(make):
    alone, watched = make(), make()
    torch.manual_seed(7)
    train(alone)
    torch.manual_seed(7)
    train(watched, Tracker(watched, samples(), every=1))
    for (name, ours), (_, theirs) in zip(
        watched.state_dict().items(), alone.state_dict().items(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert watched.training and not any(m._forward_hooks for m in watched.modules())


def test_every_module_keeps_its_own_mode_and_buffers_also_when_the_pass_fails():
    model = cnn()
    model[2].eval()

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.net, self.fails = model, False

        def forward(self, x):
            self.calls += 1
            if self.fails:
                raise RuntimeError("no")
            return self.net(x)

    counts = Counts()
    tracker = Tracker(counts, samples())
    tracker.look(1)
    counts.fails = True
    with pytest.raises(RuntimeError, match="no"):
        tracker.look(2)
    assert counts.calls == 0 and counts.training and model[1].training and not model[2].training
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_is_measured_and_its_projection_is_it():
    model = Encoder()
    tracker = Tracker(model, samples(), every=1)
    assert "layers.layers.0.self_attn" in tracker.sites
    assert tracker.sites.index("embed") == 0 and tracker.sites[-1] == "head"
    assert tracker.sites.index("layers.layers.0") > tracker.sites.index("layers.layers.0.linear2")
    named = Tracker(model, samples(), ["layers.layers.*.self_attn.out_proj"], options=ALL)
    named.look(1)
    seen = []
    inner = model.layers.layers[0].self_attn
    handle = inner.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    with torch.no_grad():
        model.eval()(samples()[0::2])
    handle.remove()
    expected = dimensions(seen[0].flatten(0, 1), centred=True)["stable_rank"]
    assert_close(named.history().values["stable_rank"][0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(("pooled", "rows"), [(False, 80), (True, 20)])
def test_maps_become_places_by_channels_or_are_pooled(pooled, rows):
    model = cnn().eval()
    options = TrackOptions(pooled=pooled, most_rows=None, again=True, centred=False)
    tracker = Tracker(model, samples(), ["1"], options=options)
    tracker.look(0)
    made = model[:2](samples()[0::2]).detach()
    flat = made.mean((2, 3)) if pooled else made.movedim(1, -1).flatten(0, -2)
    assert flat.shape == (rows, 6)
    found = tracker.history().values["entropy_rank"][0, 0]
    assert_close(found, dimensions(flat, centred=False)["entropy_rank"], rtol=1e-6)


def test_rows_beyond_the_most_are_always_the_same_ones():
    model = cnn()
    options = TrackOptions(most_rows=10)
    one, other = (Tracker(model, samples(), ["1"], options=options) for _ in range(2))
    one.look(1)
    torch.rand(5)
    other.look(1)
    assert one.history().ceiling.tolist() == [6]
    for name, series in one.history().values.items():
        assert torch.equal(series, other.history().values[name])


def test_tuples_mappings_padding_and_ports():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.LSTM(3, 5, batch_first=True)

        def forward(self, x, attention_mask=None, scale=1.0):
            return {"state": self.inner(scale * x)[0]}

    torch.manual_seed(0)
    model, x = Named(), torch.randn(8, 4, 3)
    mask = torch.ones(8, 4, dtype=torch.int64)
    mask[:, 2:] = 0
    whole = Tracker(model, (x, None, 2.0), options=ALL)
    part = Tracker(model, {"x": x, "attention_mask": mask, "scale": 2.0},
                   ["inner", "inner:in"], options=ALL)  # fmt: skip
    whole.look(0), part.look(0)
    assert whole.sites == ("inner",) and part.sites == ("inner:in", "inner")
    made = model.inner(2 * x[0::2])[0].detach()
    for tracker, rows in ((whole, made.flatten(0, 1)), (part, made[:, :2].flatten(0, 1))):
        expected = dimensions(rows, centred=True)["stable_rank"]
        assert_close(tracker.history().values["stable_rank"][-1, 0], expected, rtol=1e-5)


def test_what_cannot_be_looked_at_is_said():
    model = mlp()
    with pytest.raises(InsufficientData, match="3 samples: two halves need 2 each, so give 4"):
        Tracker(model, samples(3))
    with pytest.raises(InsufficientData, match="has 1 samples: give 2 or more"):
        Tracker(model, samples(1), options=TrackOptions(again=False))
    with pytest.raises(BadInput, match="without a tensor of samples"):
        Tracker(model, "images")
    with pytest.raises(BadInput, match="every 0 steps"):
        Tracker(model, samples(), every=0)
    encoder = Encoder()
    with pytest.raises(UnknownName, match=r"did you mean 'layers.layers.0.linear1'"):
        Tracker(encoder, samples(), ["layers.layers.0.linaer1"])
    encoder.unused = nn.Linear(3, 3)
    with pytest.raises(SiteNotAvailable, match="unused never fired"):
        Tracker(encoder, samples(), ["head", "unused"])
    assert "unused" not in Tracker(encoder, samples()).sites
    tracker = Tracker(model, samples(), every=2)
    with tracker:
        tracker.after_step(1)
        with pytest.raises(BadInput, match="step 1 came after step 1"):
            tracker.after_step(1)
    with pytest.raises(BadInput, match="give the updates done"):
        tracker.after_step(0)


def test_numbers_that_are_not_finite_are_nan_and_counted():
    model = mlp()
    tracker = Tracker(model, samples(), every=1)
    with tracker:
        tracker.after_step(1, loss=torch.tensor(torch.nan))
        with torch.no_grad():
            model[3].weight[0, 0] = torch.inf
        tracker.after_step(2, loss=float("inf"))
        with torch.no_grad():
            model[3].weight.zero_()
        tracker.after_step(3, loss=1.0)
    history = tracker.history()
    assert history.values["stable_rank"].isnan().tolist()[1] == [False, False, True, True]
    assert history.values["stable_rank"][0].isfinite().all()
    assert tracker.undefined() == {"3": 2, "5": 2, "loss": 2}


# ---- folders


def test_a_resumed_training_goes_on_and_nothing_is_doubled(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "resumed"
    model = mlp()
    torch.manual_seed(3)
    train(model, Tracker(model, samples(), every=2, folder=whole))
    model = mlp()
    torch.manual_seed(3)
    train(model, Tracker(model, samples(), every=2, folder=folder), last=6)
    kept, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    train(model, Tracker(model, samples(), every=2, folder=folder), first=7, last=9)
    with (folder / "looks.jsonl").open("a") as file:  # the process dies while it writes
        file.write('{"step": 10, "train')
    model.load_state_dict(kept)
    torch.set_rng_state(state)
    tracker = Tracker(model, samples(), every=2, folder=folder)
    train(model, tracker, first=7)
    expected, found = read_history(whole), read_history(folder)
    assert found.steps.tolist() == expected.steps.tolist() == [0, 2, 4, 6, 8, 10, 12]
    for name in expected.values:
        assert_close(found.values[name], expected.values[name], rtol=0, atol=0)
        assert_close(found.again[name], tracker.history().again[name], rtol=0, atol=0)
    for name, series in expected.training.items():
        assert_close(found.training[name], series)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with Tracker(mlp(), samples(), folder=tmp_path):
        pass
    for other in (Tracker(mlp(), samples(seed=5), folder=tmp_path),
                  Tracker(mlp(), samples(), ["0"], folder=tmp_path)):  # fmt: skip
        with pytest.raises(ArtifactRefused, match="was written for another (probe|sites)"):
            other.open()
    with pytest.raises(ArtifactRefused, match="no folder of a tracker"):
        read_history(tmp_path / "elsewhere")
    tracker = Tracker(mlp(), samples(), folder=tmp_path)
    with pytest.raises(BadInput, match="enter it first"):
        tracker.look(1)


def test_two_processes_on_one_folder_one_refuses(tmp_path):
    code = (
        "import sys; from tests.dynamics.networks import mlp, samples\n"
        "from energylens.dynamics.tracker import Tracker\n"
        "with Tracker(mlp(), samples(), folder=sys.argv[1]): pass\n"
    )
    with Tracker(mlp(), samples(), folder=tmp_path):
        told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True,
                              text=True, cwd=Path(__file__).parents[2])  # fmt: skip
    assert told.returncode == 1 and f"is in use by process {os.getpid()}" in told.stderr


def test_steps_can_be_named_and_a_training_can_start_anywhere():
    model = mlp()
    options = TrackOptions(update_norm=False, again=False)
    tracker = Tracker(model, samples(), every=(3, 4, 9), start=3, options=options)
    train(model, tracker, first=4, last=10)
    history = tracker.history()
    assert history.steps.tolist() == [3, 4, 9] and history.again == {}
    assert history.training["update_norm"].isnan().all()
    later = Tracker(model, samples(), every=5)
    train(model, later, first=8, last=11)
    assert later.history().steps.tolist() == [10], (
        "what it was at step 7 is not of an even interval"
    )


def test_what_compiles_or_spreads_a_network_is_looked_through():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.compile(mlp(), backend="eager")

        def forward(self, x):
            return self.inner(x)

    for model, prefix in (
        (Outer(), "inner._orig_mod."), (torch.compile(mlp(), backend="eager"), ""),
        (nn.DataParallel(mlp()), ""),
    ):  # fmt: skip
        model(samples())  # compiled code is there before the first look
        tracker = Tracker(model, samples(), every=2)
        train(model, tracker, last=2)
        assert tracker.sites == tuple(f"{prefix}{at}" for at in (0, 3, 5))
        assert tracker.history().values["stable_rank"].isfinite().all()
