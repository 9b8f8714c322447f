"""Attacks in processes that are killed: after a resume, the clone is bit for bit that of an uninterrupted attack."""

import multiprocessing
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from dcp_core import checkpoints
from dcp_core.attacks import make_attack
from dcp_core.attacks.maze import MAZE
from dcp_core.defenses import RandomNoise
from dcp_core.files import write_atomic

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "knockoff": ("knockoff", 800, {"epochs": 12}),
    "adaptive": ("knockoff", 500, {"epochs": 5, "strategy": "adaptive", "repeats": 2}),
    "dfme": ("dfme", 224 * 20 + 77, {}),
    "maze": ("maze", 96 * 40 + 33, {}),
    "disguide": ("disguide", 32 * 30 + 7, {"targets": "labels"}),
    "jbda": ("jbda", 700, {"epochs": 3, "variant": "t-rnd", "targets": "posteriors"}),
    "rotations": ("knockoff", 300, {"epochs": 8, "rotations": True}),
    "own prior": ("knockoff", 300, {"epochs": 5, "treatment": "bayes", "prior": "own"}),
    "maze, recent": ("maze", 96 * 40 + 33, {"replay": "recent"}),
}
KILLS = 2


def steal_in(folder: Path, victim: Path, case: str) -> None:
    """What a worker does; a defense with random numbers of its own makes it harder to go on exactly."""
    torch.set_num_threads(1)
    MAZE.buffer = 500  # full after a fourth of the attack
    model = toys.network(1)
    model.load_state_dict(torch.load(victim, weights_only=True))
    name, budget, parameters = CASES[case]
    given = toys.theft(budget, RandomNoise(epsilon=0.4), model, folder=folder, save_every=0.0)
    for _ in make_attack(name, **{**toys.SMALL[name], **parameters}).steps(given):
        pass
    end = {"clone": given.clone.state_dict(), "used": given.oracle.used}
    write_atomic(folder / "end.pt", lambda file: torch.save(end, file))


# Forked, so that a worker starts in a moment; torch computes in one thread here, which a fork survives.
workers = multiprocessing.get_context("fork")


@pytest.mark.parametrize("case", CASES)
def test_a_killed_theft_ends_like_one_never_interrupted(case: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim.pt"
    torch.save(toys.victim().state_dict(), victim)
    folders = [tmp_path / "whole", tmp_path / "killed"]

    began = time.monotonic()
    whole = workers.Process(target=steal_in, args=(folders[0], victim, case))
    whole.start()
    whole.join()
    duration = time.monotonic() - began
    assert whole.exitcode == 0

    killed = 0
    for _ in range(KILLS):
        worker = workers.Process(target=steal_in, args=(folders[1], victim, case))
        worker.start()
        before = changes(folders[1])
        while changes(folders[1]) == before and worker.is_alive():  # until it has saved something new
            time.sleep(0.005)
        time.sleep(random.random() * duration / (2 * KILLS))
        if worker.is_alive() and not (folders[1] / "end.pt").exists():
            worker.kill()
            killed += 1
        worker.join()
    assert killed, "the theft was over before it could be killed"

    last = workers.Process(target=steal_in, args=(folders[1], victim, case))
    last.start()
    last.join()
    assert last.exitcode == 0
    one, other = (torch.load(folder / "end.pt", weights_only=True) for folder in folders)
    assert one["used"] == other["used"] == CASES[case][1]
    assert all(torch.equal(value, other["clone"][key]) for key, value in one["clone"].items())


def changes(folder: Path) -> list[float]:
    """When the states in a folder were written."""
    found = []
    for name in ("state.pt", "training.pt"):
        with suppress(FileNotFoundError):
            found.append((folder / name).stat().st_mtime_ns)
    return found


class Killed(Exception):
    pass


def stopped(folder: Path, case: str, saves: int) -> None:
    """A theft that ends without a further save, as if killed, when it has saved so often."""
    name, budget, parameters = CASES[case]
    given = toys.theft(budget, RandomNoise(epsilon=0.4), folder=folder, save_every=0.0)
    save, done = checkpoints.save, 0

    def counted(path: Path, state: dict[str, Any]) -> None:
        nonlocal done
        if done == saves:
            raise Killed
        done += 1
        save(path, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", counted)
        with pytest.raises(Killed):
            for _ in make_attack(name, **{**toys.SMALL[name], **parameters}).steps(given):
                pass


def ended(folder: Path | None, case: str) -> dict[str, torch.Tensor]:
    """The clone of a theft that goes on to its end."""
    name, budget, parameters = CASES[case]
    given = toys.theft(budget, RandomNoise(epsilon=0.4), folder=folder, save_every=0.0)
    for _ in make_attack(name, **{**toys.SMALL[name], **parameters}).steps(given):
        pass
    return given.clone.state_dict()


@pytest.mark.parametrize("case", ["knockoff", "dfme"])
def test_a_theft_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(tmp_path, case, saves=8)
    last = max(tmp_path.glob("*.pt"), key=lambda path: path.stat().st_mtime_ns)
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    went_on = ended(tmp_path, case)
    assert f"{last} is damaged" in caplog.text
    assert all(torch.equal(value, went_on[key]) for key, value in ended(None, case).items())
