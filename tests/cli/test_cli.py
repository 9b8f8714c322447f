"""The command line as a user runs it."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dcp_core import Deception, answer, load_victim, read_image, to_tensor
from dcp_core.cli import COMMANDS, main
from dcp_core.models import zoo
from dcp_core.runs.folder import claim, folder_of
from dcp_core.runs.spec import RunSpec


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_help_names_every_command_and_each_explains_itself() -> None:
    text = run("--help").output
    for name in COMMANDS:
        assert name in text
        assert "Usage" in run(name, "--help").output


def test_perturb_gives_what_the_library_gives(victim: zoo.Victim, picture: Path) -> None:
    result = run("perturb", picture, "--victim", "toy", "--beta", 0.8, "--tau", 1.2, "--gamma", 0.3)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    pixels = to_tensor(read_image(picture), 32)[None]
    expected = answer(load_victim("toy"), pixels, Deception(beta=0.8, tau=1.2, gamma=0.3))
    assert list(row["defended"].values()) == pytest.approx(expected.defended[0].tolist(), abs=1e-7)
    assert list(row["clean"].values()) == pytest.approx(expected.clean[0].tolist(), abs=1e-7)
    assert row["l1"] == pytest.approx(float((expected.defended - expected.clean).abs().sum()), abs=1e-6)


def test_perturb_writes_a_csv_row_for_each_picture_and_names_broken_ones(
    victim: zoo.Victim, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    result = run("perturb", picture, tmp_path / "broken.png", "--victim", "toy", "--format", "csv")
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    table = pd.read_csv(io.StringIO(result.stdout))
    assert table["picture"].tolist() == [str(picture)]
    assert table[[f"defended_{c}" for c in "abcd"]].sum(axis=1).tolist() == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--beta", "7"), "between 0 and 1.5"),
        (("--defense", "rs", "--tau", "0.5"), "no parameter 'tau'"),
        (("--victim", "nobody"), "no victim 'nobody'"),
    ],
)
def test_mistakes_get_a_sentence_and_no_traceback(
    victim: zoo.Victim, picture: Path, arguments: tuple[str, ...], words: str
) -> None:
    options = arguments if "--victim" in arguments else ("--victim", "toy", *arguments)
    result = run("perturb", picture, *options)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output


def test_train_makes_a_victim_that_the_other_commands_know(home: Path, tmp_path: Path, picture: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    y = np.arange(40) % 2
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:10], y_test=y[:10], classes=np.array(["no", "yes"]))
    result = run(
        "train", "--data", path, "--network", "resnet8", "--epochs", 1, "--batch-size", 20, "--threads", 1
    )
    assert result.exit_code == 0, result.output
    assert "mine-resnet8" in run("victims").output
    card = json.loads(run("victims", "mine-resnet8").output)
    assert card["classes"] == ["no", "yes"]
    assert card["recipe"]["epochs"] == 1
    assert not list((home / "training").glob("*.pt"))
    assert run("perturb", picture, "--victim", "mine-resnet8").exit_code == 0


def test_train_does_not_give_a_new_victim_the_runs_of_an_earlier_one(home: Path, tmp_path: Path) -> None:
    x = np.zeros((40, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x, y_test=np.arange(40) % 2)
    spec = RunSpec("mine-resnet8", budget=10, pool="textures")
    claim(spec, folder_of(spec))
    result = run("train", "--data", tmp_path / "mine.npz", "--network", "resnet8", "--epochs", 1)
    assert result.exit_code == 1
    assert "an earlier victim mine-resnet8" in result.output
    assert "mine-resnet8" not in zoo.names()


def test_train_on_a_pool_without_labels_is_refused(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool.npz"
    x = np.zeros((4, 16, 16, 3), np.uint8)
    np.savez(path, x_train=x, x_test=x)
    result = run("train", "--data", path)
    assert result.exit_code == 1
    assert "no labels" in result.output


def test_data_list_and_show(home: Path) -> None:
    assert "python -m dcp_core data download svhn" in run("data", "show", "svhn").output
    listing = run("data", "list").output
    assert "cub200" in listing
    assert "drawn on first use" in listing


def test_decide_lists_cases_and_names_what_to_deploy_within_the_limits(home: Path) -> None:
    cases = run("decide").output.splitlines()
    (gtsrb,) = [name for name in cases if "gtsrb-resnet20" in name]
    answer = run("decide", "gtsrb-resnet20", "--label-only")
    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith(gtsrb)
    assert "deploy: python -m dcp_core serve --victim gtsrb-resnet20 --defense label" in answer.output
    strict = run("decide", "gtsrb-resnet20", "--l1", 0, "--increase", 0)
    assert "every point has a mean l1 on the thief's queries of at least" in strict.output
    assert "No: no measured defense is within your limits." in strict.output


def test_decide_wants_one_case(home: Path) -> None:
    several = run("decide", "knockoff")
    assert several.exit_code == 2
    assert "give more of the name" in several.output
    assert "no cases have 'nothing'" in run("decide", "nothing").output
