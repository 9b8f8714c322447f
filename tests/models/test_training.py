"""The training loop learns, resumes bit for bit, and refuses inputs that do not fit."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcp_core import precision
from dcp_core.models.architectures import ARCHITECTURES, build, whiten
from dcp_core.models.inference import predict
from dcp_core.models.training import Recipe, _draw_epoch, augment, train

STRONG = Recipe(
    3, 32, 0.05, decay="weights", schedule="linear", crop_padding=2, border="reflection", flip=True, alternate=True
)


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training computes in bf16, on any processor: where it has no such instructions, slowly."""
    monkeypatch.setattr(precision, "_computes_bf16", lambda kind: True)
    monkeypatch.setenv(precision.VARIABLE, "bf16")


def _bars(count: int) -> tuple[Tensor, Tensor]:
    """Two classes: horizontal or vertical stripes under noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    stripes = (torch.arange(16) // 2 % 2) * 120.0
    images = torch.where(labels.view(-1, 1, 1, 1) == 0, stripes.view(1, 1, 16, 1), stripes.view(1, 1, 1, 16))
    noise = torch.rand(count, 3, 16, 16, generator=generator) * 100
    return (images + noise).to(torch.uint8), labels


def test_training_learns_what_there_is_to_learn() -> None:
    images, labels = _bars(160)
    torch.manual_seed(0)
    model = build("resnet8", 2)
    reports = list(
        train(model, images, labels, Recipe(epochs=4, batch_size=32, lr=0.05, crop_padding=2), report_every=5)
    )
    assert reports[-1].fraction == 1
    assert reports[-1].loss < reports[0].loss
    fresh, truth = _bars(100)
    assert float((predict(model, fresh).argmax(1) == truth).float().mean()) > 0.95


def test_training_in_bf16_learns_as_much_and_keeps_float32_weights(bf16: None) -> None:
    images, labels = _bars(160)
    torch.manual_seed(0)
    model = build("fast_32_64_64", 2)
    whiten(model, images)
    list(train(model, images, labels, Recipe(epochs=4, batch_size=32, lr=0.05, crop_padding=2)))
    assert all(value.dtype == torch.float32 for value in model.parameters())
    fresh, truth = _bars(100)
    assert float((predict(model, fresh).argmax(1) == truth).float().mean()) > 0.95


def test_an_interrupted_training_in_bf16_ends_with_the_same_weights(bf16: None, tmp_path: Path) -> None:
    test_an_interrupted_training_ends_with_the_same_weights(tmp_path, STRONG, "fast_32_64_64")


@pytest.mark.parametrize(
    ("recipe", "network"),
    [
        (Recipe(epochs=3, batch_size=32, lr=0.05, flip=True), "resnet8"),
        (Recipe(epochs=3, batch_size=32, lr=0.05, schedule="cosine", flip=True), "resnet8"),
        (STRONG, "fast_32_64_64"),
    ],
)
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, recipe: Recipe, network: str) -> None:
    images, labels = _bars(90)

    def fresh() -> torch.nn.Module:
        torch.manual_seed(0)
        model = build(network, 2)
        whiten(model, images)
        return model

    whole = fresh()
    list(train(whole, images, labels, recipe))

    checkpoint, halted, seen = tmp_path / "state.pt", fresh(), 0
    for progress in train(
        halted, images, labels, recipe, checkpoint=checkpoint, save_every=0, report_every=1
    ):  # pragma: no branch
        seen = progress.step
        if seen == 5:
            break
    assert seen == 5
    resumed = fresh()
    list(train(resumed, images, labels, recipe, checkpoint=checkpoint))
    for (name, one), two in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_soft_targets_are_accepted() -> None:
    images, labels = _bars(64)
    soft = torch.nn.functional.one_hot(labels, 2) * 0.8 + 0.1
    model = build("resnet8", 2)
    assert list(train(model, images, soft, Recipe(epochs=1, batch_size=32, lr=0.01)))[-1].loss > 0


def test_a_crop_of_the_padded_picture_shifts_it_and_a_mirror_mirrors_it() -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    shift, mirror = torch.tensor([[1, 1], [0, 2]]), torch.tensor([True, False])
    first, second = augment(images, shift, mirror, padding=1)
    torch.testing.assert_close(first * 255, images[0].flip(-1).float())
    expected = torch.zeros(3, 4, 4)
    expected[:, 1:, :3] = images[1, :, :3, 1:]  # one row down, one column left, black behind
    torch.testing.assert_close(second * 255, expected)


def test_a_crop_with_a_reflecting_border_shows_the_picture_beside_itself() -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    shift, mirror = torch.tensor([[2, 2], [0, 4]]), torch.tensor([False, True])
    first, second = augment(images, shift, mirror, padding=2, border="reflection")
    torch.testing.assert_close(first * 255, images[0].float())
    # Two rows down: rows 2 1 0 1. Two columns further: 2 3 2 1, in the mirror 1 2 3 2.
    torch.testing.assert_close(second * 255, images[1][:, [2, 1, 0, 1]][:, :, [1, 2, 3, 2]].float())


def test_an_alternating_mirror_shows_every_picture_both_ways_in_two_epochs() -> None:
    recipe = dataclasses.replace(STRONG, seed=4)
    mirrors = [_draw_epoch(40, recipe, epoch, torch.device("cpu"))[2] for epoch in range(3)]
    assert 5 < int(mirrors[0].sum()) < 35
    assert torch.equal(mirrors[1], ~mirrors[0])
    assert torch.equal(mirrors[2], mirrors[0])
    never = dataclasses.replace(recipe, flip=False)
    assert not _draw_epoch(40, never, 1, torch.device("cpu"))[2].any()


def test_only_weights_decay_where_the_recipe_says_so() -> None:
    """At a learning rate so small that gradients do nothing, decay alone moves a parameter."""
    images, labels = _bars(64)
    recipe = dataclasses.replace(STRONG, epochs=1, lr=1e-6, weight_decay=1e5)
    model = build("resnet8", 2)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    list(train(model, images, labels, recipe))
    for name, value in model.named_parameters():
        shrunk = float(value.detach().norm()) < 0.95 * float(before[name].norm())
        assert shrunk == (value.dim() > 1), name


@pytest.mark.parametrize(
    ("images", "targets", "recipe", "words"),
    [
        (torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), Recipe(), "uint8"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(3).long(), Recipe(), "4 pictures but 3"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1).long(), Recipe(), "at least 2 pictures"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), Recipe(epochs=0), "1 epoch"),
    ],
)
def test_what_does_not_fit_is_refused(images: Tensor, targets: Tensor, recipe: Recipe, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(train(build("resnet8", 2), images, targets, recipe))


def test_a_diverging_training_says_so() -> None:
    images, labels = _bars(64)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        list(train(build("resnet8", 2), images, labels, Recipe(epochs=4, batch_size=32, lr=1e30)))


def test_a_batch_never_holds_a_single_picture() -> None:
    images, labels = _bars(33)
    assert (
        list(train(build("resnet8", 2), images, labels, Recipe(epochs=1, batch_size=32, lr=0.01)))[-1].steps == 1
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_answers_pictures_of_two_sizes(name: str) -> None:
    model = build(name, 7).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 7)
        assert model(torch.rand(1, 3, 48, 48)).shape == (1, 7)


def test_known_parameter_counts() -> None:
    """He et al. give 0.27 M for ResNet-20 and 11.2 M for the CIFAR ResNet-18."""
    counts = {name: sum(p.numel() for p in build(name, 10).parameters()) for name in ("resnet20", "resnet18")}
    assert 0.269e6 < counts["resnet20"] < 0.275e6
    assert 11.1e6 < counts["resnet18"] < 11.2e6


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'resnet21'"):
        build("resnet21", 10)
