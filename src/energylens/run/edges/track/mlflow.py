"""MLflow, at the server that MLFLOW_TRACKING_URI names, or in MLflow's own default place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energylens.core.ports import Tracker

_LONGEST = 500  # characters of a parameter


class _Run:
    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._id = client, run_id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


def start(run_dir: Path, options: Mapping[str, Any]) -> Tracker:
    """Open a run in the experiment `energylens`."""
    from mlflow import MlflowClient

    client = MlflowClient()
    there = client.get_experiment_by_name("energylens")
    experiment = there.experiment_id if there else client.create_experiment("energylens")
    run = client.create_run(experiment, run_name=run_dir.resolve().name)
    for name, value in options.items():
        client.log_param(run.info.run_id, name, str(value)[:_LONGEST])
    return _Run(client, run.info.run_id)
