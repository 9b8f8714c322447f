"""The page Audit: a button starts the command, its progress is shown, and the latest report or the sample."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_pages import open_page, texts

from dcp_core.audit import background
from dcp_core.audit.background import audit_of
from dcp_core.audit.request import Request, folder_of
from dcp_core.runs import launch
from dcp_core.runs.status import Status

SIGNS = "signs-resnet8"


def test_the_button_starts_the_command_with_the_limits_of_the_page(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict]] = []

    def popen(command: list[str], **more: object) -> SimpleNamespace:
        started.append((command, more))
        return SimpleNamespace(pid=os.getpid())

    monkeypatch.setattr(background.subprocess, "Popen", popen)
    app = open_page("audit", u_increase="2.0", u_price="3.0")
    assert not app.error
    app.button(key="u_start").click().run()
    assert not app.exception
    ((command, more),) = started
    words = command[command.index("audit") + 1 :]
    assert words[0] == SIGNS
    assert words[words.index("--increase") + 1] == "2"
    assert words[words.index("--price-per-1000") + 1] == "3"
    assert words[words.index("--hours") + 1] == "0.1"
    assert more["start_new_session"] is True
    assert audit_of(SIGNS).running  # from the first moment: a second click cannot start a second one


def test_a_running_audit_shows_its_progress_and_can_be_stopped(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Status.here(1, "cpu").write(folder_of(SIGNS))
    stopped: list[str] = []
    monkeypatch.setattr(background.Status, "process", lambda self: None)
    monkeypatch.setattr(background.Status, "alive", lambda self, folder: not stopped)
    app = open_page("audit")
    assert "continues when this page is closed" in texts(app)
    assert [button.key for button in app.button if button.key == "u_start"] == []
    app.button(key="u_stop").click()
    stopped.append("now")
    app.run()
    assert app.button(key="u_start")


def test_an_unknown_victim_or_pool_is_told_and_starts_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="nosuch"):
        Request.of("nosuch")
    monkeypatch.setattr(
        background.subprocess, "Popen", lambda *given, **more: pytest.fail("a process was started")
    )
    app = open_page("audit", u_pool="nosuch")
    app.button(key="u_start").click().run()
    assert not app.exception
    assert ["no data set" in each.value for each in app.error] == [True]


def test_the_error_of_an_audit_that_ended_is_shown(home: Path) -> None:
    folder_of(SIGNS).mkdir(parents=True)
    (folder_of(SIGNS) / background.LOG).write_text("12 %\nError: only 0.10 GB are free\n")
    assert "only 0.10 GB are free" in texts(open_page("audit"))


def test_the_latest_report_stands_on_the_page(home: Path) -> None:
    folder_of(SIGNS).mkdir(parents=True)
    (folder_of(SIGNS) / "report.html").write_text("<p>mine</p>")
    app = open_page("audit")
    assert app.get("iframe")[0].proto.srcdoc == "<p>mine</p>"
    assert app.button(key="u_start").label.startswith("Continue")


@pytest.mark.parametrize(
    ("page", "button"), [("attack_lab", "a_demo"), ("cost", "c_measure"), ("audit", "u_start")]
)
def test_a_server_without_launching_says_so_and_offers_no_button(
    home: Path, monkeypatch: pytest.MonkeyPatch, page: str, button: str
) -> None:
    monkeypatch.setenv("DCP_LAUNCH", "0")
    app = open_page(page)
    assert [info.value for info in app.info].count(launch.OFF) == 1
    assert app.button(key=button).disabled
