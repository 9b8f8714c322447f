"""AM, MAD and GRAD^2 against literal versions by autograd, and what they promise."""

import dataclasses
import itertools
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from dcp_core.defenses import MAD, AdaptiveMisinformation, GradientRedirection, literal, make_defense
from dcp_core.defenses.adaptive_misinformation import misinformation_loss
from dcp_core.defenses.folding import FoldedSurrogate
from dcp_core.defenses.gradient_redirection import COUPLED, gains, transport
from dcp_core.defenses.mad import TOP_BONUS
from dcp_core.defenses.model_based import ModelBased
from dcp_core.models.architectures import build


def network(classes: int, seed: int = 0) -> nn.Module:
    """A small surrogate in float64 whose batch normalisation has seen pictures."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        for _ in range(5):
            model(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    return model.eval()


def question(classes: int, count: int = 6, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Posteriors and pictures."""
    dice = torch.Generator().manual_seed(seed)
    y = (3 * torch.randn(count, classes, generator=dice, dtype=torch.float64)).softmax(-1)
    return y, torch.rand(count, 3, 8, 8, generator=dice, dtype=torch.float64)


def flat(model: nn.Module, seed: int) -> Tensor:
    """A random direction in the model's parameters."""
    count = sum(p.numel() for p in model.parameters())
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 3, 10, 25])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.5, 2.0])
def test_mad_on_the_last_layer_is_the_literal_one(classes: int, epsilon: float) -> None:
    model, (y, x) = network(classes), question(classes)
    ours = MAD(epsilon=epsilon).armed(model)(y, inputs=x)
    torch.testing.assert_close(ours, literal.mad(model, y, x, epsilon), rtol=0, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 5, 12])
@pytest.mark.parametrize("objective", ["angle", "distance"])
def test_mad_on_all_parameters_is_the_literal_one(classes: int, objective: str) -> None:
    model, (y, x) = network(classes), question(classes)
    ours = MAD(epsilon=0.7, gradients="all", objective=objective).armed(model)(y, inputs=x)
    slow = literal.mad(model, y, x, 0.7, objective=objective, parameters=list(model.parameters()))
    torch.testing.assert_close(ours, slow, rtol=0, atol=1e-7)


@pytest.mark.parametrize("classes", [2, 3, 6, 10, 13])
@pytest.mark.parametrize("gradients", ["last", "all"])
def test_mad_argmax_is_the_literal_one_and_keeps_the_top_class(classes: int, gradients: str) -> None:
    model, (y, x) = network(classes), question(classes, 3)
    parameters = list(model.parameters()) if gradients == "all" else None
    defense = MAD(epsilon=0.7, oracle="argmax", gradients=gradients).armed(model)
    slow = literal.mad(model, y, x, 0.7, oracle="argmax", parameters=parameters)
    torch.testing.assert_close(defense(y, inputs=x), slow, rtol=0, atol=1e-7)
    strongest = dataclasses.replace(defense, epsilon=2.0)(y, inputs=x)
    assert torch.equal(strongest.argmax(1), y.argmax(1))


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_mad_argmax_finds_the_best_of_all_supports_with_the_top_class(classes: int) -> None:
    model, (y, x) = network(classes), question(classes, 40)
    with torch.no_grad():  # a victim less sure than the surrogate: the top class alone turns the gradient most
        model[-1].weight.mul_(20)
        y[20:] = (model(x[20:]) / 4).softmax(-1)
    found = MAD(epsilon=2.0, oracle="argmax").armed(model)(y, inputs=x)
    alone = 0
    for clean, picture, answer in zip(y, x, found, strict=True):
        g = literal.class_gradients(model, picture[None], literal.last_layer(model))
        top, angle = int(clean.argmax()), partial(nn.functional.cosine_similarity, g.T @ clean, dim=0)
        supports = [s for s in itertools.product([0.0, 1.0], repeat=classes) if s[top]]
        assert len(supports) == 2 ** (classes - 1)
        corners = torch.tensor(supports, dtype=torch.float64)
        corners[:, top] += TOP_BONUS
        corners /= corners.sum(1, keepdim=True)
        angles = [float(angle(g.T @ corner)) for corner in corners]
        assert float(angle(g.T @ answer)) == pytest.approx(min(angles), abs=1e-9)
        alone += int((answer > 0).sum()) == 1
    assert alone > 0


def test_mad_by_distance_on_the_last_layer_is_argmin_and_therefore_refused() -> None:
    model, (y, x) = network(7), question(7)
    by_distance = literal.mad(model, y, x, 0.5, objective="distance")
    torch.testing.assert_close(by_distance, MAD(epsilon=0.5, oracle="argmin")(y, inputs=x))
    with pytest.raises(ValueError, match="oracle='argmin'"):
        MAD(objective="distance")


def test_mad_random_follows_its_generator() -> None:
    y, x = question(5, 200)
    defense = MAD(epsilon=2.0, oracle="random")
    first = defense(y, inputs=x, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, defense(y, inputs=x, generator=torch.Generator().manual_seed(3)))
    assert len(first.argmax(1).unique()) == 5
    assert defense.randomised
    assert not MAD().randomised


def test_mad_with_a_surrogate_that_equals_the_victim_still_answers() -> None:
    model, (_, x) = network(4), question(4)
    y = model(x).softmax(-1).detach()
    answer = MAD(epsilon=0.5).armed(model)(y, inputs=x)
    assert bool(answer.isfinite().all())
    torch.testing.assert_close((answer - y).abs().sum(1), torch.full((6,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 2.0])
def test_grad2_is_the_literal_one(classes: int, epsilon: float) -> None:
    model, (y, x) = network(classes), question(classes)
    ones = GradientRedirection(epsilon=epsilon).armed(model)
    slow = literal.grad2(model, y, x, epsilon, literal.all_ones(model))
    torch.testing.assert_close(ones(y, inputs=x), slow, rtol=0, atol=1e-7)
    batch = GradientRedirection(epsilon=epsilon, target="min-ip-batch").armed(model)
    torch.testing.assert_close(batch(y, inputs=x), literal.grad2(model, y, x, epsilon), rtol=0, atol=1e-7)
    alone = GradientRedirection(epsilon=epsilon, target="min-ip").armed(model)
    one_by_one = torch.cat([literal.grad2(model, a[None], b[None], epsilon) for a, b in zip(y, x, strict=True)])
    torch.testing.assert_close(alone(y, inputs=x), one_by_one, rtol=0, atol=1e-7)
    vector = flat(model, 5)
    any_direction = GradientRedirection(epsilon=epsilon).towards(vector).armed(model)
    slow = literal.grad2(model, y, x, epsilon, vector)
    torch.testing.assert_close(any_direction(y, inputs=x), slow, rtol=0, atol=1e-7)


def test_grad2_with_gradients_of_the_last_layer_looks_at_these_alone() -> None:
    model, (y, x) = network(5), question(5)
    vector = flat(model, 6)
    last = sum(p.numel() for p in literal.last_layer(model))
    vector[:-last] = 0
    whole = GradientRedirection().towards(vector).armed(model)(y, inputs=x)
    alone = (
        GradientRedirection(gradients="last", target="watermark").towards(vector[-last:]).armed(model)(y, inputs=x)
    )
    torch.testing.assert_close(whole, alone)


def test_the_watermark_becomes_likelier_for_a_thief_who_follows() -> None:
    model, (y, x) = network(5), question(5, 8)
    defense = GradientRedirection(epsilon=1.0, target="watermark").armed(model)
    dice = torch.Generator().manual_seed(3)
    mark = torch.rand(1, 3, 8, 8, generator=dice).double()
    label = int(torch.randint(5, (1,), generator=dice))
    watermark = torch.autograd.grad(model(mark).log_softmax(-1)[0, label], list(model.parameters()))

    def pull(answers: Tensor) -> float:
        """How far the thief's step raises the log-likelihood of the watermark."""
        own = torch.autograd.grad((answers * model(x).log_softmax(-1)).sum(), list(model.parameters()))
        return sum(float((a * b).sum()) for a, b in zip(own, watermark, strict=True))

    assert pull(defense(y, inputs=x)) > pull(y)


def test_all_ones_on_the_last_layer_is_nothing_and_therefore_refused() -> None:
    model, (_, x) = network(5), question(5)
    ones = {"8.weight": torch.ones(5, 6).double(), "8.bias": torch.ones(5).double()}
    assert float(gains(model, x, ones).abs().max()) < 1e-12
    with pytest.raises(ValueError, match="all gains are 0"):
        GradientRedirection(gradients="last")


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.1, 2.0])
def test_transport_spends_its_budget_on_the_class_of_largest_gain(epsilon: float) -> None:
    y, _ = question(8, 50)
    gain = torch.randn(50, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    answer = transport(y, gain, epsilon)
    best = gain.argmax(1, keepdim=True)
    room = 2 * (1 - y.gather(1, best)[:, 0])
    torch.testing.assert_close((answer - y).abs().sum(1), room.clamp(max=epsilon))
    assert float(answer.min()) >= 0
    if epsilon == 2.0:
        torch.testing.assert_close(answer, nn.functional.one_hot(best[:, 0], 8).double())


def test_no_answer_within_the_budget_gains_more_than_transport() -> None:
    dice = torch.Generator().manual_seed(4)
    y, _ = question(6, 1)
    gain = torch.randn(1, 6, generator=dice, dtype=torch.float64)
    best = float((transport(y, gain, 0.6) * gain).sum())
    others = torch.distributions.Dirichlet(torch.full((6,), 0.5)).sample((20_000,)).double()
    step = (0.6 / (others - y).abs().sum(1, keepdim=True)).clamp(max=1)
    within = y + step * (others - y)
    assert float((within * gain).sum(1).max()) <= best + 1e-12


@pytest.mark.parametrize("name", ["am", "mad", "grad2"])
def test_a_sweep_gives_what_each_strength_gives_alone_and_stays_on_the_simplex(name: str) -> None:
    kind = make_defense(name)
    assert isinstance(kind, ModelBased)
    defense, (y, x) = kind.armed(network(6)), question(6, 20)
    assert defense.strength is not None
    swept = defense.sweep(defense.grid, y, inputs=x)
    torch.testing.assert_close(swept[0], y)
    for strength, answer in zip(defense.grid, swept, strict=True):
        alone = dataclasses.replace(defense, **{defense.strength: strength})(y, inputs=x)
        torch.testing.assert_close(answer, alone)
        assert float(answer.min()) >= 0
        torch.testing.assert_close(answer.sum(1), torch.ones(20, dtype=torch.float64))
    stored = defense.guide(y, x)
    assert torch.equal(swept, defense.sweep(defense.grid, y, guide=stored))


@pytest.mark.parametrize(
    "defense",
    [
        AdaptiveMisinformation(),
        MAD(),
        MAD(gradients="all"),
        MAD(oracle="argmax"),
        GradientRedirection(),
        GradientRedirection(target="min-ip"),
        GradientRedirection(target="watermark"),
    ],
    ids=repr,
)
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(defense: ModelBased) -> None:
    defense, (y, x) = defense.armed(network(6)), question(6)
    together = defense(y, inputs=x)
    alone = torch.cat([defense(a[None], inputs=b[None]) for a, b in zip(y, x, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


def test_min_ip_of_a_batch_couples_its_pictures_in_groups() -> None:
    defense = GradientRedirection(target="min-ip-batch").armed(network(6))
    y, x = question(6, COUPLED + 5)
    guide = defense.guide(y, x)
    torch.testing.assert_close(guide[COUPLED:], defense.guide(y[COUPLED:], x[COUPLED:]))
    assert float((guide[:3] - defense.guide(y[:3], x[:3])).abs().max()) > 1e-6


def test_am_replaces_uncertain_answers_alone() -> None:
    model, (y, x) = network(4), question(4, 40)
    answer = AdaptiveMisinformation(tau=0.7).armed(model)(y, inputs=x)
    uncertain = y.amax(1) < 0.69
    sure = y.amax(1) > 0.71
    assert 5 < int(uncertain.sum()) < 35
    torch.testing.assert_close(answer[sure], y[sure], rtol=0, atol=1e-4)
    torch.testing.assert_close(answer[uncertain], model(x).softmax(-1)[uncertain].detach(), rtol=0, atol=1e-4)


def test_the_misinformation_loss_is_the_published_one_and_finite_for_sure_networks() -> None:
    labels = torch.tensor([0, 2, 1])
    z = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0], [-4.0, 1.0, 1.0]], dtype=torch.float64)
    p = z.softmax(-1)[range(3), labels]
    torch.testing.assert_close(misinformation_loss(z, labels), -(1 - p + 1e-12).log().mean())
    sure = torch.tensor([[80.0, 0.0, 0.0]], requires_grad=True)
    misinformation_loss(sure, torch.tensor([0])).backward()
    assert sure.grad is not None
    assert bool(sure.grad.isfinite().all())


@pytest.mark.parametrize("architecture", ["resnet8", "wrn22_2", "mobilenet_small"])
def test_folding_changes_neither_answers_nor_slopes_nor_the_network(architecture: str) -> None:
    torch.manual_seed(0)
    model = build(architecture, 5).double()
    x = torch.rand(8, 3, 16, 16, dtype=torch.float64)
    for _ in range(3):
        model(x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = FoldedSurrogate(model)
    torch.testing.assert_close(folded(x), model.eval()(x))
    for _ in range(2):
        direction = {name: torch.randn_like(value) for name, value in model.named_parameters()}
        torch.testing.assert_close(folded.slopes(x, direction), gains(model, x, direction))
    assert {key: bool((value == before[key]).all()) for key, value in model.state_dict().items()} == dict.fromkeys(
        before, True
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_each_target_vector_steers_towards_itself() -> None:
    model, (y, x) = network(5), question(5)
    armed = GradientRedirection().armed(model)
    for seed in range(20):  # each vector may get the memory of the one before
        guide = armed.towards(flat(model, seed)).guide(y, x)
        sizes = {name: value.numel() for name, value in model.named_parameters()}
        parts = flat(model, seed).split(list(sizes.values()))
        target = {name: part.view_as(model.get_parameter(name)) for name, part in zip(sizes, parts, strict=True)}
        torch.testing.assert_close(guide, gains(model, x, target))


def test_a_target_vector_that_is_changed_in_place_is_followed() -> None:
    model, (y, x) = network(5), question(5)
    vector = flat(model, 1)
    armed = GradientRedirection().towards(vector).armed(model)
    before = armed.guide(y, x)
    vector.neg_()
    torch.testing.assert_close(armed.guide(y, x), -before)


@pytest.mark.parametrize("target", ["all-ones", "watermark", "min-ip", "min-ip-batch"])
def test_a_surrogate_that_is_trained_on_is_asked_as_it_is_now(target: str) -> None:
    model, (y, x) = network(5), question(5)
    armed = GradientRedirection(target=target).armed(model)
    before = armed.guide(y, x)
    model.train()
    model(x)  # moves the statistics of the batch normalisation alone
    after = armed.guide(y, x)
    torch.testing.assert_close(after, GradientRedirection(target=target).armed(model).guide(y, x))
    assert float((after - before).abs().max()) > 1e-3
    model[0].weight.data.mul_(1.5)
    last = armed.guide(y, x)
    torch.testing.assert_close(last, GradientRedirection(target=target).armed(model).guide(y, x))
    assert float((last - after).abs().max()) > 1e-3


def test_what_is_missing_is_said() -> None:
    y, x = question(4)
    with pytest.raises(ValueError, match="surrogate model"):
        GradientRedirection()(y, inputs=x)
    with pytest.raises(ValueError, match="uses the pictures"):
        MAD().armed(network(4))(y)
    with pytest.raises(ValueError, match="misinformation model has 7 classes, but the victim has 4"):
        AdaptiveMisinformation().armed(network(7))(y, inputs=x)
    with pytest.raises(ValueError, match="target vector"):
        GradientRedirection().towards(torch.ones(3)).armed(network(4))(y, inputs=x)
    assert MAD().armed(network(4))(torch.zeros(0, 4), inputs=torch.zeros(0, 3, 8, 8)).shape == (0, 4)


def test_the_network_and_its_gradients_stay_as_they_are() -> None:
    model, (y, x) = network(4), question(4)
    before = [p.clone() for p in model.parameters()]
    for defense in (MAD(gradients="all"), GradientRedirection(), GradientRedirection(target="min-ip")):
        with torch.inference_mode():
            defense.armed(model)(y, inputs=x)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))
