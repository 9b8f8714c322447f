"""Workers killed at random moments, lost servers, full and read-only disks: runs stay readable and resumable."""

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from worlds import small_world

from dcp_core import files
from dcp_core.runs import journal, launch, store
from dcp_core.runs.folder import folder_of, result
from dcp_core.runs.journal import record
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.status import Status
from dcp_core.runs.worker import run

KILLS = 2


@pytest.fixture
def pool(home: Path, tmp_path: Path) -> str:
    return small_world(tmp_path)


def wait_for(condition, seconds: float = 250) -> None:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, [(view.state, view.message) for view in store.views()]
        time.sleep(0.02)


@pytest.mark.timeout(600)
def test_killed_workers_leave_runs_that_end_like_those_never_touched(
    pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: a detached queue, stop within about a second, and resume."""
    monkeypatch.setenv("DCP_RUNS_AT_ONCE", "1")
    monkeypatch.setattr(launch, "threads", lambda: 1)  # more are slow on a busy machine, and round differently
    long = RunSpec("small", "dfme", {"batch": 8, "width": 4}, budget=400)
    short = RunSpec("small", "knockoff", {"epochs": 2}, budget=30, pool=pool)
    folder = folder_of(long)
    launch.launch([long, short])
    assert {view.state for view in store.views()} <= {"queued", "running"}

    wait_for(lambda: store.view(folder).queries > 0)
    began = time.monotonic()
    launch.stop(folder)
    assert store.view(folder).state == "interrupted"
    assert time.monotonic() - began < 10  # a second, on a machine that is not busy
    wait_for(lambda: store.view(folder_of(short)).state == "done")  # the worker goes on with the queue

    for _ in range(KILLS):
        launch.launch([long])
        wait_for(lambda: store.view(folder).state == "running")
        time.sleep(2 * random.random())
        status = Status.read(folder)
        process = status.process() if status else None
        if process is not None:
            process.kill()
        wait_for(lambda: not store.view(folder).active)
        assert store.view(folder).state in ("interrupted", "done")
        store.events(folder), store.sample(folder)
    launch.launch([long])
    wait_for(lambda: store.view(folder).state == "done")

    whole = tmp_path / "whole"
    list(run(long, whole, device="cpu"))
    one, other = result(folder), result(whole)
    assert one is not None
    assert other is not None
    assert one["rows"][0]["adversary_error"] == other["rows"][0]["adversary_error"]
    assert one["queries"] == long.budget


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("writes", [2, 4, 7])
def test_a_disk_that_stops_taking_files_leaves_a_run_that_goes_on_when_there_is_room(
    pool: str, monkeypatch: pytest.MonkeyPatch, number: int, writes: int
) -> None:
    spec = RunSpec("small", "knockoff", {"epochs": 1}, budget=30, pool=pool)
    folder = folder_of(spec)
    replace, left = os.replace, writes

    def full(*paths: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(number, os.strerror(number))
        replace(*paths)

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=os.strerror(number)):
        list(record(spec, folder, device="cpu", save_every=0))
    monkeypatch.setattr(files.os, "replace", replace)
    # the final status cannot be written either, as after a kill
    seen = store.view(folder)
    assert seen.spec == spec
    assert seen.state in ("failed", "interrupted", "running")
    list(record(spec, folder, device="cpu"))
    assert store.view(folder).state == "done"


def test_an_error_is_one_sentence_in_the_status_and_a_traceback_in_the_log(pool: str) -> None:
    spec = RunSpec("small", "knockoff", {"epochs": 1}, budget=30, pool="/nowhere.npz")
    with pytest.raises(ValueError, match="no data set"):
        list(record(spec, folder_of(spec), device="cpu"))
    seen = store.view(folder_of(spec))
    assert (seen.state, seen.resumable) == ("failed", True)
    assert seen.message.startswith("no data set '/nowhere.npz'")
    assert "Traceback" in store.log_tail(seen.folder, 100)


def test_a_run_says_what_it_loads_and_stops_there(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunSpec("small", "knockoff", {"epochs": 1}, budget=30, pool=pool)
    folder = folder_of(spec)
    seen = []

    def slow(name: str, split: str, size: int, report: Callable[[str], object]) -> None:
        report("drawing signs (test), once: 40%")
        seen.append(store.view(folder))
        launch.request_stop(folder)
        for _ in range(100):
            time.sleep(0.05)
            report("drawing signs (test), once: 50%")

    monkeypatch.setattr("dcp_core.runs.worker.load", slow)
    monkeypatch.setattr(journal, "STATUS_EVERY", 0.0)
    list(record(spec, folder, device="cpu"))
    assert (seen[0].state, seen[0].phase) == ("running", "drawing signs (test), once: 40%")
    assert store.view(folder).state == "interrupted"
    assert not (folder / journal.STOP).exists()


def test_stopping_a_run_spares_the_worker_that_has_gone_on_to_the_next(
    pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec("small", "knockoff", {"epochs": 1}, budget=30, pool=pool)
    folder = folder_of(spec)
    journal.claim(spec, folder)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    began = psutil.Process(worker.pid).create_time()
    Status("interrupted", worker.pid, began, Status.here(1, "cpu").host).write(folder)
    monkeypatch.setattr(store, "view", lambda folder: store.RunView(folder, "running"))  # as seen a moment before
    monkeypatch.setattr(launch, "POLITE", 0.0)
    launch.stop(folder)
    assert worker.poll() is None
    worker.kill()
    worker.wait()


def test_a_worker_that_does_not_listen_is_ended_by_a_signal(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = RunSpec("small", "knockoff", {"epochs": 1}, budget=30, pool=pool)
    folder = folder_of(spec)
    journal.claim(spec, folder)
    deaf = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Status(
        pid=deaf.pid, process_began=psutil.Process(deaf.pid).create_time(), host=Status.here(1, "cpu").host
    ).write(folder)
    assert store.view(folder).state == "running"
    launch.stop(folder)
    assert not psutil.pid_exists(deaf.pid)
    assert store.view(folder).state == "interrupted"


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_does_not_block_its_run(pool: str, damaged: int) -> None:
    spec = RunSpec("small", "knockoff", {"epochs": 30}, budget=30, pool=pool)
    folder = folder_of(spec)
    events = record(spec, folder, device="cpu", save_every=0)
    next(event for event in events if event.phase == "training")
    next(events)
    events.close()
    for name in ("training.pt", "training.older.pt")[:damaged]:
        (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    (folder / ".clone.safetensors.x1y2z3").touch()  # of a killed worker
    (folder / ".status.json.x1y2z3").touch()
    if damaged == 1:
        list(record(spec, folder, device="cpu"))
        assert "training.pt is damaged" in store.log_tail(folder, 1000)
        assert store.view(folder).state == "done"
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".") or path.suffix == ".pt"]
        return
    with pytest.raises(ValueError, match="damaged"):
        list(record(spec, folder, device="cpu"))
    assert "Delete" in store.view(folder).message
    assert "weights_only" not in store.log_tail(folder, 1000)
