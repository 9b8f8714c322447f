"""Bad files in a run's folder: that run is listed as unreadable with a reason, and all others as before."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dcp_core.files import PRECOMPUTED
from dcp_core.runs import launch, store
from dcp_core.runs.describe import courses_of, table_of
from dcp_core.runs.folder import EVENTS, LOG, QUEUED, RESULT, SAMPLE, SPEC, STATUS, FolderError, result, root
from dcp_core.runs.spec import BenchSpec, RunSpec, SpecError
from dcp_core.runs.status import Status

HUGE = 10**400
SHIPPED = sorted(PRECOMPUTED.glob("runs/*"))[0]


@pytest.fixture
def bad(home: Path) -> Path:
    """A finished run that a test damages, beside a good one."""
    for name in ("good", "bad"):
        shutil.copytree(SHIPPED, root() / name)
    return root() / "bad"


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_row(folder: Path, **changes: Any) -> None:
    found = json.loads((folder / RESULT).read_text())
    found["rows"][0] |= changes
    (folder / RESULT).write_text(json.dumps(found))


def states() -> dict[str, store.State]:
    """The state of each run, after everything that the pages do with the list."""
    views = store.views()
    table_of(views, [], "").to_json()
    courses_of(views)
    launch.turns()
    for view in views:
        store.sample(view.folder), store.log_tail(view.folder)
    return {view.key: view.state for view in views}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("l1", [None, "text", "0.3", math.nan, math.inf, -1, HUGE, [0.3], True]),
        ("n_test", [None, 0, 1.5, "10", math.inf, HUGE, {}]),
        ("adversary_error", [None, "text", 101, math.nan]),
        ("transfer_rate", ["text", -1]),
        ("l1_queries", [None, {}]),
        ("precision", ["int3", 8, None]),
        ("budget", ["many", 0.5, HUGE]),
        ("dataset", [None, 3, []]),
        ("unreliable", ["yes", 1]),
    ],
)
def test_a_row_with_a_value_of_another_kind_is_unreadable(bad: Path, column: str, values: list[Any]) -> None:
    for value in values:
        change_row(bad, **{column: value})
        assert states() == {"good": "done", "bad": "unreadable"}, value
        message = store.view(bad).message
        assert column in message
        assert f"{bad / RESULT} cannot be read" in message
        assert "delete this file" in message


@pytest.mark.parametrize("changes", [
    {"queries": math.inf}, {"queries": None}, {"queries": "3"}, {"queries": -1}, {"queries": HUGE}, {"queries": 1.5},
    {"rows": []}, {"rows": [3]}, {"rows": {}}, {"rows": [{}]}, {"transfer_rate": "all"}, {"transfer_rate": []},
    {"missing": ["dcp"]}, {"missing": {"dcp": 3}},
])  # fmt: skip
def test_a_result_of_another_form_is_unreadable_and_named(bad: Path, changes: dict[str, Any]) -> None:
    change(bad / RESULT, **changes)
    assert states() == {"good": "done", "bad": "unreadable"}
    with pytest.raises(FolderError, match=r"result\.json cannot be read"):
        result(bad)


@pytest.mark.parametrize("changes", [
    {"victim": 3}, {"victim": ["a"]}, {"victim": None}, {"victim": ""}, {"victim": "a\nb"}, {"victim": "v" * 5000},
    {"victim": "\udcff"}, {"pool": 3}, {"pool": ["a"]}, {"pool": "a\0b", "attack": "knockoff"},
    {"seed": HUGE}, {"seed": -1}, {"seed": 1.5}, {"seed": "0"}, {"seed": None}, {"seed": True}, {"seed": math.inf},
    {"budget": HUGE}, {"budget": math.inf}, {"budget": "10"}, {"budget": 10.0},
    {"attack": 3}, {"attack": []}, {"attack_parameters": []}, {"attack_parameters": {"batch": HUGE}},
    {"defense": {}}, {"defense": None}, {"defense_parameters": "beta"}, {"defense_parameters": {"beta": math.nan}},
    {"clone": 7}, {"clone": []}, {"kind": "bench"}, {"kind": "bench", "seconds": HUGE}, {"kind": "bench", "clock": []},
])  # fmt: skip
def test_a_spec_with_impossible_parameters_is_unreadable(bad: Path, changes: dict[str, Any]) -> None:
    change(bad / SPEC, **changes)
    assert states() == {"good": "done", "bad": "unreadable"}
    assert f"{bad / SPEC} cannot be read" in store.view(bad).message or "another kind" in store.view(bad).message


def test_impossible_parameters_are_refused_with_what_is_possible() -> None:
    for wrong in ({"victim": 3}, {"pool": 3}, {"seed": HUGE}, {"seed": -1}, {"budget": 0}):
        with pytest.raises(SpecError, match="must be"):
            RunSpec(**{"victim": "v", "pool": "signs_pool"} | wrong)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="must be"):
        BenchSpec(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [
    {"state": "happy"}, {"state": "queued"}, {"queries": HUGE}, {"fraction": math.inf}, {"fraction": math.nan},
    {"pid": HUGE}, {"process_began": math.inf}, {"work_began": HUGE}, {"message": 3}, {"message": "\udcff"},
])  # fmt: skip
def test_a_status_with_an_impossible_value_is_unreadable(bad: Path, changes: dict[str, Any]) -> None:
    (bad / RESULT).unlink()
    Status.here(1, "cpu").write(bad)
    change(bad / STATUS, **changes)
    assert states() == {"good": "done", "bad": "unreadable"}


@pytest.mark.parametrize("file", [SPEC, RESULT, STATUS, EVENTS, SAMPLE, LOG, QUEUED])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
@pytest.mark.timeout(60)
def test_only_regular_files_are_read(bad: Path, file: str, make: Callable[[Path], None]) -> None:
    if file in (STATUS, QUEUED):
        (bad / RESULT).unlink()
    (bad / file).unlink(missing_ok=True)
    make(bad / file)
    assert states()["good"] == "done"
    assert states()["bad"] == ("unreadable" if file in (SPEC, RESULT, STATUS) else states()["bad"])
    store.delete(bad)
    assert states() == {"good": "done"}


@pytest.mark.parametrize("file", [SPEC, RESULT, STATUS, EVENTS, SAMPLE, LOG])
def test_files_of_absurd_size_are_not_read(bad: Path, file: str) -> None:
    if file == STATUS:
        (bad / RESULT).unlink()
    os.truncate(bad / file, 2**40) if (bad / file).exists() else (bad / file).touch()
    os.truncate(bad / file, 2**40)  # a sparse file
    assert states()["good"] == "done"


@pytest.mark.parametrize("line", [
    {"time": HUGE}, {"fraction": math.nan}, {"queries": math.inf}, {"error": math.inf}, {"error": HUGE}, {"losses": 3},
])  # fmt: skip
def test_an_event_with_an_impossible_number_is_left_out(bad: Path, line: dict[str, Any]) -> None:
    whole = store.events(bad)
    event = {"time": 1, "phase": "x", "fraction": 1.0, "queries": 3, "losses": {}} | line
    with (bad / EVENTS).open("a") as file:
        file.write(json.dumps(event) + "\n")
    assert len(store.events(bad)) - len(whole) == ("losses" in line and line["losses"] == 3)
    assert states() == {"good": "done", "bad": "done"}


def test_a_sample_that_is_too_large_or_has_impossible_answers_is_not_drawn(bad: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(bad / SAMPLE)
    assert store.sample(bad) is None
    for answers in ("[[[-100, 0.5]]]", "[[[1e999, 0.5]]]", "[[[1, NaN]]]", "[[[1, 2]]]", "[[", "3"):
        text = PngInfo()
        text.add_text("answers", answers)
        Image.fromarray(np.zeros((32, 256), np.uint8)).save(bad / SAMPLE, pnginfo=text)
        found = store.sample(bad)
        assert found is None or found[1] == []


def test_what_a_newer_version_added_is_ignored(bad: Path) -> None:
    change(bad / SPEC, scheduler="new")
    change(bad / RESULT, carbon=3)
    change_row(bad, carbon_grams=3)
    assert states() == {"good": "done", "bad": "done"}
    assert dataclasses.replace(store.view(bad), folder=root() / "good").spec == store.view(root() / "good").spec


def test_folders_with_odd_names_and_dates_hide_nothing(bad: Path) -> None:
    os.utime(bad / SPEC, (0, 2**34))
    os.mkdir(os.fsencode(root()) + b"/\xff")
    os.symlink("loop", root() / "loop")
    (root() / "![x](http:").mkdir()
    assert states() == {"good": "done", "bad": "done", "![x](http:": "unreadable"}


def test_a_finished_run_without_its_result_can_be_resumed(bad: Path) -> None:
    Status("done").write(bad)
    (bad / RESULT).unlink()
    assert store.view(bad).resumable
