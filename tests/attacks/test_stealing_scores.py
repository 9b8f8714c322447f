import pytest
import torch
import toys
from torch import nn

from dcp_core.data.datasets import ImageSet
from dcp_core.evaluation.stealing import Evaluator
from dcp_core.evaluation.transfer import pgd, transfer_rate
from dcp_core.models.inference import predict


class Constant(nn.Module):
    """Says class 0 to everything."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.zeros(len(pixels), dtype=torch.int64), 3).float()


def test_scores_are_exact_means() -> None:
    images = torch.zeros(501, 3, 16, 16, dtype=torch.uint8)  # more than one batch: 500 + 1
    labels = torch.tensor([0] * 400 + [1] * 101)
    judge = Evaluator(images, labels, torch.tensor([0] * 300 + [2] * 201), 3)
    scores = judge(Constant())
    assert scores.error == pytest.approx(100 * 101 / 501)
    assert scores.fidelity == pytest.approx(100 * 300 / 501)
    assert scores.class_errors == (0, 100, 0)
    assert scores.count == 501
    assert judge.victim_error == pytest.approx(100 * 201 / 501)
    assert judge.first(400)(Constant()).error == 0


def test_judging_leaves_the_clone_as_it_was() -> None:
    clone = toys.network(3).train()
    before = {key: value.clone() for key, value in clone.state_dict().items()}
    toys.judge()(clone)
    assert clone.training
    assert all(torch.equal(value, before[key]) for key, value in clone.state_dict().items())


def test_a_test_set_that_does_not_fit_is_refused() -> None:
    images, labels = toys.pictures(10, 1)
    with pytest.raises(ValueError, match="no labels"):
        Evaluator.of(torch.zeros(10, 6), ImageSet("bare", images, None, ()))
    with pytest.raises(ValueError, match="labels up to 9"):
        Evaluator.of(torch.zeros(10, 6), ImageSet("ten", images, torch.arange(10), tuple("abcdefghij")))
    with pytest.raises(ValueError, match="0 test pictures"):
        Evaluator(images[:0], labels[:0], labels[:0], 6)


def test_pgd_stays_within_its_bounds_and_raises_the_loss() -> None:
    images, labels = toys.pictures(40, 9)
    model, epsilon = toys.victim(), 8 / 255
    model.zero_grad()
    adversarial = pgd(model, images, labels, epsilon=epsilon)
    pixels = images.float() / 255
    assert float((adversarial - pixels).abs().max()) <= epsilon + 1e-6
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1
    loss = torch.nn.functional.cross_entropy
    with torch.no_grad():
        assert float(loss(model(adversarial), labels)) > 5 * float(loss(model(pixels), labels))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_adversarial_pictures_transfer_from_a_clone_better_than_from_a_stranger() -> None:
    images, labels = toys.pictures(200, 8)
    given = toys.theft(400)
    toys.steal("knockoff", given, epochs=10)
    wide = 32 / 255
    own = transfer_rate(toys.victim(), toys.victim(), images, labels, epsilon=wide)
    stolen = transfer_rate(given.clone, toys.victim(), images, labels, epsilon=wide)
    stranger = transfer_rate(toys.network(77), toys.victim(), images, labels, epsilon=wide)
    assert stranger < stolen <= own + 5
    assert own > 50
    with pytest.raises(ValueError, match="none of these"):
        transfer_rate(given.clone, Constant(), images[labels == 1], labels[labels == 1])


def test_pictures_that_the_victim_gets_wrong_have_nothing_to_transfer() -> None:
    images, labels = toys.pictures(60, 8)
    right = predict(toys.victim(), images).argmax(1) == labels
    images, labels = images[right], labels[right]
    rate = transfer_rate(toys.victim(), toys.victim(), images, labels, epsilon=16 / 255)
    assert 0 < rate < 100
    wrong = (labels + 1) % toys.CLASSES
    twice, both = images.repeat(2, 1, 1, 1), torch.cat([labels, wrong])
    assert transfer_rate(toys.victim(), toys.victim(), twice, both, epsilon=16 / 255) == rate
