"""Victims are loaded as they were saved; damaged ones are refused with a reason."""

from pathlib import Path

import pytest
import torch

from dcp_core.models import zoo
from dcp_core.models.inference import predict


def test_a_saved_victim_answers_as_before(home: Path, victim: zoo.Victim) -> None:
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    again = zoo.load("toy")
    assert torch.equal(predict(victim.model, images), predict(again.model, images))
    logits, labels = zoo.test_answers("toy")
    assert logits.shape == (50, 4)
    assert victim.card.test_accuracy == round(100 * float((logits.argmax(1) == labels).double().mean()), 2)
    assert "toy" in zoo.names()


def test_weights_that_are_not_the_cards_are_refused(home: Path, victim: zoo.Victim) -> None:
    (path,) = (home / "victims" / "toy").glob("weights-*.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(zoo.VictimError, match="sha256"):
        zoo.load("toy")
    path.unlink()
    with pytest.raises(zoo.VictimError, match="cannot be read"):
        zoo.load("toy")


@pytest.mark.parametrize("name", ["nobody", "../toy", "", "/etc"])
def test_unknown_names_list_the_known_ones(home: Path, victim: zoo.Victim, name: str) -> None:
    with pytest.raises(zoo.VictimError, match="toy"):
        zoo.load(name)


def test_torchvision_victims_say_what_is_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(zoo.VictimError, match="no classification model 'resnet999'"):
        zoo.load("torchvision:resnet999")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(zoo.VictimError, match="could not be downloaded"):
        zoo.load("torchvision:squeezenet1_1")


@pytest.mark.parametrize("name", [n for n in zoo.names() if (zoo.PRECOMPUTED / "victims" / n).exists()])
def test_shipped_victims_are_what_their_cards_say(name: str) -> None:
    victim = zoo.load(name)
    logits, labels = zoo.test_answers(name)
    assert len(logits) == victim.card.test_pictures == len(labels)
    assert victim.card.test_accuracy == pytest.approx(
        100 * float((logits.argmax(1) == labels).float().mean()), abs=0.01
    )
    assert len(victim.card.classes) == logits.shape[1]


def test_the_shipped_signs_victim_answers_its_test_set_as_stored() -> None:
    from dcp_core.data.sources import SIGNS_TEST
    from dcp_core.data.synthetic import signs

    images, labels = signs(256, SIGNS_TEST)
    logits, stored = zoo.test_answers("signs-resnet8")
    assert torch.equal(labels, stored[:256])
    answers = predict(zoo.load("signs-resnet8").model, images).softmax(1)
    difference = (answers - logits[:256].softmax(1)).abs()
    # Another processor may round a pixel of a drawn picture differently by one level.
    assert float(difference.mean()) < 1e-3


def test_the_shipped_signs_victim_is_hard_enough_to_be_interesting() -> None:
    logits, labels = zoo.test_answers("signs-resnet8")
    assert 5 <= 100 * float((logits.argmax(1) != labels).float().mean()) <= 12
    assert float((logits.softmax(1).amax(1) < 0.9).float().mean()) >= 0.15
