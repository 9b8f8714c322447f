"""Second networks are trained, stored, attached to defenses, and refused if they are damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from dcp_core import answers
from dcp_core.cli import main
from dcp_core.data.datasets import DataError, load
from dcp_core.defenses import MAD, AdaptiveMisinformation, Deception, GradientRedirection
from dcp_core.evaluation import guides
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.models import auxiliary, storing, zoo
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.training import Recipe, train
from dcp_core.runs.folder import result
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.worker import run


@pytest.fixture
def data(home: Path, tmp_path: Path) -> str:
    """A victim `small` with four easy classes, and the path of its data set."""
    dice = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 192), ("test", 80)):
        labels = np.arange(count) % 4
        shade = (40 + 50 * labels)[:, None, None, None]
        arrays[f"x_{split}"] = (shade + dice.integers(0, 40, (count, 16, 16, 3))).astype(np.uint8)
        arrays[f"y_{split}"] = labels
    path = tmp_path / "data.npz"
    np.savez(path, classes=np.array(list("abcd")), **arrays)  # type: ignore[arg-type]
    torch.manual_seed(1)
    model = build("resnet8", 4)
    pool, test = load(str(path), "train"), load(str(path), "test")
    assert pool.labels is not None
    assert test.labels is not None
    for _ in train(model, pool.images, pool.labels, Recipe(epochs=10, batch_size=32)):
        pass
    card = zoo.Card("small", "Small", str(path), "resnet8", tuple("abcd"), 16)
    storing.save(model, card, predict(model, test.images), test.labels)
    return str(path)


def make(*words: str) -> Result:
    call = ["auxiliary", "--victim", "small", "--threads", "1", "--epochs", "4", *words]
    return CliRunner().invoke(main, call, catch_exceptions=False)


def test_a_misinformation_model_is_wrong_on_purpose(data: str) -> None:
    done = make("--kind", "misinformation", "--epochs", "15")
    assert done.exit_code == 0, done.output
    pool = load(data, "train")
    assert pool.labels is not None
    p = predict(auxiliary.load("small", "misinformation"), pool.images).softmax(-1)
    assert float(p[range(len(pool)), pool.labels].mean()) < 0.1  # chance is 0.25
    about = auxiliary.card("small", "misinformation")
    assert about is not None
    assert (about.pictures, about.recipe["epochs"], about.accuracy < 25) == (192, 15, True)
    assert about.seconds > 0


def test_a_surrogate_learns_the_victims_answers_to_some_pictures(data: str) -> None:
    done = make("--kind", "surrogate", "--pool", data, "--pictures", "150", "--epochs", "10")
    assert done.exit_code == 0, done.output
    pool = load(data, "train").images
    truth, untrained = predict(zoo.load("small").model, pool), auxiliary.load("small", "untrained")
    answers_of = [predict(net, pool).softmax(-1) for net in (auxiliary.load("small", "surrogate"), untrained)]
    learned, before = ((a - truth.softmax(-1)).abs().sum(1).mean() for a in answers_of)
    assert learned < before / 2
    about = auxiliary.card("small", "surrogate")
    assert about is not None
    assert about.pictures == 150


def test_the_untrained_surrogate_is_the_same_each_time(data: str) -> None:
    first, second = (auxiliary.load("small", "untrained").state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_armed_defenses_answer_the_same_in_library_command_and_run(data: str, home: Path, tmp_path: Path) -> None:
    assert make("--kind", "surrogate", "--pool", data).exit_code == 0
    test = load(data, "test")
    defense = GradientRedirection(epsilon=0.8)
    victim = zoo.load("small")
    found = answers.answer(victim, to_pixels(test.images), defense)
    l1 = float((found.defended - found.clean).abs().sum(1).mean())
    assert l1 > 0.1

    guide = guides.guide_of_test_set("small", defense)
    curve = tradeoff_curve(defense, *zoo.test_answers("small"), [0.0, 0.8], guide=guide)
    assert curve["l1"].tolist() == pytest.approx([0.0, l1], abs=1e-5)

    spec = RunSpec("small", "knockoff", {"epochs": 1}, "grad2", {"epsilon": 0.8}, 100, data)
    for _ in run(spec, tmp_path / "run"):
        pass
    ended = result(tmp_path / "run")
    assert ended is not None
    assert ended["rows"][0]["l1"] == pytest.approx(l1, abs=1e-5)
    assert json.loads(ended["rows"][0]["parameters"])["target"] == "all-ones"


def test_a_guide_is_computed_once_and_anew_for_another_setting(data: str, home: Path) -> None:
    def fractions(defense: MAD) -> list[float]:
        seen: list[float] = []
        guides.guide_of_test_set("small", defense, progress=seen.append)
        return seen

    assert fractions(MAD())[-1] == 1.0
    assert fractions(MAD(epsilon=1.5)) == []
    assert fractions(MAD(oracle="argmax"))[-1] == 1.0
    # Another victim of the same name makes the stored one worthless.
    torch.manual_seed(5)
    other, card = build("resnet8", 4), zoo.card("small")
    storing.save(other, card, *zoo.test_answers("small"))
    assert fractions(MAD())[-1] == 1.0
    for stored in (home / "victims" / "small").glob("guide-mad-*"):
        stored.write_bytes(b"rubbish")
    with pytest.raises(zoo.VictimError, match="delete it"):
        guides.guide_of_test_set("small", MAD())


def test_defenses_without_a_network_are_left_alone(data: str) -> None:
    defense = Deception()
    assert auxiliary.arm(defense, "small") is defense
    random = MAD(oracle="random")
    assert auxiliary.arm(random, "small") is random
    assert not torch.equal(
        guides.guide_of_test_set("small", random, seed=1), guides.guide_of_test_set("small", random, seed=2)
    )


def test_what_is_missing_is_said_with_the_command_that_makes_it(data: str, home: Path) -> None:
    with pytest.raises(zoo.VictimError, match="auxiliary --victim small --kind misinformation"):
        auxiliary.arm(AdaptiveMisinformation(), "small")
    with pytest.raises(zoo.VictimError, match="second network"):
        auxiliary.arm(AdaptiveMisinformation(), "torchvision:resnet18")
    assert "needs --pool" in make("--kind", "surrogate").output
    unlabelled = home / "pool.npz"
    np.savez(unlabelled, x_train=np.zeros((4, 16, 16, 3), np.uint8), x_test=np.zeros((4, 16, 16, 3), np.uint8))
    assert "own training set" in make("--kind", "misinformation", "--pool", str(unlabelled)).output
    assert make("--kind", "misinformation").exit_code == 0
    (weights,) = (home / "victims" / "small").glob("misinformation-*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(zoo.VictimError, match="not the file that its card describes"):
        auxiliary.arm(AdaptiveMisinformation(), "small")
    (home / "victims" / "small" / "misinformation.json").write_text("{}")
    with pytest.raises(zoo.VictimError, match="is broken"):
        auxiliary.arm(AdaptiveMisinformation(), "small")
    Path(data).unlink()
    with pytest.raises(DataError, match="no data set"):
        guides.guide_of_test_set("small", MAD())
