import pytest
import torch
import toys
from torch import Tensor

from dcp_core.attacks.adaptive import treat
from dcp_core.attacks.bandit import Bandit
from dcp_core.attacks.recovery import finished, learned_inverse, partial_bayes, prior
from dcp_core.attacks.transfer_set import TransferSet
from dcp_core.defenses import Deception, Defense, LabelOnly, ModelGuardS, RandomNoise, ReverseSigmoid
from dcp_core.defenses.modelguard_s import StoredAnswers


def posteriors(count: int = 400, classes: int = 10) -> Tensor:
    """Clean answers of a victim nobody knows: logits ~ N(0, 9), not the thief's prior."""
    return (3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(4))).softmax(1)


def l1(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum(1).mean())


@pytest.mark.parametrize("defense", [Deception(beta=0.9), ReverseSigmoid(beta=0.64), ReverseSigmoid(beta=0.16)])
def test_knowing_the_defense_recovers_most_of_the_clean_answer(defense: Defense) -> None:
    clean = posteriors()
    perturbed = defense(clean)
    as_is = l1(perturbed, clean)
    for recover, parameters in ((partial_bayes, {"rows": 30_000}), (learned_inverse, {"steps": 800})):
        found = finished(recover(perturbed, defense, 0, **parameters))
        assert torch.allclose(found.sum(1), torch.ones(len(found)), atol=1e-4)
        assert l1(found, clean) < 0.55 * as_is


def test_recovery_is_a_function_of_its_arguments() -> None:
    perturbed = Deception(beta=1.2)(posteriors(20))
    state = torch.random.get_rng_state()
    first = finished(learned_inverse(perturbed, Deception(beta=1.2), 3, steps=20))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, finished(learned_inverse(perturbed, Deception(beta=1.2), 3, steps=20)))


def test_classes_may_be_renamed() -> None:
    perturbed, order = ReverseSigmoid(beta=0.64)(posteriors(20)), torch.randperm(10)
    known = ReverseSigmoid(beta=0.64)
    renamed = finished(partial_bayes(perturbed[:, order].contiguous(), known, 0, rows=2000))
    assert torch.allclose(renamed, finished(partial_bayes(perturbed, known, 0, rows=2000))[:, order], atol=1e-4)


def test_behind_a_codebook_the_thief_expects_the_mean_of_what_a_centroid_stands_for() -> None:
    """One centroid a class, with posteriors of .5, .6, .7, ... for it: the class is told by that alone."""
    peaks = torch.linspace(0.5, 0.95, 10)
    centroids = torch.diag(peaks) + (1 - peaks)[:, None] * (1 - torch.eye(10)) / 9
    known = ModelGuardS(epsilon=2.0).armed(StoredAnswers(centroids.log()))
    assert not known.symmetric
    drawn = prior(30_000, 10, torch.Generator().manual_seed(0))
    expected = torch.stack([drawn[drawn.argmax(1) == k].mean(0) for k in range(10)])
    for recover, parameters, off in (
        (partial_bayes, {"rows": 30_000}, 1e-4),
        (learned_inverse, {"steps": 500}, 0.1),
    ):
        found = finished(recover(known(posteriors(50)), known, 0, **parameters))
        assert float((found - expected[posteriors(50).argmax(1)]).abs().sum(1).max()) < off


def test_equal_answers_are_recovered_as_the_mean_of_all_that_they_may_be() -> None:
    """Behind labels alone: of all clean posteriors with that top class, whose others are alike but for chance."""
    found = finished(partial_bayes(LabelOnly()(posteriors(50)), LabelOnly(), 0, rows=30_000))
    assert torch.equal(found.argmax(1), posteriors(50).argmax(1))
    top = found.amax(1)
    torch.testing.assert_close(top, top[:1].expand_as(top))


def test_top1_keeps_only_the_top_class() -> None:
    answers = posteriors(50)
    targets = finished(treat(answers, "top-1", None, 0))
    assert torch.equal(targets.argmax(1), answers.argmax(1))
    assert set(targets.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(finished(treat(answers, "as-is", None, 0)), answers)


def test_the_prior_is_broad_and_treats_classes_alike() -> None:
    drawn = prior(20_000, 10, torch.Generator().manual_seed(0))
    tops = drawn.amax(1)
    assert float((tops > 0.99).float().mean()) > 0.1
    assert float((tops < 0.3).float().mean()) > 0.1
    assert torch.allclose(drawn.mean(0), torch.full((10,), 0.1), atol=0.01)


def transfer_set(repeats: int, defense: Defense, pictures: int = 60) -> tuple[TransferSet, Tensor]:
    """What the thief has after asking, and the clean answers."""
    asked = TransferSet(toys.theft(pictures * repeats, defense), repeats)
    while not asked.complete:
        asked.ask()
    with torch.no_grad():
        clean = toys.victim()(asked.images[asked.indices].float() / 255).softmax(1)
    return asked, clean


def test_asking_again_wears_random_noise_off() -> None:
    """Noise moves mass eps/2 to one of K-1 classes: the mean of q answers keeps the bias, its scatter shrinks."""
    single, clean = transfer_set(1, RandomNoise(epsilon=1.0))
    many, same = transfer_set(25, RandomNoise(epsilon=1.0))
    assert many.oracle.used == 25 * 60  # every repeat is a query
    assert l1(many.answers, same) < l1(single.answers, clean)
    # After the bias eps/2 (uniform over the others) is taken off, what is left is the scatter.
    other = (1 - torch.nn.functional.one_hot(same.argmax(1), toys.CLASSES)) / (toys.CLASSES - 1)
    assert l1(many.answers, 0.5 * same + 0.5 * other) < 0.35 * l1(single.answers, 0.5 * clean + 0.5 * other)


def test_the_last_picture_may_be_asked_less_often_than_the_others() -> None:
    asked = TransferSet(toys.theft(61, RandomNoise(epsilon=1.0)), repeats=4)  # 15 pictures four times, one once
    while not asked.complete:
        asked.ask()
    assert asked.count == 16
    assert torch.allclose(asked.answers.sum(1), torch.ones(16), atol=1e-5)


def test_asking_again_changes_nothing_without_randomness() -> None:
    single, _ = transfer_set(1, Deception(beta=1.2))
    many, _ = transfer_set(3, Deception(beta=1.2))
    assert torch.equal(single.indices, many.indices)
    assert torch.allclose(single.answers, many.answers, atol=1e-6)


def test_the_bandit_update_is_the_one_of_the_paper() -> None:
    """First answer of class 0 of 2: reward r = 0 after scaling (no range yet), baseline 0; then by hand."""
    bandit = Bandit(torch.tensor([0, 1, 0, 1, 0, 1]), "certainty", 2)
    answers = torch.tensor([[0.9, 0.1], [0.6, 0.4]])  # certainty 0.8, then 0.2
    bandit.learn(torch.tensor([0]), answers[:1], torch.zeros(1, 2))
    assert bandit.preferences.tolist() == [0, 0]
    bandit.learn(
        torch.tensor([2]), answers[:1] * 0 + torch.tensor([0.5, 0.5]), torch.zeros(1, 2)
    )  # a new low: r = 0
    assert bandit.preferences.tolist() == [0, 0]
    bandit.learn(torch.tensor([1]), torch.tensor([[0.85, 0.15]]), torch.zeros(1, 2))
    # r = 0.7 / 0.8, baseline 0, first time for class 1: H(1) += r (1 - 1/2), H(0) -= r / 2
    assert bandit.preferences.tolist() == pytest.approx([-0.4375, 0.4375], abs=1e-6)
    assert bandit.policy()[1] == 0 or bandit.fresh[3]


def test_the_bandit_update_leaves_out_classes_without_pictures() -> None:
    """Class 2 is used up, so the policy over the other two is 1/2 each. The batch takes the last picture of class 1."""
    bandit = Bandit(torch.tensor([0, 0, 1, 2]), "certainty", 2)
    bandit.learn(
        torch.tensor([3]), torch.tensor([[0.9, 0.1]]), torch.zeros(1, 2)
    )  # no range of rewards yet: r = 0
    bandit.learn(torch.tensor([0]), torch.tensor([[0.5, 0.5]]), torch.zeros(1, 2))  # a new low: r = 0
    assert bandit.preferences.tolist() == [0, 0, 0]
    bandit.learn(torch.tensor([2]), torch.tensor([[0.85, 0.15]]), torch.zeros(1, 2))
    # r = 0.7 / 0.8, baseline 0, first time for class 1
    assert bandit.preferences.tolist() == pytest.approx([-0.4375, 0.4375, 0], abs=1e-6)
    assert bandit.policy().tolist() == [1, 0, 0]


def test_the_bandit_prefers_the_class_that_pays() -> None:
    labels = torch.arange(3000) % 3
    bandit = Bandit(labels, "certainty", 2)
    dice = torch.Generator().manual_seed(0)
    asked = []
    for _ in range(40):
        picked = bandit.draw(10, dice)
        sure = (labels[picked] == 1).float() * 0.4 + 0.55  # class 1 gets sure answers
        bandit.learn(picked, torch.stack([sure, 1 - sure], 1), torch.zeros(len(picked), 2))
        asked.append(picked)
    everything = torch.cat(asked)
    assert len(everything.unique()) == len(everything)
    assert float((labels[everything] == 1).float().mean()) > 0.5
    assert bandit.policy().argmax() == 1


def test_a_bandit_goes_on_from_its_state() -> None:
    """To the bit, whatever of it is in a sum over many answers by now."""
    labels = torch.arange(400) % 4
    answers, logits = posteriors(120, 4), 2 * torch.randn(120, 4, generator=torch.Generator().manual_seed(6))
    one, other = Bandit(labels, "all", 4), Bandit(labels, "all", 4)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(7))
    one.learn(order[:60], answers[:60], logits[:60])
    other.load_state(one.state())
    for bandit in (one, other):
        bandit.learn(order[60:120], answers[60:], logits[60:])
    assert torch.equal(one.preferences, other.preferences)
    dice = [torch.Generator().manual_seed(8) for _ in range(2)]
    assert torch.equal(one.draw(50, dice[0]), other.draw(50, dice[1]))


def test_a_class_that_runs_out_is_left_alone() -> None:
    bandit = Bandit(torch.tensor([0] * 3 + [1] * 50), "all", 2)
    dice = torch.Generator().manual_seed(0)
    asked = 0
    while bool(bandit.fresh.any()):
        picked = bandit.draw(8, dice)
        assert len(picked)
        bandit.learn(picked, torch.full((len(picked), 2), 0.5), torch.zeros(len(picked), 2))
        asked += len(picked)
    assert asked == 53
