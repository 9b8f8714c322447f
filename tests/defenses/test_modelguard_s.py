"""ModelGuard-S against the published rule, written answer by answer, and what freezing it promises."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dcp_core.defenses import LabelOnly, ModelGuardS, make_defense
from dcp_core.defenses.modelguard_s import FAR, StoredAnswers, learn_codebook, look_up
from dcp_core.models import auxiliary, zoo

SEQUENCE = torch.tensor(
    [
        [0.9, 0.05, 0.05],
        [0.6, 0.3, 0.1],
        [0.5, 0.1, 0.4],
        [0.34, 0.33, 0.33],
        [0.05, 0.9, 0.05],
        [0.85, 0.1, 0.05],
        [0.7, 0.2, 0.1],
    ],
    dtype=torch.float64,
)


def logits(count: int = 600, classes: int = 6, seed: int = 0) -> Tensor:
    return 2 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(y: Tensor, epsilon: float) -> Tensor:
    """The online form, one posterior after the other."""
    codebook: dict[int, list[Tensor]] = {}
    answers = []
    for row in y:
        centroids = codebook.setdefault(int(row.argmax()), [])
        near = [each for each in centroids if float((each - row).abs().sum()) <= epsilon]
        if not near:
            centroids.append(row)
        answers.append(near[0] if near else row)
    return torch.stack(answers)


def test_the_worked_example() -> None:
    answers = look_up(SEQUENCE, learn_codebook(SEQUENCE, 0.5), 0.5)
    assert torch.equal(answers, SEQUENCE[[0, 1, 2, 2, 4, 0, 0]])


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0, 2.0])
def test_what_it_learned_on_is_answered_as_the_published_form_answers_it(epsilon: float) -> None:
    y = logits().softmax(-1)
    assert torch.equal(look_up(y, learn_codebook(y, epsilon), epsilon), published(y, epsilon))


def test_an_answer_far_from_all_centroids_gets_the_nearest_of_its_class() -> None:
    codebook = learn_codebook(torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.1, 0.4]]), 0.1)
    y = torch.tensor([[0.6, 0.1, 0.3], [0.8, 0.0, 0.2]])
    torch.testing.assert_close(look_up(y, codebook, 0.1), torch.tensor([[0.5, 0.1, 0.4], [0.9, 0.1, 0.0]]))


def test_a_class_without_a_centroid_is_answered_as_it_is() -> None:
    codebook = learn_codebook(torch.tensor([[0.9, 0.1, 0.0]]), 0.5)
    assert codebook[1].tolist() == [[FAR] * 3]
    y = torch.tensor([[0.1, 0.8, 0.1]])
    assert torch.equal(look_up(y, codebook, 0.5), y)


def test_the_top_class_is_kept_and_there_are_few_different_answers() -> None:
    defense, z = ModelGuardS(epsilon=1.0).armed(StoredAnswers(logits())), logits(2000, seed=1)
    answers = defense(logits=z)
    assert torch.equal(answers.argmax(-1), z.argmax(-1))
    assert 6 <= len(answers.unique(dim=0)) <= 60


def test_an_answer_does_not_depend_on_who_asked_before() -> None:
    z = logits(300, seed=2)
    stored = StoredAnswers(logits())
    one, other = (ModelGuardS(epsilon=0.3).armed(stored) for _ in range(2))
    one(logits=z[:150])
    assert torch.equal(one(logits=z[150:]), other(logits=z)[150:])


def test_behind_another_defense_it_learns_what_that_one_answers() -> None:
    stored = StoredAnswers(logits())
    seen = stored.behind(LabelOnly())
    assert seen is stored.behind(LabelOnly())
    one_hot = torch.eye(6, dtype=torch.float64)
    assert torch.equal(seen.codebook(1.0)[:, 0], one_hot)


def test_what_is_missing_is_said() -> None:
    y = torch.tensor([[0.7, 0.2, 0.1]])
    with pytest.raises(ValueError, match="stored answers of the victim: give it some with `armed`"):
        ModelGuardS()(y)
    with pytest.raises(ValueError, match="there are no stored answers"):
        StoredAnswers(torch.empty(0, 3))
    with pytest.raises(ValueError, match="the answers have 3 classes, but the codebook has 6"):
        ModelGuardS().armed(StoredAnswers(logits()))(y)
    for epsilon in (0.0, 2.1):
        with pytest.raises(ValueError, match=r"epsilon must be between 0\.05 and 2"):
            make_defense("mgs", epsilon=epsilon)


def test_a_victim_arms_it_with_a_fifth_of_its_stored_answers(victim: zoo.Victim, home: Path) -> None:
    defense = auxiliary.arm(ModelGuardS(), "toy")
    assert isinstance(defense, ModelGuardS)
    stored, _ = zoo.test_answers("toy")
    assert torch.equal(defense.known().logits, stored[::5])
    with pytest.raises(zoo.VictimError, match="choose a trained victim"):
        auxiliary.arm(ModelGuardS(), "torchvision:resnet18")
