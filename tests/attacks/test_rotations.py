"""S4L: the clone also learns rotations of pictures of the pool."""

from copy import deepcopy

import torch
import toys
from torch import nn

from dcp_core.attacks.rotations import RotationTask
from dcp_core.models.architectures import ARCHITECTURES, build
from dcp_core.models.training import Recipe


def test_the_rotation_loss_is_that_of_the_four_rotations_by_the_last_features() -> None:
    clone, recipe = toys.network(11), Recipe(batch_size=8, crop_padding=0, seed=3)
    pool = toys.pool(1).images  # one picture, so that the draw is known
    task = RotationTask(clone, pool, recipe).eval()
    pixels = (pool[0].float() / 255)[None]
    by_hand = 0.0
    for quarter in range(4):
        features = nn.Sequential(*list(clone.network)[:-1])(clone.normalise(pixels.rot90(quarter, (2, 3))))
        by_hand -= task.head(features).log_softmax(1)[0, quarter].item() / 4
    torch.testing.assert_close(task.rotation_loss(0).item(), by_hand, atol=1e-5, rtol=0)


def test_rotated_pictures_leave_the_statistics_and_answers_alone() -> None:
    clone = toys.network(11).train()
    task, pixels = RotationTask(clone, toys.pool().images, Recipe(batch_size=8)), torch.rand(4, *toys.SHAPE)
    before = deepcopy({name: value for name, value in clone.named_buffers() if "running" in name})
    task.rotation_loss(0).backward()
    assert all(torch.equal(value, before[name]) for name, value in clone.named_buffers() if name in before)
    assert all(norm.momentum == 0.1 for norm in clone.modules() if isinstance(norm, nn.BatchNorm2d))
    assert clone.network[0].weight.grad.abs().sum() > 0  # the features learn, not only the head
    assert torch.equal(task.eval()(pixels), clone.eval()(pixels))


def test_every_architecture_ends_with_a_layer_whose_features_tell_rotations() -> None:
    for name in ARCHITECTURES:
        if not name.startswith(("resnet18", "resnet34", "wrn40")):  # slow, and built like the others
            clone = build(name, 5).train()
            loss = RotationTask(clone, toys.pool(20).images, Recipe(batch_size=8)).rotation_loss(0)
            assert bool(loss.isfinite()), name


def test_a_thief_who_learns_rotations_steals_without_more_queries() -> None:
    given = toys.theft(60, evaluate=toys.judge())
    scores = toys.steal("knockoff", given, epochs=20, rotations=True)[-1].scores
    assert scores is not None
    assert scores.error < toys.CHANCE_ERROR - 30
    assert given.oracle.used == 60
