"""The scripts of `examples/` run as their first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_LINES = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def run(script: str, home: Path, *arguments: object) -> str:
    """What a script prints."""
    environment = {**os.environ, "DCP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # in the repository, this package is not installed
    command = [sys.executable, "-m", f"examples.{Path(script).stem}", *map(str, arguments)]
    done = subprocess.run(command, cwd=EXAMPLES.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_short_and_tested_here() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    here = Path(__file__).read_text()
    assert all(f'run("{script.name}"' in here for script in scripts)
    assert all(len(script.read_text().splitlines()) <= MOST_LINES for script in scripts)


def test_a_pictures_answer_is_printed_class_by_class(home: Path) -> None:
    lines = run("perturb_picture.py", home).splitlines()
    rows = [line.split()[-2:] for line in lines[1:-1]]
    assert len(rows) == 16
    for column in zip(*rows, strict=True):
        assert sum(map(float, column)) == pytest.approx(1, abs=0.01)


def test_the_curves_are_a_csv_file(home: Path) -> None:
    run("tradeoff_curve.py", home, home / "curves.csv")
    curves = pd.read_csv(home / "curves.csv")
    assert set(curves["defense"]) == {"dcp", "rs", "random", "mad"}
    assert curves.groupby("defense")["l1"].max().gt(0.5).all()


def test_a_defense_of_ones_own_has_a_curve(home: Path) -> None:
    table = [line.split() for line in run("own_defense.py", home).splitlines()[1:]]
    assert [float(row[2]) == 0 for row in table] == [False, True, False, False]  # T = 1 changes nothing


def test_the_embedded_victim_is_stolen_with_and_without_a_defense(home: Path) -> None:
    said = run("steal.py", home, "--budget", 100, "--epochs", 1)
    finals = [line for line in said.splitlines() if "the clone errs on" in line]
    assert [line.split(":")[0] for line in finals] == ["none", "dcp"]
    assert "mean l1 distance 0.00" in finals[0]
