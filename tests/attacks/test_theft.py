import math
from itertools import pairwise
from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn

from dcp_core.attacks import ATTACKS, AttackError, NanAnswer, Oracle, make_attack
from dcp_core.attacks.replay import Recent
from dcp_core.data.datasets import ImageSet
from dcp_core.defenses import DEFENSES, LabelOnly, ReverseSigmoid

BUDGETS = {"knockoff": 300, "dfme": 8000, "maze": 8000, "disguide": 8000, "jbda": 300}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_undefended_victim_is_stolen(name: str) -> None:
    """Chance is 83 % error; the clone must be right on most pictures and end with the whole budget spent."""
    rates = {"dfme": 1e-3, "maze": 1e-2, "disguide": 1e-3}
    faster: dict[str, Any] = {"lr_generator": rates[name]} if name in rates else {"epochs": 12}
    given = toys.theft(BUDGETS[name], evaluate=toys.judge(), logs=4)
    events = toys.steal(name, given, **faster)
    final = events[-1]
    assert final.fraction == 1
    assert final.scores is not None
    assert final.scores.error < 30
    assert final.scores.fidelity > 70
    assert final.queries == given.oracle.budget
    curve = [event for event in events if event.scores is not None]
    assert len(curve) >= 3
    assert all(a.queries <= b.queries and a.fraction <= b.fraction for a, b in pairwise(events))


def test_knockoff_with_unrelated_pictures_beats_chance() -> None:
    images = torch.randint(0, 256, (600, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pool = ImageSet("blots", images.repeat_interleave(4, 2).repeat_interleave(4, 3), None, ())
    given = toys.theft(600, pool=pool, evaluate=toys.judge())
    scores = toys.steal("knockoff", given, epochs=10)[-1].scores
    assert scores is not None
    assert scores.error < toys.CHANCE_ERROR - 20


def test_the_adaptive_strategy_steals_without_asking_a_picture_twice() -> None:
    given = toys.theft(250, evaluate=toys.judge())
    scores = toys.steal("knockoff", given, strategy="adaptive", epochs=12)[-1].scores
    assert scores is not None
    assert scores.error < 30
    assert given.oracle.used == 250


@pytest.mark.parametrize(
    ("name", "budget", "parameters"),
    [
        ("knockoff", 2, {"epochs": 1}),
        ("knockoff", 257, {"epochs": 1}),
        ("knockoff", 100, {"epochs": 1, "repeats": 3}),  # 33 pictures three times, one once
        ("knockoff", 101, {"epochs": 1, "strategy": "adaptive"}),
        ("dfme", 224, {}),  # one iteration: 32 (1 + 1 + 5)
        ("dfme", 225, {}),
        ("dfme", 500, {}),
        ("maze", 96, {}),  # one iteration: 16 (3 + 3)
        ("maze", 191, {}),
        ("jbda", 2, {"epochs": 1}),
        ("jbda", 331, {"epochs": 1}),  # 100, 200, 331
        ("disguide", 32, {}),  # one iteration
        ("disguide", 77, {}),
        ("disguide", 77, {"targets": "labels"}),
    ],
)
def test_the_budget_is_spent_to_the_last_query(name: str, budget: int, parameters: dict[str, Any]) -> None:
    given = toys.theft(budget)
    assert toys.steal(name, given, **parameters)[-1].queries == budget
    assert given.oracle.left == 0


@pytest.mark.parametrize(("name", "cost"), [("dfme", 256 * (1 + 1 + 5)), ("maze", 128 * 15), ("disguide", 256)])
def test_queries_per_iteration_follow_the_papers(name: str, cost: int) -> None:
    assert make_attack(name).queries_per_iteration == cost  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "calls"), [("dfme", [64] + [32] * 5), ("maze", [64, 16, 16])])
def test_a_gradient_estimate_is_one_call_of_the_victim(
    name: str, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DFME: 32 (1 + 1), then five fresh batches. MAZE: 16 (3 + 1), and the first clone step asks nothing."""
    seen, ask = [], Oracle.query

    def watch(self: Oracle, images: Tensor) -> Tensor:
        seen.append(len(images))
        return ask(self, images)

    monkeypatch.setattr(Oracle, "query", watch)
    toys.steal(name, toys.theft(sum(calls)))
    assert seen == calls


def test_learning_rates_follow_the_papers() -> None:
    dfme, maze = make_attack("dfme"), make_attack("maze")
    assert [dfme.schedule(done) for done in (0, 0.1, 0.3, 0.5)] == pytest.approx([1, 0.3, 0.09, 0.027])  # type: ignore[attr-defined]
    assert [maze.schedule(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])  # type: ignore[attr-defined]
    disguide = make_attack("disguide")
    assert [disguide.schedule(done) for done in (0, 0.39, 0.4, 0.8)] == pytest.approx([1, 1, 0.3, 0.09])  # type: ignore[attr-defined]


def test_losses_match_their_formulas() -> None:
    logits, answers = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.0]])
    kl = 0.5 * math.log(0.5) + 0.5 * math.log(0.5) - 0.5 * float(logits.log_softmax(1)[0, :2].sum())
    assert float(make_attack("maze").disagreement(logits, answers)) == pytest.approx(kl, abs=1e-6)  # type: ignore[attr-defined]
    # log answers: -.6931, -.6931, log 1e-12 = -27.631, mean -9.6724: centred 8.9793, 8.9793, -17.9586
    l1 = (abs(1 - 8.9793) + abs(2 - 8.9793) + abs(0 + 17.9586)) / 3
    assert float(make_attack("dfme").disagreement(logits, answers)) == pytest.approx(l1, abs=1e-3)  # type: ignore[attr-defined]


def test_the_replay_buffer_keeps_the_newest() -> None:
    buffer, rng = Recent(4, (3, 1, 1), 2, torch.device("cpu")), torch.Generator()
    for value in range(6):
        buffer.add(torch.full((1, 3, 1, 1), value / 255), torch.full((1, 2), float(value)), rng)
    assert len(buffer) == 4
    assert sorted(buffer.answers[:4, 0].tolist()) == [2, 3, 4, 5]
    pixels, answers = buffer.draw(50, torch.Generator().manual_seed(0))
    assert torch.allclose(pixels[:, 0, 0, 0] * 255, answers[:, 0], atol=1e-4)  # pictures stay with their answers


def blank(channels: int, side: int) -> ImageSet:
    return ImageSet("blank", torch.zeros(200, channels, side, side, dtype=torch.uint8), None, ())


@pytest.mark.parametrize(
    ("name", "changes", "parameters", "words"),
    [
        ("knockoff", {"pool": None}, {}, "needs a pool"),
        ("knockoff", {"pool": toys.pool(50)}, {}, "has 50"),
        ("knockoff", {"pool": blank(3, 8)}, {}, "resize"),
        ("knockoff", {"pool": blank(1, 16)}, {}, "16"),
        ("knockoff", {"pool": blank(3, 16)}, {"strategy": "adaptive"}, "pool with labels"),
        ("knockoff", {"known_defense": None}, {"treatment": "bayes"}, "needs a known defense"),
        ("knockoff", {"clone": toys.network(1, classes=4)}, {}, "build the clone for 6 classes"),
        ("knockoff", {}, {"repeats": 100}, "at least 2"),
        ("dfme", {}, {}, "one iteration of DFME takes 224"),
        ("jbda", {"pool": None}, {}, "needs a pool"),
        ("jbda", {"pool": blank(3, 8)}, {}, "resize"),
        ("jbda", {}, {"start": 20, "growth": 2}, "give 80 queries"),
        ("jbda", {"pool": toys.pool(50)}, {}, "has 50"),
        ("maze", {}, {"batch": 32}, "one iteration of MAZE takes 192"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_any_query(
    name: str, changes: dict[str, Any], parameters: dict[str, Any], words: str
) -> None:
    given = toys.theft(100, **changes)
    with pytest.raises(AttackError, match=words):
        make_attack(name, **{**toys.SMALL[name], **parameters}).steps(given)
    assert given.oracle.used == 0


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("knock", {}, "unknown attack"),
        ("dfme", {"epochs": 3}, "no parameter 'epochs'"),
        ("dfme", {"batch": 2.5}, "whole number"),
        ("knockoff", {"strategy": "best"}, "one of random, adaptive"),
        ("maze", {"batch": 0}, "between 2 and"),
    ],
)
def test_unknown_names_and_values_are_refused(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_attack(name, **parameters)


def test_every_parameter_is_declared_and_shared_with_no_defense() -> None:
    """The command line has one option for each name."""
    of_attacks = {name for kind in ATTACKS.values() for name in kind.parameters()}
    assert not of_attacks & {name for kind in DEFENSES.values() for name in kind.parameters()}
    assert all(set(kind.parameters()) == set(vars(kind())) for kind in ATTACKS.values())


class FailsLater(nn.Module):
    """Answers NaN after so many pictures."""

    def __init__(self, model: nn.Module, after: int) -> None:
        super().__init__()
        self.model, self.left = model, after

    def forward(self, pixels: Tensor) -> Tensor:
        self.left -= len(pixels)
        return self.model(pixels) * (1.0 if self.left >= 0 else float("nan"))


@pytest.mark.parametrize("name", toys.SMALL)
def test_answers_that_are_not_finite_stop_the_theft_and_keep_what_was_reached(name: str, tmp_path: Any) -> None:
    given = toys.theft(800, model=FailsLater(toys.victim(), 400), folder=tmp_path)
    with pytest.raises(NanAnswer, match="not finite"):
        toys.steal(name, given)
    used = given.oracle.used
    assert 0 < used < 800
    again = toys.theft(800, folder=tmp_path)  # the victim was repaired
    assert toys.steal(name, again)[-1].queries == 800


def test_closing_saves_and_the_rest_is_the_same(tmp_path: Any) -> None:
    whole = toys.theft(448)
    toys.steal("dfme", whole)
    given = toys.theft(448, folder=tmp_path, logs=2)
    events = make_attack("dfme", **toys.SMALL["dfme"]).steps(given)
    assert next(events).queries == 224
    events.close()  # type: ignore[attr-defined]
    again = toys.theft(448, folder=tmp_path)
    toys.steal("dfme", again)
    for key, value in whole.clone.state_dict().items():
        assert torch.equal(value, again.clone.state_dict()[key])


def test_defenses_hinder_and_a_top1_thief_is_hindered_less() -> None:
    """Strong RS on every answer: l1 to the clean answers of the targets, as is against top-1 agreement."""
    defense = ReverseSigmoid(beta=1.28)
    errors = {}
    for treatment in ("as-is", "top-1"):
        given = toys.theft(300, defense, evaluate=toys.judge())
        scores = toys.steal("knockoff", given, epochs=8, treatment=treatment)[-1].scores
        assert scores is not None
        errors[treatment] = scores
    assert errors["top-1"].error <= errors["as-is"].error + 2
    plain = toys.theft(300, LabelOnly(), evaluate=toys.judge())
    same = toys.steal("knockoff", plain, epochs=8)[-1].scores
    assert same is not None
    assert abs(same.error - errors["top-1"].error) < 5  # RS keeps the top class here, and that is all top-1 uses
