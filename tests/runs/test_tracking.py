"""Runs are mirrored to MLflow once, also while they run and after an interruption."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from worlds import small_world

from dcp_core.cli import main
from dcp_core.runs import store
from dcp_core.runs.folder import folder_of
from dcp_core.runs.journal import record
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.tracking import EXPERIMENT, Mirror, parameters

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def spec(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return RunSpec("small", "knockoff", {"epochs": 2}, budget=40, pool=small_world(tmp_path))


def mirrored(uri: str):
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client, client.search_runs([experiment.experiment_id])


def test_a_finished_run_has_its_parameters_curve_row_and_clone_and_is_sent_once(spec: RunSpec, tmp_path: Path):
    folder, uri = folder_of(spec), str(tmp_path / "mlruns")
    for _ in record(spec, folder, device="cpu"):
        pass
    for _ in range(2):
        assert Mirror(uri).update(store.view(folder))
    client, runs = mirrored(uri)
    assert len(runs) == 1
    run = runs[0]
    assert run.info.status == "FINISHED"
    assert run.data.params["attack.epochs"] == "2"
    events = store.events(folder)
    scored = events.dropna(subset=["error"])
    history = client.get_metric_history(run.info.run_id, "clone_error")
    assert [point.value for point in history] == scored["error"].tolist()
    assert [point.step for point in history] == [round(10_000 * share) for share in scored["fraction"]]
    assert len(client.get_metric_history(run.info.run_id, "queries")) == len(events)
    result = json.loads((folder / "result.json").read_text())["rows"][0]
    assert run.data.metrics["result.adversary_error"] == result["adversary_error"]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"result.json", "clone.safetensors"}


def test_an_interrupted_run_is_continued_in_the_same_mirrored_run(spec: RunSpec, tmp_path: Path):
    folder, uri = folder_of(spec), str(tmp_path / "mlruns")
    events = record(spec, folder, device="cpu", save_every=0)
    next(event for event in events if event.phase == "training")
    assert not Mirror(uri).update(store.view(folder))
    events.close()
    assert Mirror(uri).update(store.view(folder))
    assert mirrored(uri)[1][0].info.status == "KILLED"
    for _ in record(spec, folder, device="cpu"):
        pass
    Mirror(uri).update(store.view(folder))
    client, runs = mirrored(uri)
    assert [run.info.status for run in runs] == ["FINISHED"]
    steps = [point.step for point in client.get_metric_history(runs[0].info.run_id, "queries")]
    assert steps == sorted(steps)
    assert steps[-1] == 10_000


def test_the_command_mirrors_named_runs_and_refuses_unknown_ones(spec: RunSpec, tmp_path: Path) -> None:
    folder, uri = folder_of(spec), str(tmp_path / "mlruns")
    for _ in record(spec, folder, device="cpu"):
        pass
    done = CliRunner().invoke(main, ["track", spec.key, "--uri", uri])
    assert "1 of 1 runs" in done.output
    assert len(mirrored(uri)[1]) == 1
    refused = CliRunner().invoke(main, ["track", "nothing", "--uri", uri])
    assert refused.exit_code == 2
    assert "no readable run nothing" in refused.output


def test_parameters_are_flat_and_complete(spec: RunSpec):
    flat = parameters(spec)
    assert flat["victim"] == "small"
    assert flat["attack.epochs"] == 2
    assert {name.partition(".")[0] for name in flat} == {
        "victim", "attack", "defense", "budget", "pool", "clone", "clone_size", "seed",
    }  # fmt: skip
