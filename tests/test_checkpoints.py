"""Of the last two checkpoints, the newest intact one is used."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dcp_core import checkpoints
from dcp_core.checkpoints import CheckpointError, load, older, remove, save


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[:-100],
    "short": lambda content: content[:20],
    "one bit": flipped,
    "zeros": lambda content: bytes(len(content)),
    "without its digest": lambda content: content[: -checkpoints.DIGEST],
    "another file": lambda content: b"PK\3\4 and so on",
}


def saved(path: Path, steps: int) -> None:
    for step in range(1, steps + 1):
        save(path, {"step": step, "weights": torch.arange(1000.0) * step})


def test_the_last_state_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    assert load(path, "cpu") is None
    for steps in (1, 3):
        saved(path, steps)
        state = load(path, "cpu")
        assert state is not None
        assert state["step"] == steps
        assert torch.equal(state["weights"], torch.arange(1000.0) * steps)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["state.older.pt", "state.pt"]
    remove(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_gives_way_to_the_one_before_and_the_log_says_so(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.pt"
    saved(path, 3)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    state = load(path, "cpu")
    assert state is not None
    assert state["step"] == 2
    assert f"{path} is damaged" in caplog.text
    save(path, {"step": 4})  # the intact one is kept beside it
    path.write_bytes(b"")
    state = load(path, "cpu")
    assert state is not None
    assert state["step"] == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_when_both_are_damaged_the_message_names_them_and_says_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.pt"
    saved(path, 2)
    for each in (path, older(path)):
        each.write_bytes(DAMAGES[damage](each.read_bytes()))
    with pytest.raises(CheckpointError, match=r"state\.pt and .*state\.older\.pt. Delete") as error:
        load(path, "cpu")
    assert "weights_only" not in str(error.value)


def test_a_kill_between_the_two_steps_of_a_save_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    saved(path, 1)
    path.rename(older(path))
    state = load(path, "cpu")
    assert state is not None
    assert state["step"] == 1
