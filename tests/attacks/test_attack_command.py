import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from dcp_core.attacks.dfme import DFME
from dcp_core.cli import main
from dcp_core.cli.attack import command
from dcp_core.models import storing, zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict
from dcp_core.results.rows import load_results
from dcp_core.runs import store
from dcp_core.runs.folder import CLONE, EVENTS, LOCK, LOG, RESULT, SAMPLE, SPEC, result
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.status import STATUS
from dcp_core.runs.worker import run

COMMON = ["--victim", "small", "--budget", "120", "--epochs", "1", "--threads", "1"]


@pytest.fixture
def pool(home: Path, tmp_path: Path) -> str:
    """A victim `small` with its data set, and that data set's path as the thief's pool."""
    dice = np.random.default_rng(0)
    arrays = {f"x_{split}": dice.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    arrays |= {f"y_{split}": np.arange(200) % 4 for split in ("train", "test")}
    path = tmp_path / "data.npz"
    np.savez(path, classes=np.array(list("abcd")), **arrays)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = build("resnet8", 4)
    images = torch.from_numpy(arrays["x_test"].transpose(0, 3, 1, 2).copy())
    card = zoo.Card("small", "Small", str(path), "resnet8", tuple("abcd"), 32)
    storing.save(model, card, predict(model, images), torch.arange(200) % 4)
    return str(path)


def call(*words: str) -> Result:
    return CliRunner().invoke(command, [*COMMON, *words])


def test_a_run_from_the_command_line_ends_as_a_row_of_results(pool: str, home: Path) -> None:
    done = call("--pool", pool, "--defense", "dcp", "--beta", "1.2", "--treatment", "top-1", "--no-flip")
    assert done.exit_code == 0, done.output
    assert "120 queries" in done.output
    rows, problems = load_results(home / "results")
    assert not problems
    (row,) = rows.to_dict("records")
    assert (row["source"], row["attack"], row["thief"], row["budget"]) == ("measured", "knockoff", "top-1", 120)
    assert (row["defense"], row["strength"], row["queries_from"]) == ("dcp", 1.2, pool)
    assert 0 <= row["adversary_error"] <= 100
    assert row["l1_queries"] > 0
    (folder,) = (home / "runs").iterdir()
    kept = [SPEC, STATUS, EVENTS, SAMPLE, LOG, RESULT, CLONE, LOCK]  # and no state that only a worker needs
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)
    seen = store.view(folder)
    assert (seen.state, seen.queries) == ("done", 120)
    found = result(folder)
    assert found is not None
    assert len(found["class_errors"]) == 4
    assert row["transfer_rate"] == round(found["transfer_rate"], 4)

    again = call("--pool", pool, "--defense", "dcp", "--beta", "1.2", "--treatment", "top-1", "--no-flip")
    assert "row is in" in again.output  # not run again, not written twice
    assert len(load_results(home / "results")[0]) == 1


def test_results_of_several_runs_share_a_file(pool: str, tmp_path: Path) -> None:
    for seed in ("0", "1"):
        done = call("--pool", pool, "--defense", "none", "--seed", seed, "--results", str(tmp_path / "all.csv"))
        assert done.exit_code == 0, done.output
    rows, problems = load_results(tmp_path)
    assert not problems
    assert rows["seed"].tolist() == [0, 1]


def test_the_row_names_the_command_that_makes_it_again(pool: str) -> None:
    spec = RunSpec(
        "small",
        "knockoff",
        {"epochs": 3, "flip": True},
        "rs",
        {"beta": 0.5, "cap_odds": False},
        50,
        pool,
        "resnet8",
        4,
    )
    words = spec.command.split(" attack ")[1].split()
    assert "--epochs 3" in spec.command
    assert "--flip" in words
    assert "--no-cap-odds" in words
    assert RunSpec.from_json(spec.to_json()) == spec
    assert spec.key == RunSpec.from_json(spec.to_json()).key
    assert spec.key != RunSpec("small", budget=51, pool=pool).key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--defense", "none"], "needs a query pool"),
        (["--attack", "dfme", "--defense", "none"], "no parameter 'epochs'"),
        (["--pool", "nowhere", "--defense", "none"], "no data set 'nowhere'"),
        (["--pool", "POOL", "--defense", "none", "--beta", "0.5"], "no parameter 'beta'"),
        (["--pool", "POOL", "--defense", "none", "--budget", "5000"], "has 200"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(pool: str, words: list[str], message: str) -> None:
    done = call(*[pool if word == "POOL" else word for word in words])
    assert done.exit_code != 0
    assert isinstance(done.exception, ValueError)  # which `python -m dcp_core` prints as a sentence
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda logits: torch.nan if logits.requires_grad else 1.0, "clone loss is nan at iteration"),
        (lambda logits: 1.0 if logits.requires_grad else torch.nan, "not numbers from 0 to 1"),
    ],
    ids=["clone", "generator"],
)
def test_networks_that_diverge_end_in_a_sentence(
    pool: str, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Tensor], float], message: str
) -> None:
    monkeypatch.setattr(DFME, "disagreement", lambda self, logits, answers: (logits * broken(logits)).sum(1))
    words = ["--victim", "small", "--attack", "dfme", "--defense", "none", "--budget", "300", "--batch", "16"]
    done = CliRunner().invoke(main, ["attack", *words, "--width", "4", "--threads", "1"])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)  # no traceback
    assert message in done.output
    assert "lower its learning rate" in done.output


def test_a_folder_keeps_one_run(pool: str, tmp_path: Path) -> None:
    list(run(RunSpec("small", "knockoff", {"epochs": 1}, budget=20, pool=pool), tmp_path / "run", device="cpu"))
    with pytest.raises(ValueError, match="belongs to another run"):
        run(RunSpec("small", "knockoff", {"epochs": 1}, budget=21, pool=pool), tmp_path / "run")


def test_ctrl_c_leaves_a_run_that_goes_on_to_the_same_clone(pool: str, home: Path, tmp_path: Path) -> None:
    words = ["--victim", "small", "--attack", "dfme", "--defense", "none", "--budget", "900", "--batch", "16"]
    words += ["--width", "4", "--threads", "1"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert CliRunner().invoke(command, [*words, "--to", str(whole)]).exit_code == 0
    code = "from dcp_core.cli.attack import command; command()"
    line = [sys.executable, "-c", code, *words, "--to", str(stopped)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stderr is not None
    shown = ""
    while "queries" not in shown:  # the progress bar: the theft is under way
        shown += process.stderr.read(1)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "resumes" in out
    assert (stopped / "state.pt").exists()
    assert result(stopped) is None
    assert CliRunner().invoke(command, [*words, "--to", str(stopped)]).exit_code == 0
    assert (stopped / CLONE).read_bytes() == (whole / CLONE).read_bytes()
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (whole, stopped))
    assert one["rows"][0] == other["rows"][0]
    assert one["transfer_rate"] == other["transfer_rate"]
