from dataclasses import dataclass
from types import FunctionType
from typing import Any, ClassVar

import pytest
import torch
import toys
from torch import Tensor, nn

from dcp_core.attacks import AttackError, BudgetSpent, NanAnswer, Oracle
from dcp_core.defenses import Deception, NoDefense, RandomNoise
from dcp_core.defenses.base import Answer, Defense


class Recording(nn.Module):
    """A victim that counts what it answers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.answered = model, 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.answered += len(pixels)
        return self.model(pixels)


@dataclass(frozen=True)
class Halfway(Defense):
    """Marks every answer: half-way to uniform, so the least posterior is at least 1 / 2K."""

    name: ClassVar[str] = "halfway"
    title: ClassVar[str] = "Half-way"

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return (answer.y + 1 / answer.y.shape[1]) / 2


def oracle(budget: int, defense: Defense | None = None, model: nn.Module | None = None, seed: int = 5) -> Oracle:
    return Oracle(model or toys.victim(), defense or NoDefense(), budget, shape=toys.SHAPE, seed=seed)


def test_the_last_batch_is_cut_and_nothing_is_answered_after_it() -> None:
    asked = oracle(25)
    images = toys.pictures(20, 1)[0]
    assert len(asked.query(images)) == 20
    assert len(asked.query(images)) == 5
    assert (asked.used, asked.left) == (25, 0)
    with pytest.raises(BudgetSpent, match="25"):
        asked.query(images)


def test_uint8_and_float_pictures_get_the_same_defended_answer() -> None:
    images = toys.pictures(20, 1)[0]
    asked, defense = oracle(100, Deception(beta=1.2)), Deception(beta=1.2)
    with torch.no_grad():
        clean = toys.victim()(images.float() / 255)
    answers = asked.query(images)
    assert torch.allclose(answers, defense(logits=clean), atol=1e-6)
    assert torch.equal(answers, asked.query(images.float() / 255))
    assert not answers.requires_grad
    assert not answers.is_inference()


def test_the_ledger_notes_the_l1_of_all_answers() -> None:
    images = toys.pictures(50, 1)[0]
    asked = oracle(100, Halfway())
    answers = asked.query(images)
    with torch.no_grad():
        clean = toys.victim()(images.float() / 255).softmax(1)
    assert asked.ledger.answers == 50
    assert asked.ledger.mean_l1 == pytest.approx(float((answers - clean).abs().sum(1).mean()), abs=1e-5)


def test_random_answers_go_on_from_a_saved_state() -> None:
    images = toys.pictures(30, 1)[0]
    first = oracle(100, RandomNoise(epsilon=1.0))
    first.query(images)
    state = first.state()
    second = oracle(100, RandomNoise(epsilon=1.0), seed=99)
    second.load_state(state)
    assert torch.equal(first.query(images), second.query(images))
    assert second.used == 60


@pytest.mark.parametrize("shape", [(4, 1, 16, 16), (4, 3, 8, 8), (3, 16, 16)])
def test_pictures_of_another_shape_are_refused_and_not_counted(shape: tuple[int, ...]) -> None:
    asked = oracle(10)
    with pytest.raises(AttackError, match="takes pictures"):
        asked.query(torch.zeros(shape))
    assert asked.used == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_what_is_no_picture_is_refused_and_not_counted(value: float) -> None:
    asked, images = oracle(10), torch.rand(4, *toys.SHAPE)
    images[2, 1, 3, 3] = value
    with pytest.raises(AttackError, match="not numbers from 0 to 1"):
        asked.query(images)
    assert asked.used == 0


def test_a_budget_below_one_and_a_broken_victim_are_refused() -> None:
    with pytest.raises(AttackError, match="budget"):
        oracle(0)
    broken = toys.network(1)
    nn.init.constant_(next(broken.parameters()), float("nan"))
    with pytest.raises(AttackError, match="finite"):
        oracle(10, model=broken)


def test_an_answer_that_is_not_finite_raises_and_counts() -> None:
    model = toys.network(1)
    asked = oracle(10, model=model)
    nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(NanAnswer):
        asked.query(toys.pictures(4, 1)[0])
    assert asked.used == 4


def reachable(thing: object, seen: dict[int, object] | None = None) -> dict[int, object]:
    """Everything reached from an object through attributes, slots, containers and bound methods (not through
    closures)."""
    seen = {} if seen is None else seen
    if id(thing) in seen or isinstance(thing, FunctionType | type | str | int | float | Tensor):
        return seen
    seen[id(thing)] = thing
    parts = list(getattr(thing, "__dict__", {}).values())
    parts += [getattr(thing, name, None) for name in ("__self__", *getattr(type(thing), "__slots__", ()))]
    if isinstance(thing, dict):
        parts += thing.values()
    if isinstance(thing, list | tuple | set):
        parts += thing
    for part in parts:
        reachable(part, seen)
    return seen


@pytest.mark.parametrize("name", toys.SMALL)
def test_no_attack_gets_a_clean_answer_or_the_victim(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording victim and a defense that marks: all that comes out is marked, and every answer was counted."""
    model = Recording(toys.victim())
    given = toys.theft(300, Halfway(), model, pool=toys.pool(300), evaluate=toys.judge())
    found = [thing for thing in reachable(given).values() if isinstance(thing, nn.Module)]
    assert model not in found
    assert toys.victim() not in found

    model.answered, ask = 0, Oracle.query
    answers: list[Tensor] = []

    def watch(self: Oracle, images: Tensor) -> Tensor:
        answers.append(ask(self, images))
        return answers[-1]

    monkeypatch.setattr(Oracle, "query", watch)
    toys.steal(name, given)
    assert model.answered == sum(map(len, answers)) == given.oracle.used == 300
    assert float(torch.cat(answers).min()) >= 0.5 / toys.CLASSES - 1e-6
