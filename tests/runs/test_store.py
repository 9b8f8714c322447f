"""The folders of runs are readable in every state, also after damage."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from worlds import small_world

from dcp_core.files import PRECOMPUTED
from dcp_core.runs import launch, store
from dcp_core.runs.folder import EVENTS, QUEUED, SPEC, STOP, folder_of, root
from dcp_core.runs.journal import record
from dcp_core.runs.locks import holding
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.status import STATUS, Status


@pytest.fixture
def spec(home: Path, tmp_path: Path) -> RunSpec:
    return RunSpec("small", "knockoff", {"epochs": 2}, budget=40, pool=small_world(tmp_path))


def make(spec: RunSpec) -> Path:
    folder = folder_of(spec)
    for _ in record(spec, folder, device="cpu"):
        pass
    return folder


def test_a_finished_run_has_its_course_pictures_answers_and_log(spec: RunSpec) -> None:
    folder = make(spec)
    seen = store.view(folder)
    assert (seen.state, seen.spec, seen.fraction) == ("done", spec, 1.0)
    course = store.events(folder)
    assert course["fraction"].is_monotonic_increasing
    assert set(course["phase"]) >= {"asking", "training", "done"}
    assert course.dropna(subset=["error"])["queries"].iloc[-1] == 40
    assert seen.result is not None
    assert course["error"].iloc[-1] == pytest.approx(seen.result["rows"][0]["adversary_error"], abs=1e-4)
    found = store.sample(folder)
    assert found is not None
    assert found[0].size == (8 * 32, 32)
    assert all(len(answer) == 3 and 0 <= answer[0][1] <= 1 for answer in found[1])
    assert "done" in store.log_tail(folder)


@pytest.mark.parametrize("file", [SPEC, STATUS, "result.json", EVENTS, "sample.png", QUEUED])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b'{"rows": 3, "state": []}', b"null"])
def test_a_damaged_folder_is_shown_as_such_and_stops_nobody(spec: RunSpec, file: str, content: bytes) -> None:
    folder = folder_of(spec)
    folder.mkdir(parents=True)
    (folder / SPEC).write_text(spec.to_json())
    (folder / file).write_bytes(content)
    (root() / "somebody's folder").mkdir()
    (root() / "a file").write_text("x")
    states = {view.key: view.state for view in store.views()}
    assert states["somebody's folder"] == "unreadable"
    assert states[spec.key] in ("unreadable", "interrupted", "queued")
    store.events(folder), store.sample(folder), store.log_tail(folder)
    store.delete(folder)
    assert spec.key not in {view.key for view in store.views()}


def test_a_torn_line_and_ground_gone_over_twice_do_not_bend_the_curve(spec: RunSpec) -> None:
    folder = folder_of(spec)
    folder.mkdir(parents=True)
    lines = [{"time": i, "phase": "training", "fraction": f, "queries": 40, "error": e, "fidelity": 9}
             for i, (f, e) in enumerate([(0.2, 90), (0.5, 80), (0.8, 70), (0.4, 85), (0.6, 75)])]  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / EVENTS).write_text(text + '\n{"time": 9, "fraction": 0.')
    course = store.events(folder)
    assert course["fraction"].tolist() == [0.2, 0.4, 0.6]
    assert course["error"].tolist() == [90, 85, 75]


def test_a_worker_that_is_gone_leaves_an_interrupted_run_also_when_its_number_is_somebody_elses(
    spec: RunSpec,
) -> None:
    folder = folder_of(spec)
    folder.mkdir(parents=True)
    (folder / SPEC).write_text(spec.to_json())
    me = Status.here(1, "cpu")
    me.write(folder)
    assert store.view(folder).state == "running"
    recycled = dataclasses.replace(me, process_began=me.process_began - 1000)
    recycled.write(folder)
    assert recycled.process() is None  # nobody signals this process
    assert store.view(folder).state == "interrupted"
    elsewhere = dataclasses.replace(me, host="another-machine")
    elsewhere.write(folder)
    assert store.view(folder).state == "running"  # its heartbeat is fresh
    import os

    os.utime(folder / STATUS, (0, 0))
    assert store.view(folder).state == "interrupted"


def test_a_run_whose_process_was_ended_on_request_was_stopped_by_its_owner(spec: RunSpec) -> None:
    folder = folder_of(spec)
    folder.mkdir(parents=True)
    (folder / SPEC).write_text(spec.to_json())
    dataclasses.replace(Status.here(1, "cpu"), process_began=0.0, phase="scoring").write(folder)
    assert "without a word" in store.view(folder).message
    (folder / STOP).touch()
    assert store.view(folder).message == "stopped by you"


def test_only_one_process_works_on_a_run(spec: RunSpec) -> None:
    folder = folder_of(spec)
    folder.mkdir(parents=True)
    with holding(folder / "lock"):
        with pytest.raises(ValueError, match="another process works on"):
            next(record(spec, folder))
        with pytest.raises(store.StoreError, match="being started"):
            store.delete(folder)


def test_runs_are_refused_when_they_use_too_much_disk(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    make(spec)
    monkeypatch.setenv("DCP_RUNS_GB", "0.0001")
    other = RunSpec("small", "knockoff", {"epochs": 2}, budget=41, pool=spec.pool)
    with pytest.raises(store.StoreError, match="delete some"):
        launch.launch([other])
    assert launch.launch([spec]) == [folder_of(spec)]  # what is done is offered all the same
    assert len(store.views()) == 1


def test_deleting_a_run_takes_its_result_along(spec: RunSpec, home: Path) -> None:
    folder = make(spec)
    assert list((home / "results").glob("*.csv"))
    store.delete(folder)
    assert not list((home / "results").glob("*.csv"))
    assert not list(root().iterdir())


def test_shipped_runs_are_listed_apart_and_give_way_to_ones_own(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    folder = tmp_path / "shipped" / spec.key
    shutil.copytree(next(PRECOMPUTED.glob("runs/*")), folder)
    (folder / SPEC).write_text(spec.to_json())
    (view,) = store.shipped()
    assert view.shipped
    assert view.state == "done"
    assert store.views() == []
    assert store.find(spec.key) == folder
    own = folder_of(spec)
    own.mkdir(parents=True)
    (own / SPEC).write_text(spec.to_json())
    assert store.shipped() == []
    assert store.find(spec.key) == own
    assert not store.views()[0].shipped
