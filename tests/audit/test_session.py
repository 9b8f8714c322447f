"""A session: it ends in time, continues, repeats nothing, and stops what it started."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pretended import pretend, victim_with_answers

from dcp_core.audit import power_law, session
from dcp_core.audit.background import audit_of
from dcp_core.audit.request import AuditError, Request
from dcp_core.audit.session import audit, plan
from dcp_core.cli import audit as cli
from dcp_core.cli import main
from dcp_core.data.datasets import load
from dcp_core.results.decision import Needs
from dcp_core.runs import shared_answers
from dcp_core.runs.estimate import Estimate
from dcp_core.runs.folder import claim, folder_of
from dcp_core.runs.locks import holding
from dcp_core.runs.shared_answers import known_answers, share
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.status import Status

HOURS = 0.02


class Workers:
    """Stand for the background workers: a launched run is done at once, or fails, or goes on until it is stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.launched: list[RunSpec] = []
        self.stopped: list[Path] = []
        self.fail: set[str] = set()
        self.endless = False
        monkeypatch.setattr(session.launch, "launch", self.launch)
        monkeypatch.setattr(session.launch, "start_workers", lambda: None)
        monkeypatch.setattr(session.launch, "stop", self.stopped.append)
        monkeypatch.setattr(session, "estimate", lambda spec: Estimate(0.1, 0.1, 0.1))
        monkeypatch.setattr(session, "TICK", 0.0)
        monkeypatch.setattr(power_law, "RESAMPLES", 50)

    def launch(self, specs: list[RunSpec]) -> list[Path]:
        (spec,) = specs
        self.launched.append(spec)
        if self.endless:
            claim(spec, folder_of(spec))
            Status.here(1, "cpu").write(folder_of(spec))
        elif spec.key in self.fail:
            claim(spec, folder_of(spec))
            Status(state="failed", message="it broke").write(folder_of(spec))
        else:
            pretend([spec], lambda spec: 20.0)
        return [folder_of(spec)]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(monkeypatch)


@pytest.fixture
def request_(home: Path, tmp_path: Path) -> Request:
    """A request with a pool of 250 pictures: three budgets, one defense."""
    path = tmp_path / "pool.npz"
    np.savez(path, x_train=np.random.default_rng(0).integers(0, 256, (250, 32, 32, 3), dtype=np.uint8))
    return Request.of(
        victim_with_answers(), (str(path),), needs=Needs(1.0, 0.9, l1_of="l1"), defenses=("mgw",), seeds=2
    )


def test_a_session_runs_the_whole_plan_once_and_the_next_one_nothing(workers: Workers, request_: Request) -> None:
    progress = list(audit(request_, HOURS))
    assert [spec.key for spec in workers.launched] == [spec.key for spec in plan(request_).runs]
    assert progress[-1].fraction == 1
    assert [each.fraction for each in progress] == sorted(each.fraction for each in progress)
    workers.launched.clear()
    list(audit(request_, HOURS))
    assert workers.launched == []


def test_the_victim_answers_each_picture_once(
    workers: Workers, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    real = shared_answers.predict

    def counted(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(images)
        return real(model, images)

    monkeypatch.setattr(shared_answers, "predict", counted)
    list(audit(request_, HOURS))
    list(audit(request_, HOURS))
    assert 200 < asked <= 250  # two seeds of 200 of the 250 pictures


def test_ctrl_c_keeps_the_answers_that_have_arrived(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = shared_answers.predict, []

    def interrupted(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        if asked:
            raise KeyboardInterrupt
        asked.append(len(images))
        return real(model, images)

    monkeypatch.setattr(shared_answers, "predict", interrupted)
    runs = [spec for spec in plan(request_).runs if spec.budget == 200][:2]
    with pytest.raises(KeyboardInterrupt):
        share(runs)
    pool = load(request_.pool, "train")
    assert len(known_answers(request_.victim, pool, torch.arange(len(pool)))) == asked[0] == 128


def test_closing_stops_the_runs_and_says_interrupted(workers: Workers, request_: Request) -> None:
    workers.endless = True
    going = audit(request_, HOURS)
    for _ in range(4):
        next(going)
    assert audit_of(request_.victim).running
    going.close()
    assert workers.stopped == [folder_of(spec) for spec in workers.launched]
    assert workers.stopped
    assert not audit_of(request_.victim).running
    with holding(request_.folder / session.LOCK) as ours:
        assert ours


def test_the_time_limit_stops_the_runs(
    workers: Workers, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.endless = True
    clock = iter(range(10**6))
    monkeypatch.setattr(session.time, "monotonic", lambda: float(next(clock)))
    assert list(audit(request_, 100 / 3600))[-1].fraction == 1
    assert workers.stopped == [folder_of(spec) for spec in workers.launched]
    assert workers.stopped


def test_a_run_that_fails_is_not_tried_again_in_the_session_and_the_others_go_on(
    workers: Workers, request_: Request
) -> None:
    broken = plan(request_).runs[1]
    workers.fail = {broken.key}
    list(audit(request_, HOURS))
    keys = [spec.key for spec in workers.launched]
    assert keys.count(broken.key) == 1
    assert len(keys) == len(plan(request_).runs)


def test_what_would_end_too_late_is_not_started(
    workers: Workers, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "estimate", lambda spec: Estimate(0, 1e6 if spec.budget > 50 else 0.1, 0))
    list(audit(request_, HOURS))
    assert {spec.budget for spec in workers.launched[1:]} == {50}  # the very first run is always tried


def test_two_audits_of_one_victim_at_once_are_refused(workers: Workers, request_: Request) -> None:
    with holding(request_.folder / session.LOCK), pytest.raises(AuditError, match="another process audits small"):
        list(audit(request_, HOURS))


@pytest.mark.parametrize("hours", [0, -1, float("nan"), 1e9])
def test_an_impossible_time_is_refused(request_: Request, hours: float) -> None:
    with pytest.raises(AuditError, match="the time must be above 0"):
        list(audit(request_, hours))


def words_of(request: Request) -> list[str]:
    return [
        "audit",
        request.victim,
        "--pool",
        request.pool,
        "--hours",
        str(HOURS),
        "--defense",
        "mgw",
        "--l1-of",
        "l1",
    ]


def test_the_command_writes_the_report_where_it_is_told(
    workers: Workers, request_: Request, tmp_path: Path
) -> None:
    done = CliRunner().invoke(main, [*words_of(request_), "--seeds", "1", "--into", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "report.json").exists()
    assert str(tmp_path / "out" / "report.html") in done.output


def test_the_command_writes_the_report_after_ctrl_c(
    workers: Workers, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(request: Request, hours: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "audit", stopped)
    done = CliRunner().invoke(main, words_of(request_))
    assert done.exit_code == 130
    assert "the same command continues" in done.output
    assert (request_.folder / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "nosuch"),
        (["signs-resnet8", "--hours", "0"], "--hours"),
        (["signs-resnet8", "--hours", "-1"], "--hours"),
        (["signs-resnet8", "--pool", "nosuch"], "no data set 'nosuch'"),
        (["signs-resnet8", "--defense", "nosuch"], "unknown defense 'nosuch'"),
    ],
)
def test_bad_input_is_one_sentence(home: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(main, ["audit", *words])
    assert done.exit_code in (1, 2)
    assert message in done.output
    assert "Traceback" not in done.output
