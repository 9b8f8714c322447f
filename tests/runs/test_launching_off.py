"""A server on which launching is off (`DCP_LAUNCH=0`)."""

from pathlib import Path

import pytest

from dcp_core.audit.background import start
from dcp_core.audit.request import Request
from dcp_core.runs import launch, store
from dcp_core.runs.folder import QUEUED
from dcp_core.runs.spec import RunSpec

SPEC = RunSpec(victim="signs-resnet8", pool="signs_pool_small", budget=10)


@pytest.fixture(autouse=True)
def off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCP_LAUNCH", "0")


def test_nothing_is_queued_and_the_reason_is_named(home: Path) -> None:
    with pytest.raises(store.StoreError, match="DCP_LAUNCH=0"):
        launch.launch([SPEC])
    assert not list(home.rglob(QUEUED))


def test_runs_that_were_queued_before_are_not_started(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_start", lambda slot: pytest.fail("a worker was started"))
    folder = home / "runs" / SPEC.key
    folder.mkdir(parents=True)
    (folder / QUEUED).write_text('{"since": 1}')
    assert launch.turns()
    launch.start_workers()


def test_no_audit_starts(home: Path) -> None:
    with pytest.raises(store.StoreError, match="DCP_LAUNCH=0"):
        start(Request.of("signs-resnet8"), 0.1)
