"""Mirror runs to an MLflow tracking server: parameters, curves, results and clones.

A mirror reads the folder of a run and never changes it. It works for all runs (pages, command line, cluster), while they
run and afterwards. The tag `dcp.key` identifies a run in MLflow. Data that were mirrored before are not sent again.
"""

import json
import math
from types import ModuleType
from typing import Any

import pandas as pd

from dcp_core.runs import store
from dcp_core.runs.describe import name_of
from dcp_core.runs.folder import CLONE
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.store import RunView

EXPERIMENT = "model stealing"
KEY = "dcp.key"  # tag: key of the run
MIRRORED = "dcp.mirrored"  # tag: finished share and time of the last mirrored event
ENDED = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
BATCH = 1000  # largest number of metrics that MLflow takes in one request
PARTS = 10_000  # a metric's step is the finished share of the run's work in 1/10,000


class TrackingError(ValueError):
    """MLflow is missing, or refuses a request. The message says what to do."""


class Mirror:
    """A connection to an MLflow server.

    Args:
        uri: address of the server, or a folder; without it, MLflow's own settings (`MLFLOW_TRACKING_URI`).

    Raises:
        TrackingError: if the package is missing or the server cannot be reached.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.mlflow = _mlflow()
        try:
            self.client = self.mlflow.MlflowClient(uri)
            found = self.client.get_experiment_by_name(EXPERIMENT)
            self.experiment = found.experiment_id if found else self.client.create_experiment(EXPERIMENT)
        except self.mlflow.exceptions.MlflowException as error:
            raise TrackingError(f"MLflow at {uri or 'its default address'}: {error}") from error

    def update(self, view: RunView[RunSpec]) -> bool:
        """Send what is new of a run. Returns whether the run has ended, so that nothing more will come.

        Raises:
            TrackingError: if the server refuses it. The next call sends it again.
        """
        if view.spec is None:
            return True
        try:
            found = self._run_of(view.spec.key) or self._begin(view, view.spec)
            run = found.info.run_id
            self._send_events(run, _later(store.events(view.folder), found.data.tags.get(MIRRORED, "-1 0")))
            if view.state not in ENDED:
                self.client.update_run(run, "RUNNING")
            elif found.info.status != ENDED[view.state]:
                self._end(run, view)
        except self.mlflow.exceptions.MlflowException as error:
            raise TrackingError(f"run {view.key} was not mirrored: {error}") from error
        return view.state in ENDED

    def _run_of(self, key: str) -> Any:
        found = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'")
        return found[0] if found else None

    def _begin(self, view: RunView[RunSpec], spec: RunSpec) -> Any:
        run = self.client.create_run(self.experiment, tags={KEY: spec.key}, run_name=name_of(view))
        for name, value in parameters(spec).items():
            self.client.log_param(run.info.run_id, name, value)
        return run

    def _send_events(self, run: str, events: pd.DataFrame) -> None:
        metric = self.mlflow.entities.Metric
        points = [metric(*point) for point in metrics(events)]
        for start in range(0, len(points), BATCH):
            self.client.log_batch(run, points[start : start + BATCH])
        if len(events):
            last = events.iloc[-1]
            self.client.set_tag(run, MIRRORED, f"{last['fraction']} {last['time']}")

    def _end(self, run: str, view: RunView[RunSpec]) -> None:
        if view.result is not None:
            row = view.result["rows"][0]
            self.client.log_dict(run, view.result, "result.json")
            for name, value in row.items():
                if isinstance(value, int | float) and name != "seed" and math.isfinite(value):
                    self.client.log_metric(run, f"result.{name}", value)
        if (view.folder / CLONE).exists():
            self.client.log_artifact(run, str(view.folder / CLONE))
        self.client.set_terminated(run, ENDED[view.state])


def parameters(spec: RunSpec) -> dict[str, Any]:
    """All parameters of a run by flat names: `attack.epochs`, `defense.beta`."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(spec.to_json()).items():
        if isinstance(value, dict):
            flat |= {f"{name.removesuffix('_parameters')}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def metrics(events: pd.DataFrame) -> list[tuple[str, float, int, int]]:
    """The numbers of events as MLflow metrics: name, value, time (milliseconds since 1970) and step (0 to `PARTS`).

    Args:
        events: events of `store.events`.
    """
    points = []
    for event in events.to_dict("records"):
        losses = {f"loss.{name}": value for name, value in event["losses"].items()}
        named = {
            "queries": event["queries"],
            "clone_error": event["error"],
            "fidelity": event["fidelity"],
            **losses,
        }
        at = (int(1000 * event["time"]), round(PARTS * event["fraction"]))
        points += [(name, float(value), *at) for name, value in named.items() if math.isfinite(value)]
    return points


def _later(events: pd.DataFrame, mirrored: str) -> pd.DataFrame:
    """The events after the last mirrored one. Work that was replayed after a resume has a smaller share and is left out."""
    share, time = map(float, mirrored.split())
    fractions = events["fraction"]
    return events[(fractions > share) | ((fractions == share) & (events["time"] > time))]


def _mlflow() -> ModuleType:
    try:
        import mlflow
        import mlflow.entities
        import mlflow.exceptions
    except ImportError:
        raise TrackingError("MLflow is not installed: pip install mlflow-skinny") from None
    return mlflow
