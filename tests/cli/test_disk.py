"""A disk that is full or cannot be written ends a command with a sentence, not with a traceback."""

import dataclasses
import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dcp_core import files
from dcp_core.cli import main
from dcp_core.data import datasets
from dcp_core.files import explained, write_atomic
from dcp_core.runs import store

sys.path.append(str(Path(__file__).parents[1] / "runs"))
from worlds import small_world

COMMANDS: dict[str, tuple[str, str]] = {  # the arguments, and the file that cannot be written
    "attack": ("--victim small --pool {data} --budget 30 --epochs 1 --defense none --to {to}", "spec.json"),
    "export": ("--victim signs-resnet8 --defense none --baked --to {to}/file.onnx", "file.onnx"),
    "data": ("download signs", "signs.npz"),
    "train": ("--data {data} --network resnet8 --epochs 1 --batch-size 100 --name mine", "mine-"),
}


def full(monkeypatch: pytest.MonkeyPatch, allowed: int = 0) -> None:
    """From now on, and after so many more files, no file's content reaches the disk."""
    fsync, left = os.fsync, allowed

    def sync(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(files.os, "fsync", sync)


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def mkstemp(**where: Any) -> tuple[int, str]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"{where['dir']}/{where['prefix']}x1")

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("disk", [full, read_only])
def test_a_command_says_what_failed_with_which_file_and_what_to_do(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, disk: Any
) -> None:
    data, to = small_world(tmp_path), tmp_path / "to"
    arrays = {"x_train": np.zeros((2, 32, 32, 3), np.uint8)}
    info = dataclasses.replace(datasets.DATASETS["signs"], make=lambda scratch: arrays)
    monkeypatch.setitem(datasets.DATASETS, "signs", info)
    disk(monkeypatch)
    arguments, file = COMMANDS[command]
    ended = CliRunner().invoke(main, [command, *arguments.format(data=data, to=to).split()])
    assert ended.exit_code == 1
    assert isinstance(ended.exception, SystemExit)
    (said,) = [line for line in ended.output.splitlines() if line.startswith("Error: ")]
    reason, advice = {
        full: ("No space left on device", "Free some disk space, then give the same command again"),
        read_only: ("Read-only file system", "choose another folder"),
    }[disk]
    assert reason in said
    assert file in said
    assert advice in said
    assert not list(tmp_path.rglob(".*.??????????*"))  # no temporary file is left


def test_a_run_that_meets_a_full_disk_can_be_resumed_and_says_why_it_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "runs" / "full"
    arguments = COMMANDS["attack"][0].format(data=small_world(tmp_path), to=folder).split()
    with monkeypatch.context() as patch:
        full(patch, allowed=3)
        assert CliRunner().invoke(main, ["attack", *arguments]).exit_code == 1
    seen = store.view(folder)
    assert seen.resumable
    assert seen.message.startswith("No space left on device: ")
    assert seen.message.endswith("Free some disk space, then resume the run")
    assert CliRunner().invoke(main, ["attack", *arguments]).exit_code == 0
    assert store.view(folder).state == "done"


def test_an_error_names_the_file_that_was_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "b.txt"
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match=r"b\.txt") as error:
        write_atomic(path, lambda file: file.write(b"x"))
    assert explained(error.value) == f"File exists: {path}"
    assert explained(OSError("no route to the host")) == "no route to the host"
