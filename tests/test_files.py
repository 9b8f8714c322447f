"""Files that are none: a named pipe, a folder or an endless device in the place of a file is refused, not waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dcp_core.data.datasets import DataError, load
from dcp_core.files import open_regular
from dcp_core.models import zoo
from dcp_core.results.rows import load_results
from dcp_core.runs.shared_answers import stored_rows

MAKE = [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", MAKE)
def test_nothing_waits_for_a_file_that_is_none(
    home: Path, victim: zoo.Victim, make: Callable[[Path], None]
) -> None:
    def replace(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        make(path)
        return path

    with pytest.raises(DataError, match=r"not a readable|needs an array"):
        load(str(replace(home / "data" / "pictures.npz")), "test")
    name = replace(home / "results" / "attack-x.csv").name
    assert any(name in str(problem) for problem in load_results(home / "results")[1])
    assert len(stored_rows(replace(home / "x.safetensors"))[0]) == 0
    folder = home / "victims" / "toy"
    replace(next(folder.glob("test_answers*")))
    with pytest.raises(zoo.VictimError, match="test_answers"):
        zoo.test_answers("toy")
    replace(folder / "card.json")
    with pytest.raises(zoo.VictimError, match="card"):
        zoo.card("toy")


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for path in (tmp_path, tmp_path / "pipe"):
        for _ in range(3):
            with pytest.raises(OSError, match="not a regular file"):
                open_regular(path)
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)
