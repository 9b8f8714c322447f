import math

import pytest
import torch
import toys
from torch import Tensor

from dcp_core.attacks import make_attack
from dcp_core.attacks.data_free import Run
from dcp_core.attacks.disguide import DisGUIDE, members, some_grey
from dcp_core.attacks.zeroth_order import to_range
from dcp_core.defenses import Deception, LabelOnly, NoDefense
from dcp_core.models.ensemble import Ensemble, reinitialised


def small(**changes: object) -> DisGUIDE:
    made = make_attack("disguide", **{**toys.SMALL["disguide"], **changes})
    assert isinstance(made, DisGUIDE)
    return made


def test_the_generators_loss_is_the_one_of_the_paper() -> None:
    """Two clones, one picture: (.6, .4) and (.2, .8). The sample standard deviation of .6 and .2 is .4 / sqrt(2)."""
    posteriors = torch.tensor([[[0.6, 0.4]], [[0.2, 0.8]]])
    disagreement, loss = small(diversity=0.2).generator_loss(posteriors)
    assert float(disagreement) == pytest.approx(0.4 / math.sqrt(2), abs=1e-6)
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert float(loss) == pytest.approx(-0.4 / math.sqrt(2) - 0.2 * entropy, abs=1e-5)


def test_clones_that_agree_give_a_finite_gradient() -> None:
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    small().generator_loss(logits.softmax(-1))[1].backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_the_clones_losses_match_their_formulas() -> None:
    logits, answers = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.7, 0.2, 0.1]])
    by_label = -float(logits.log_softmax(1)[0, 0])
    assert float(small(targets="labels").disagreement(logits, answers)) == pytest.approx(by_label, abs=1e-6)
    # log answers: -.3567, -1.6094, -2.3026, mean -1.4229: centred 1.0662, -.1865, -.8797
    l1 = (abs(1 - 1.0662) + abs(2 + 0.1865) + abs(0 + 0.8797)) / 3
    assert float(small().disagreement(logits, answers)) == pytest.approx(l1, abs=1e-4)


def test_the_generator_is_trained_without_queries_along_the_gradient_of_its_loss() -> None:
    attack, given = small(batch=64), toys.theft(10**6)
    attack.prepare(given)
    run = Run(attack, given)
    run.begin(1.0)
    before = {name: value.clone() for name, value in run.clone.state_dict().items()}
    run.generator_optimizer = torch.optim.SGD(run.generator.parameters(), 1.0)
    start = [value.detach().clone() for value in run.generator.parameters()]
    attack.improve_generator(run)
    assert given.oracle.used == 0
    assert all(torch.equal(value, before[name]) for name, value in run.clone.state_dict().items())
    moved = [old - new.detach() for old, new in zip(start, run.generator.parameters(), strict=True)]

    for new, old in zip(run.generator.parameters(), start, strict=True):
        new.data.copy_(old)
    run.begin(1.0)  # the same random numbers again
    run.clone.eval()
    pictures = some_grey(to_range(run.draw()))
    posteriors = torch.stack([each.softmax(-1) for each in members(run.clone).each(pictures)])
    true = torch.autograd.grad(attack.generator_loss(posteriors)[1], list(run.generator.parameters()))
    both = torch.stack([torch.cat([each.flatten() for each in found]) for found in (moved, true)])
    assert float(torch.cosine_similarity(both[0], both[1], dim=0)) > 0.98  # bf16 where the processor has it
    assert float(both[0].norm() / both[1].norm()) == pytest.approx(1, abs=0.05)


def test_every_eighth_picture_is_grey() -> None:
    pixels = torch.rand(17, 3, 4, 4)
    grey = some_grey(pixels)
    assert [n for n in range(17) if bool((grey[n] == grey[n].mean(0)).all())] == [0, 8, 16]
    assert torch.equal(grey[1:8], pixels[1:8])


def test_an_ensemble_answers_with_the_mean_posterior_of_different_networks() -> None:
    one = toys.network(3)
    both, pixels = Ensemble([one, reinitialised(one, 5)]).eval(), torch.rand(4, *toys.SHAPE)
    first, second = (each.softmax(1) for each in both.each(pixels))
    torch.testing.assert_close(both(pixels).softmax(1), (first + second) / 2)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.equal(reinitialised(one, 5)(pixels), reinitialised(one, 5)(pixels))


def stolen(defense: object, **parameters: object) -> dict[str, Tensor]:
    given = toys.theft(32 * 20, defense)  # type: ignore[arg-type]
    toys.steal("disguide", given, **parameters)
    return given.clone.state_dict()


def test_a_thief_of_labels_is_not_hindered_by_a_defense_that_keeps_the_top_class() -> None:
    bare, defended, labels = (
        stolen(defense, targets="labels") for defense in (NoDefense(), Deception(beta=0.9), LabelOnly())
    )
    assert all(torch.equal(value, defended[name]) for name, value in bare.items())
    assert all(torch.equal(value, labels[name]) for name, value in bare.items())
    assert make_attack("disguide", targets="labels").thief == "top-1"
    assert make_attack("disguide").thief == "as is"
