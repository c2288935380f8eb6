"""Networks trained and watched: what is kept, going on after a kill, and what is refused."""

import pyarrow.parquet as pq
import pytest

from energylens.core.errors import BadInput, UnknownName
from energylens.core.ports import silence
from energylens.dynamics.tables import histories_of
from energylens.dynamics.tracker import Tracker
from energylens.run.edges.store.folder import Folder
from energylens.run.execute import execute
from energylens.studies.track_training import TrackTraining
from energylens.studies.track_training.work import run
from tests.common.run_directory import columns_there, described_tables

SMALL = TrackTraining(
    dataset="breast-cancer", architectures=("mlp_narrow", "mlp_shallow_2"), steps=30, interval=3,
    batch=16, probe=40, checkpoint_seconds=0, threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "done"
    return execute("track-training", SMALL, out)


def tables(out, *names):
    return [pq.read_table(out / "tables" / f"{name}.parquet") for name in names]


def test_it_leaves_what_it_promises(done):
    there = columns_there(done.path)
    assert there == {name: described_tables()[name] for name in there}
    runs, measurements, training = tables(done.path, "runs", "measurements", "training")
    assert runs["run"].to_pylist() == [
        "mlp_narrow_breast-cancer_0",
        "mlp_shallow_2_breast-cancer_0",
    ]
    assert runs["depth"].to_pylist() == [4, 2] and runs["width"].to_pylist() == [32, 128]
    assert runs["num_steps"].to_pylist() == [30, 30]
    histories = histories_of(measurements, training)
    for history in histories.values():
        assert history.steps.tolist() == list(range(0, 31, 3))  # training steps, from none on
        assert history.values["stable_rank"].isfinite().all() and history.again
        assert history.training["loss"][1:].isfinite().all()
    assert histories["mlp_shallow_2_breast-cancer_0"].sites == ("linear1", "linear2", "head")
    assert not (done.path / "scratch").exists() and not (done.path / "work").exists()


def test_it_says_what_came_out(done):
    figure = done.summary.figures["accuracy.mlp_shallow_2"]
    assert figure.low <= figure.value <= figure.high and figure.null_mean == pytest.approx(
        0.6, abs=0.1
    )
    assert (
        "is right in" in done.summary.finding
        and "the stable rank at linear" in done.summary.finding
    )
    assert done.summary.grade == "quick"
    assert done.summary.controls["learned"].expected == 2


def test_a_killed_run_goes_on_and_ends_the_same(done, tmp_path, monkeypatch):
    after_step, told = Tracker.after_step, []

    def dies(self, step, **kwargs):
        told.append(step)
        if len(told) == 40:  # in the second network, which has a checkpoint
            raise RuntimeError("killed")
        after_step(self, step, **kwargs)

    monkeypatch.setattr(Tracker, "after_step", dies)
    with pytest.raises(RuntimeError, match="killed"):
        execute("track-training", SMALL, tmp_path / "out")
    again = execute("track-training", SMALL, tmp_path / "out")
    assert told[40:] == list(range(10, 31))  # from the checkpoint at 9; the first network is kept
    assert again.summary.figures == done.summary.figures
    for name in ("measurements", "training"):
        (mine,), (theirs,) = tables(tmp_path / "out", name), tables(done.path, name)
        for column in mine.column_names:
            one, other = mine[column].to_numpy(), theirs[column].to_numpy()
            assert ((one == other) | ((one != one) & (other != other))).all(), column


def test_another_seed_is_another_training(done, tmp_path):
    store = Folder(tmp_path / "other")
    options = TrackTraining(**{**vars(SMALL), "seed": 1, "architectures": ("mlp_narrow",)})
    run(options, store=store, progress=silence, say=lambda line: None)
    mine, theirs = store.table("training"), tables(done.path, "training")[0]
    assert mine["loss"][1].as_py() != theirs["loss"][1].as_py()


def test_looking_changes_nothing(tmp_path, monkeypatch):
    """The same weights come out whether a network is looked at often or seldom."""
    losses = []
    for interval in (1, 8):
        options = TrackTraining(
            **{**vars(SMALL), "interval": interval, "architectures": ("transformer_narrow",),
               "steps": 8}
        )  # fmt: skip
        store = Folder(tmp_path / str(interval))
        run(options, store=store, progress=silence, say=lambda line: None)
        losses.append(store.table("training").to_pylist()[-1]["weight_norm"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dataset": "mnist-10"}, UnknownName, "no data set named 'mnist-10'"),
        ({"architectures": ("mlp_narow",)}, UnknownName, "no architecture named 'mlp_narow'"),
        ({"architectures": ("mlp_narrow",) * 2}, BadInput, "has mlp_narrow twice"),
        ({"architectures": ("cnn_deep",)}, BadInput, "convolutional networks read images"),
        ({"batch": 5_000}, BadInput, "batches of 5000 were asked for and there are 455"),
    ],
)
def test_bad_input_is_one_sentence(change, error, words, tmp_path):
    with pytest.raises(error, match=words):
        execute("track-training", TrackTraining(**{**vars(SMALL), **change}), tmp_path / "out")
