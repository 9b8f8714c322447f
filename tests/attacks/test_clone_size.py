"""A clone that sees smaller pictures than the victim: they are reduced once, not in each training step."""

import dataclasses

import pytest
import torch
import toys

from dcp_core.attacks import Oracle, Theft
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses import NoDefense
from dcp_core.evaluation.stealing import Evaluator
from dcp_core.models.inference import reduced, resized, to_pixels

LARGE = 2 * toys.SIDE


def _large(pool: ImageSet) -> ImageSet:
    """The same pictures with twice the side."""
    return dataclasses.replace(pool, images=pool.images.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_reduced_pictures_are_those_that_the_network_would_compute() -> None:
    images = _large(toys.pool(100)).images
    small = reduced(images, toys.SIDE)
    assert small.dtype == torch.uint8
    assert small.shape[1:] == toys.SHAPE
    torch.testing.assert_close(to_pixels(small), resized(to_pixels(images), toys.SIDE), atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize("side", [None, LARGE, 2 * LARGE])
def test_pictures_are_never_enlarged(side: int | None) -> None:
    images = _large(toys.pool(4)).images
    assert reduced(images, side) is images


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("knockoff", {}),
        ("knockoff", {"rotations": True}),
        ("knockoff", {"treatment": "bayes", "prior": "shadows", "shadows": 1}),
        ("jbda", {}),
    ],
)
def test_no_training_step_resizes_pictures(
    attack: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Oracle(toys.victim(), NoDefense(), 200, shape=(3, LARGE, LARGE), side=toys.SIDE, seed=5)
    clone = toys.network(11)
    clone.side = toys.SIDE
    trained: list[int] = []
    normalise = type(clone).normalise

    def watched(self, pixels):
        if self.training and torch.is_grad_enabled():
            trained.append(pixels.shape[-1])
        return normalise(self, pixels)

    monkeypatch.setattr(type(clone), "normalise", watched)
    given = Theft(oracle, clone, pool=_large(toys.pool()), known_defense=NoDefense(), evaluate=toys.judge())
    scores = toys.steal(attack, given, **options)[-1].scores
    assert set(trained) == {toys.SIDE}
    assert scores is not None
    assert scores.error < toys.CHANCE_ERROR - 30


def test_learning_curves_use_reduced_pictures_and_find_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    test = _large(toys.pool(300))
    assert test.labels is not None
    clone = toys.victim()
    monkeypatch.setattr(clone, "side", toys.SIDE)
    judge = Evaluator(test.images, test.labels, test.labels, toys.CLASSES)
    expected = judge.first(200)(clone).error
    seen: list[int] = []
    with clone.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0].shape[-1])):
        found = judge.first(200, toys.SIDE)(clone).error
    assert set(seen) == {toys.SIDE}
    assert found == pytest.approx(expected, abs=1.5)
