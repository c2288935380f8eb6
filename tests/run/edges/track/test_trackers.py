"""The trackers themselves, each where its package is installed."""

import importlib.util

import pytest

from energylens.run.track import TRACKERS, tracker_named


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_takes_what_is_logged(name, tmp_path, monkeypatch):
    if importlib.util.find_spec(name) is None:  # not imported before the variables are set
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlflow'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run_dir, told = tmp_path / "run", []
    (run_dir / "live").mkdir(parents=True)
    tracker = tracker_named(name, run_dir, {"k": 32, "site": ("a",)}, told.append)
    for step in range(1, 4):
        tracker.log(step, {"topk.loss": 1 / step})
    tracker.close(seconds=60)
    assert told == []
    assert any(path.is_file() and path.stat().st_size for path in tmp_path.rglob("*"))
