"""Victims and second networks are made from Python, and an interrupted training goes on.

Eight-bit versions and ONNX files are made by `tests/cli/test_edge_commands.py`, because that takes long.
"""

import ast
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dcp_core import making
from dcp_core.making import Progress, finish, make_onnx, make_quantized, make_second_network, make_victim
from dcp_core.models import auxiliary, zoo

RECIPE: dict[str, Any] = {"epochs": 2, "batch_size": 16}


@pytest.fixture
def data(home: Path, tmp_path: Path) -> str:
    """The path of a data set of two classes."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {"classes": np.array(["dark", "bright"])}
    for split, count in (("train", 80), ("test", 20)):
        labels = np.arange(count) % 2
        shade = (60 + 100 * labels)[:, None, None, None]
        arrays[f"x_{split}"] = (shade + generator.integers(0, 60, (count, 16, 16, 3))).astype(np.uint8)
        arrays[f"y_{split}"] = labels
    path = tmp_path / "shades.npz"
    np.savez(path, **arrays)
    return str(path)


def interrupt(steps: Any, count: int = 1) -> None:
    """Take some reports of a training, and close it."""
    for _ in range(count):
        next(steps)
    steps.close()


def test_a_victim_is_made_with_its_card_and_reports_all_of_its_work(data: str) -> None:
    seen: list[Progress] = []
    card = finish(make_victim(data, "resnet8", **RECIPE), seen.append)
    assert card == zoo.card("shades-resnet8")
    assert (card.train_pictures, card.test_pictures, card.recipe["batch_size"]) == (80, 20, 16)
    fractions = [each.fraction for each in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert "loss" in seen[0].words


def test_an_interrupted_victim_goes_on_to_the_same_weights(
    data: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finish(make_victim(data, "resnet8", name="whole", **RECIPE))
    monkeypatch.setattr("dcp_core.models.training.PULSE", -1.0)  # a report after each step
    interrupt(make_victim(data, "resnet8", name="halted", **RECIPE), 3)
    assert "halted" not in zoo.names()
    (checkpoint,) = (home / "training").glob("halted-*.pt")
    assert torch.load(checkpoint)["step"] == 3
    assert finish(make_victim(data, "resnet8", name="halted", **RECIPE)).sha256 == whole.sha256
    assert not checkpoint.exists()


def test_other_arguments_do_not_go_on_from_an_interrupted_training(
    data: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finish(make_victim(data, "resnet8", name="whole", **RECIPE | {"epochs": 1}))
    monkeypatch.setattr("dcp_core.models.training.PULSE", -1.0)
    interrupt(make_victim(data, "resnet8", name="mine", **RECIPE), 3)
    assert finish(make_victim(data, "resnet8", name="mine", **RECIPE | {"epochs": 1})).sha256 == whole.sha256
    assert finish(make_victim(data, "resnet20", name="mine", epochs=1)).architecture == "resnet20"


def test_a_second_network_goes_on_and_is_that_of_the_card(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(make_victim(data, "resnet8", **RECIPE))
    given = ("shades-resnet8", "surrogate")
    whole = finish(make_second_network(*given, pool=data, pictures=40, **RECIPE))
    assert whole == auxiliary.card(*given)
    assert whole.pictures == 40
    monkeypatch.setattr("dcp_core.models.training.PULSE", -1.0)
    interrupt(make_second_network(*given, pool=data, pictures=40, **RECIPE), 2)
    again = finish(make_second_network(*given, pool=data, pictures=40, **RECIPE))
    assert dataclasses.replace(again, seconds=whole.seconds) == whole


def test_making_leaves_torchs_random_state_alone(data: str) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    finish(make_victim(data, "resnet8", **RECIPE))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda data: make_victim(data, epoch=3), "no field 'epoch'; its fields are epochs"),
        (lambda data: make_victim(data, epochs="3"), "epochs must be a whole number"),
        (lambda data: make_victim(data, epochs=True), "epochs must be a whole number"),
        (lambda data: make_victim(data, flip=1), "flip must be true or false"),
        (lambda data: make_victim(data, lr="fast"), "lr must be a number"),
        (lambda data: make_victim(data, schedule="sometimes"), "schedule must be one of onecycle, cosine"),
        (lambda data: make_victim(data, "resnet9"), "unknown architecture 'resnet9'"),
        (lambda data: make_victim(data, name="../up"), "cannot be one"),
        (lambda data: make_victim("nothing.npz"), "no data set 'nothing.npz'"),
        (lambda data: make_second_network("nobody", "surrogate", pool=data), "no victim 'nobody'"),
        (lambda data: make_second_network("signs-resnet8", "surrogate"), "needs a pool"),
        (lambda data: make_second_network("signs-resnet8", "third"), "unknown kind of second network 'third'"),
        (lambda data: make_second_network("signs-resnet8", "misinformation", pool=data), "own training set"),
        (lambda data: make_quantized("signs-resnet8-ptq"), "take signs-resnet8 instead"),
        (lambda data: make_quantized("signs-resnet8", "int4"), "unknown quantization method 'int4'"),
        (lambda data: make_onnx("signs-resnet8-ptq"), "take signs-resnet8 instead"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(data: str, home: Path, make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        finish(make(data))
    assert not (home / "victims").exists()


def test_the_library_needs_no_command_line_to_make_things() -> None:
    for path in Path(making.__file__).parent.glob("*.py"):
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            )
            if name
        }
        assert not imported & {"click", "tqdm", "streamlit"}
