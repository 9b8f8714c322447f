"""The main loop of DFME and MAZE; `test_zeroth_order.py` tests its parts."""

import gc
from copy import deepcopy
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from dcp_core.attacks import make_attack
from dcp_core.attacks.data_free import DataFree, Run
from dcp_core.attacks.maze import MAZE
from dcp_core.attacks.replay import Recent, Replay, Reservoir
from dcp_core.attacks.zeroth_order import to_range
from dcp_core.defenses import Defense, NoDefense, ReverseSigmoid


def small(name: str, **changes: Any) -> DataFree:
    made = make_attack(name, **{**toys.SMALL[name], **changes})
    assert isinstance(made, DataFree)
    return made


def generator_gradient(attack: DataFree, defense: Defense) -> tuple[Tensor, Tensor]:
    """The gradient that reaches the generator's pictures before tanh, and the true one of the mean disagreement
    between the clone in eval mode and the defended victim, seen from inside. Both (N, 768)."""
    given = toys.theft(10**6, defense)
    for module in given.clone.modules():  # far from the statistics of any batch: train mode would show
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.running_mean, -0.3)
            nn.init.constant_(module.running_var, 2.0)
        if isinstance(module, nn.Linear):
            module.weight.data *= 20  # as steep as the victim: much of the gradient is the clone's
    clone = deepcopy(given.clone).eval()
    run, seen = Run(attack, given), []
    run.begin(1.0)
    draw = run.draw

    def watch() -> Tensor:
        before = draw()
        before.retain_grad()
        seen.append(before)
        return before

    run.draw = watch  # type: ignore[method-assign]
    attack.improve_generator(run)
    (before,) = seen
    assert before.grad is not None

    pictures = before.detach().clone().requires_grad_(True)
    answers = defense(logits=toys.victim()(to_range(pictures)))
    loss = -attack.disagreement(clone(to_range(pictures)), answers).mean()
    (true,) = torch.autograd.grad(loss, pictures)
    return before.grad.flatten(1), true.flatten(1)


@pytest.mark.parametrize("defense", [NoDefense(), ReverseSigmoid(beta=0.64)], ids=lambda d: d.name)
@pytest.mark.parametrize("name", ["dfme", "maze"])
def test_the_generator_is_sent_where_clone_and_defended_victim_disagree(name: str, defense: Defense) -> None:
    """Scale, sign, tanh, the clone's mode and the defense: along the true gradient, the estimate is as long as it.

    The estimate is unbiased with 100 directions a picture; over 64 pictures the ratio deviates by
    sqrt(2 / 6400) = 2 %, and by a little more as a few pictures have most of the gradient.
    """
    found, true = generator_gradient(small(name, batch=64, directions=100), defense)
    ratio = float((found * true).sum() / (true * true).sum())
    assert ratio == pytest.approx(1, abs=0.05)
    cosine = torch.cosine_similarity(found, true)
    assert float(cosine.mean()) == pytest.approx((100 / 868) ** 0.5, abs=0.05)


@pytest.mark.parametrize("name", ["dfme", "maze"])
def test_the_clone_is_trained_in_train_mode_and_a_cut_batch_leaves_its_statistics(name: str) -> None:
    attack, given = small(name, batch=16), toys.theft(10**6)
    run = Run(attack, given)
    run.begin(1.0)
    pixels, answers = attack.ask(run)
    statistics = [b.clone() for key, b in given.clone.named_buffers() if "running" in key]
    attack.train_clone(run, pixels[:3], answers[:3])
    after = [b for key, b in given.clone.named_buffers() if "running" in key]
    assert all(torch.equal(one, other) for one, other in zip(statistics, after, strict=True))
    attack.train_clone(run, pixels, answers)
    assert not any(torch.equal(one, other) for one, other in zip(statistics, after, strict=True))
    assert given.clone.training


@pytest.mark.parametrize("name", ["dfme", "maze"])
def test_a_frozen_generator_takes_the_same_queries(name: str) -> None:
    """The control: its weights stay, the clone learns."""
    moved, used = {}, {}
    for trained in (True, False):
        attack, given = small(name, train_generator=trained), toys.theft(10**6)
        run, first = Run(attack, given), deepcopy(given.clone.state_dict())
        weights = [each.clone() for each in run.generator.parameters()]
        run.begin(1.0)
        attack.iterate(run)
        after = run.generator.parameters()
        moved[trained] = [not torch.equal(one, other) for one, other in zip(weights, after, strict=True)]
        used[trained] = given.oracle.used
        assert any(not torch.equal(value, first[key]) for key, value in given.clone.state_dict().items())
    assert used[True] == used[False] == small(name).queries_per_iteration
    assert any(moved[True])
    assert not any(moved[False])


def test_both_learning_rates_follow_the_schedule_of_the_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """DFME, 20 iterations: x 0.3 from iterations 2, 6 and 10 on, for the clone and for the generator."""
    rates: list[tuple[float, float]] = []
    iterate = type(small("dfme")).iterate

    def watch(self: Any, run: Run) -> dict[str, Tensor]:
        rates.append((run.clone_optimizer.param_groups[0]["lr"], run.generator_optimizer.param_groups[0]["lr"]))
        return iterate(self, run)

    monkeypatch.setattr(type(small("dfme")), "iterate", watch)
    toys.steal("dfme", toys.theft(224 * 20), lr_clone=0.1, lr_generator=1e-3)
    factors = [1.0] * 2 + [0.3] * 4 + [0.09] * 4 + [0.027] * 10
    assert [clone for clone, _ in rates] == pytest.approx([0.1 * factor for factor in factors])
    assert [generator for _, generator in rates] == pytest.approx([1e-3 * factor for factor in factors])


def test_maze_trains_on_the_estimates_base_point_and_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one iteration: the first clone batch is the base point with its answer, all are kept, replays come last."""
    attack = small("maze")
    given = toys.theft(10**6)
    run = Run(attack, given)
    asked: list[tuple[Tensor, Tensor]] = []
    trained: list[tuple[Tensor, Tensor]] = []
    query, train_clone = type(given.oracle).query, DataFree.train_clone

    def ask(self: Any, images: Tensor) -> Tensor:
        asked.append((images, query(self, images)))
        return asked[-1][1]

    def train(self: DataFree, run: Run, pixels: Tensor, answers: Tensor) -> Tensor:
        trained.append((pixels, answers))
        return train_clone(self, run, pixels, answers)

    monkeypatch.setattr(type(given.oracle), "query", ask)
    monkeypatch.setattr(DataFree, "train_clone", train)
    run.begin(1.0)
    attack.iterate(run)
    for (pixels, answers), (sent, told) in zip(trained[:3], asked, strict=True):
        assert torch.equal(pixels, sent[:16])
        assert torch.equal(answers, told[:16])
    assert len(trained) == 3 + 2
    assert len(run.replay) == 3 * 16
    known = {tuple(row) for row in run.replay.answers[:48].tolist()}
    assert all(tuple(row) in known for _, answers in trained[3:] for row in answers.tolist())


def offer(memory: Replay, first: int, count: int, seed: int) -> None:
    """Offer `count` pictures in one batch; picture and answer hold their number, `first` and up."""
    numbers = torch.arange(first, first + count)
    pixels = (numbers % 256).float().div(255)[:, None, None, None].expand(count, 3, 1, 1)
    memory.add(pixels, numbers.float()[:, None].expand(count, 2), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [Recent, Reservoir])
@pytest.mark.parametrize("written", [3, 4, 6])
def test_a_replay_memory_goes_on_from_its_state(kind: type[Replay], written: int) -> None:
    """Not yet full, just full, and after more pictures than it holds."""
    one, other = (kind(4, (3, 1, 1), 2, torch.device("cpu")) for _ in range(2))
    offer(one, 0, written, seed=1)
    other.load_state(one.state())
    for memory in (one, other):
        offer(memory, written, 5, seed=2)
    assert len(one) == len(other) == 4
    assert torch.equal(one.answers[:4], other.answers[:4])
    assert torch.equal(one.images[:4], other.images[:4])


def test_a_reservoir_keeps_every_picture_with_equal_probability() -> None:
    """60 pictures in batches of 20 through a memory of 30: each is kept in half of the trials.

    Each share of 2,000 trials has the standard deviation 0.011; the bound is 5 of them. Without care for two pictures
    of one batch that get one place, the last batch would deviate.
    """
    kept = torch.zeros(60)
    for trial in range(2000):
        memory = Reservoir(30, (3, 1, 1), 2, torch.device("cpu"))
        for batch in range(3):
            offer(memory, 20 * batch, 20, seed=3 * trial + batch)
        kept[memory.answers[:30, 0].long()] += 1
    assert kept.sum() == 30 * 2000  # no picture is kept twice
    assert float((kept / 2000 - 0.5).abs().max()) < 0.056


def test_a_reservoir_keeps_pictures_with_their_answers() -> None:
    memory = Reservoir(50, (3, 1, 1), 2, torch.device("cpu"))
    for batch in range(10):
        offer(memory, 25 * batch, 25, seed=batch)
    pixels, answers = memory.draw(200, torch.Generator().manual_seed(0))
    assert torch.allclose(pixels[:, 0, 0, 0] * 255, answers[:, 0], atol=1e-4)
    assert float(answers[:, 0].min()) < 50 < 200 < float(answers[:, 0].max())


@pytest.mark.parametrize("name", ["dfme", "maze"])
def test_a_long_run_does_not_grow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors alive anywhere in the process between two iterations: as many bytes late as early."""
    monkeypatch.setattr(MAZE, "buffer", 100)  # full after three iterations
    held: list[int] = []
    begin = Run.begin

    def watch(self: Run, factor: float) -> None:
        begin(self, factor)
        if self.iteration in (12, 60):  # just after log points, which empty the tally of losses
            gc.collect()
            held.append(sum(tensor_bytes(thing) for thing in gc.get_objects()))

    monkeypatch.setattr(Run, "begin", watch)
    attack = small(name)
    for _ in attack.steps(toys.theft(attack.queries_per_iteration * 61)):
        pass
    assert len(held) == 2
    assert held[0] == held[1]


def tensor_bytes(thing: object) -> int:
    return thing.numel() * thing.element_size() if type(thing) in (Tensor, nn.Parameter) else 0
