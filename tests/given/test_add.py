"""A given classifier as a victim: stored whole or not at all, and used by every command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from networks import CLASSES, archive, network, pixels, saved

from dcp_core import answer, arm
from dcp_core.cli import main
from dcp_core.data.datasets import load, path_of
from dcp_core.defenses import make_defense
from dcp_core.files import write_atomic
from dcp_core.given import accept, examine, remove
from dcp_core.making import finish, make_quantized, make_second_network
from dcp_core.models import zoo
from dcp_core.models.export import export
from dcp_core.models.inference import predict
from dcp_core.runs.folder import claim, folder_of
from dcp_core.runs.spec import RunSpec


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


@pytest.fixture
def mine(home: Path, tmp_path: Path) -> zoo.Card:
    """The toy classifier with probabilities, as a victim."""
    file = saved(tmp_path, network(after="y = Softmax <axis = 1> (z)"))
    return accept("mine", finish(examine(file, archive(tmp_path))))


def stored(home: Path) -> list[str]:
    return sorted(str(each.relative_to(home)) for each in home.rglob("*") if each.is_file())


def test_a_victim_has_its_card_pictures_and_answers(mine: zoo.Card) -> None:
    assert mine.test_accuracy == 100
    assert mine.preprocessing["order"] == "RGB"
    test = load(mine.dataset, "test")
    logits, labels = zoo.test_answers("mine")
    torch.testing.assert_close(
        predict(zoo.load("mine").model, test.images).softmax(1), logits.softmax(1), atol=1e-5, rtol=0
    )
    assert torch.equal(test.labels, labels)  # type: ignore[arg-type]


def test_the_command_shows_the_check_and_asks(home: Path, tmp_path: Path) -> None:
    given = ["victims", "add", "mine", str(saved(tmp_path, network())), "--data", archive(tmp_path)]
    refused = run(*given, input="n\n")
    assert "accuracy 100.00 %" in refused.output
    assert refused.exit_code == 1
    assert stored(home) == []
    assert run(*given, input="y\n").exit_code == 0
    assert "mine" in run("victims").output
    assert json.loads(run("victims", "mine").output)["classes"] == list(CLASSES)
    again = run(*given, "--yes")
    assert again.exit_code == 1
    assert "--replace" in again.output
    assert run(*given, "--yes", "--replace").exit_code == 0


def test_removing_leaves_nothing(mine: zoo.Card, home: Path) -> None:
    assert run("victims", "remove", "mine", "--yes").exit_code == 0
    assert stored(home) == []
    shipped = run("victims", "remove", "signs-resnet8", "--yes")
    assert "cannot be removed" in shipped.output


@pytest.mark.parametrize("when", range(4))
def test_an_interrupted_add_leaves_nothing_behind(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    found = finish(examine(saved(tmp_path, network()), archive(tmp_path)))
    left = when

    def limited(*arguments: Any, **options: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        write_atomic(*arguments, **options)

    monkeypatch.setattr("dcp_core.given.add.write_atomic", limited)
    monkeypatch.setattr("dcp_core.models.cards.write_atomic", limited)
    with pytest.raises(KeyboardInterrupt):
        accept("mine", found)
    assert "mine" not in zoo.names()
    assert stored(home) == []


def test_ctrl_c_during_the_check_says_that_nothing_is_stored(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dcp_core.models.given_onnx.GivenNetwork.__call__", interrupted)
    found = run("victims", "add", "mine", str(saved(tmp_path, network())), "--data", archive(tmp_path))
    assert "stopped; nothing was stored" in found.output
    assert found.exit_code == 130
    assert stored(home) == []


def test_replacing_removes_the_old_pictures(mine: zoo.Card, tmp_path: Path) -> None:
    images = np.load(archive(tmp_path))["images"]
    found = finish(examine(saved(tmp_path, network()), archive(tmp_path, images=255 - images)))
    new = accept("mine", found, replace=True)
    assert not path_of(mine.dataset).exists()
    assert path_of(new.dataset).exists()


def test_another_model_does_not_get_the_runs_of_a_removed_one(mine: zoo.Card, tmp_path: Path) -> None:
    spec = RunSpec("mine", budget=10, pool="textures")
    claim(spec, folder_of(spec))
    remove("mine")
    given = ["--data", archive(tmp_path), "--yes"]
    again = run("victims", "add", "mine", str(saved(tmp_path, network())), *given)
    assert "runs or results of an earlier victim mine" in again.output
    assert "mine" not in zoo.names()
    assert run("victims", "add", "other", str(saved(tmp_path, network())), *given).exit_code == 0


@pytest.mark.parametrize("name", ["none", "dcp", "rs", "topk", "mgs"])
def test_defenses_are_grafted_onto_the_given_graph(mine: zoo.Card, name: str) -> None:
    content, report = export("mine", make_defense(name))
    assert report.network_difference <= 1e-5
    seen = pixels()
    (found,) = onnxruntime.InferenceSession(content).run(None, {"pixels": seen.numpy()})
    expected = answer(zoo.load("mine"), seen, make_defense(name)).defended
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_second_networks_are_of_a_small_architecture_of_ours(mine: zoo.Card, tmp_path: Path) -> None:
    images, labels = (np.load(archive(tmp_path))[name] for name in ("images", "labels"))
    np.savez(tmp_path / "pool.npz", x_train=images, y_train=labels, classes=np.array(CLASSES))
    for kind in ("surrogate", "misinformation"):
        making = make_second_network("mine", kind, pool=str(tmp_path / "pool.npz"), pictures=32, epochs=1)
        assert finish(making).architecture == "resnet8"
    for name in ("am", "mad", "grad2"):
        defended = answer(zoo.load("mine"), pixels(4), arm(make_defense(name), "mine")).defended
        torch.testing.assert_close(defended.sum(1), torch.ones(4))


def test_eight_bits_come_from_onnx_runtimes_quantizer(mine: zoo.Card) -> None:
    card = finish(make_quantized("mine", "ptq", pictures=64))
    assert (card.name, card.precision, card.of) == ("mine-ptq", "ptq", "mine")
    assert card.test_accuracy == pytest.approx(100, abs=5)
    assert card.recipe["calibrated_on"] == "the test pictures, without labels"
    assert b"QuantizeLinear" in zoo.onnx_file("mine-ptq")
    with pytest.raises(zoo.VictimError, match="only ptq"):
        finish(make_quantized("mine", "qat"))
    remove("mine")
    assert load(card.dataset, "test")  # the eight-bit version still needs them


def test_it_is_stolen_and_every_query_is_counted(mine: zoo.Card, home: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (60, 24, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "pool.npz", x_train=images)
    attack = [
        "attack",
        "--victim",
        "mine",
        "--pool",
        str(tmp_path / "pool.npz"),
        "--budget",
        "40",
        "--epochs",
        "1",
    ]
    done = run(*attack, "--clone", "resnet8", "--defense", "none", "--to", str(tmp_path / "run"))
    assert "after 40 queries" in done.output, done.output


def test_a_run_without_a_clone_size_keeps_its_key() -> None:
    spec = RunSpec("signs-resnet8", pool="signs_pool")
    assert spec.key == RunSpec.from_json(spec.to_json()).key
    assert spec.key != RunSpec("signs-resnet8", pool="signs_pool", clone_size=24).key
    assert "--clone-size" not in spec.command
    assert "--clone-size 24" in RunSpec("signs-resnet8", pool="signs_pool", clone_size=24).command


@pytest.mark.parametrize(
    ("clone_size", "victim", "pool", "sides"),
    [
        (0, 32, 32, (32, 32)),
        (0, 224, 224, (224, 64)),
        (96, 224, 224, (224, 96)),
        (0, 224, 32, (32, 32)),  # the service enlarges small pictures
        (0, 224, None, (64, 64)),  # a generator makes pictures of the clone's size
        (0, 28, 32, (32, 28)),
    ],
)
def test_sides_of_what_is_sent_and_of_what_the_clone_sees(
    clone_size: int, victim: int, pool: int | None, sides: tuple[int, int]
) -> None:
    spec = RunSpec("v", pool="p", clone_size=clone_size)
    assert spec.sides(victim, pool) == sides
