"""KnockoffNets with the strong recipe, and with clones whose first convolution is whitened."""

from pathlib import Path

import pytest
import torch
import toys
from torch import nn

from dcp_core import precision
from dcp_core.attacks import AttackError, make_attack
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.models.architectures import Classifier, build
from dcp_core.models.fast import FastNet
from dcp_core.models.training import Recipe


def _fast() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return build("fast_32_64_64", toys.CLASSES)


def test_the_plain_recipe_is_the_one_that_earlier_results_were_made_with() -> None:
    attack = KnockoffNets(epochs=7, batch=32, lr=0.02, flip=True, recipe="plain")
    assert attack.training(100, seed=3) == Recipe(7, 32, 0.02, schedule="cosine", flip=True, seed=3)
    assert not attack.mirrored


@pytest.mark.parametrize("flip", [True, False])
def test_the_clone_asks_the_mirror_only_where_pictures_may_be_mirrored(flip: bool) -> None:
    given = toys.theft(100)
    toys.steal("knockoff", given, recipe="strong", flip=flip)
    assert isinstance(given.clone, Classifier)
    assert given.clone.mirrored is flip
    assert KnockoffNets(recipe="strong", flip=flip).training(100, 0).flip is flip


def test_a_fast_clone_steals_with_the_strong_recipe() -> None:
    given = toys.theft(300, clone=_fast(), evaluate=toys.judge())
    scores = toys.steal("knockoff", given, recipe="strong", epochs=8, lr=0.05)[-1].scores
    assert scores is not None
    assert scores.error < 20


def test_the_clone_is_whitened_with_pictures_of_the_pool_and_stays_so() -> None:
    """Also with pictures that are not asked about: they are the thief's own."""
    given = toys.theft(20, clone=_fast())
    network = given.clone.network
    assert isinstance(network, FastNet)
    before = network.first.weight.detach().clone()
    toys.steal("knockoff", given, epochs=1)
    assert not torch.equal(network.first.weight, before)
    torch.testing.assert_close(network.first.weight[:12], -network.first.weight[12:])


def test_weights_decay_as_much_in_a_short_training_as_in_a_long_one() -> None:
    """The linear schedule's mean rate is half of its peak: 1,000 steps at 0.05 times the decay are 0.4."""
    assert KnockoffNets(epochs=20, batch=100, lr=0.1, recipe="strong").training(5000, 0).weight_decay == (
        pytest.approx(8e-3)
    )
    assert KnockoffNets(epochs=4, batch=50, lr=0.1, recipe="strong").training(50_000, 0).weight_decay == (
        pytest.approx(2e-3)
    )


@pytest.mark.parametrize("strategy", ["random", "adaptive"])
def test_a_theft_with_a_fast_clone_goes_on_to_the_same_clone(tmp_path: Path, strategy: str) -> None:
    asked = {"recipe": "strong", "flip": True, "strategy": strategy, "epochs": 2}
    whole = toys.theft(120, clone=_fast())
    toys.steal("knockoff", whole, **asked)
    halted = toys.theft(120, clone=_fast(), folder=tmp_path)
    events = make_attack("knockoff", **{**toys.SMALL["knockoff"], **asked}).steps(halted)
    while next(events).phase != "training":
        pass
    events.close()  # type: ignore[attr-defined]
    resumed = toys.theft(120, clone=_fast(), folder=tmp_path)
    toys.steal("knockoff", resumed, **asked)
    for key, value in whole.clone.state_dict().items():
        assert torch.equal(value, resumed.clone.state_dict()[key]), key
    assert isinstance(resumed.clone, Classifier)
    assert resumed.clone.mirrored


@pytest.mark.parametrize("name", toys.SMALL)
def test_a_precision_that_the_machine_lacks_is_refused_before_any_query(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = toys.theft(300)
    monkeypatch.setattr(precision, "_computes_bf16", lambda kind: False)
    monkeypatch.setenv(precision.VARIABLE, "bf16")
    with pytest.raises(precision.PrecisionError, match="does not compute in bfloat16"):
        make_attack(name, **toys.SMALL[name]).steps(given)
    assert given.oracle.used == 0


@pytest.mark.parametrize(("name", "budget"), [("dfme", 448), ("maze", 192)])
def test_a_theft_without_data_in_bf16_goes_on_to_the_same_clone(
    name: str, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toys.theft(budget)  # its victim, which tests share, is trained in float32
    monkeypatch.setattr(precision, "_computes_bf16", lambda kind: True)
    monkeypatch.setenv(precision.VARIABLE, "bf16")
    toys.steal(name, whole)
    halted = toys.theft(budget, folder=tmp_path, logs=2)
    events = make_attack(name, **toys.SMALL[name]).steps(halted)
    assert 0 < next(events).queries < budget
    events.close()  # type: ignore[attr-defined]
    resumed = toys.theft(budget, folder=tmp_path)
    toys.steal(name, resumed)
    for key, value in whole.clone.state_dict().items():
        assert torch.equal(value, resumed.clone.state_dict()[key]), key
        assert value.dtype != torch.bfloat16


def test_a_pool_too_small_to_whiten_is_refused_before_any_query() -> None:
    given = toys.theft(8, clone=_fast(), pool=toys.pool(10))
    with pytest.raises(
        AttackError, match=r"the pool toy pool is too small: .*at least 16 pictures, but there are 10"
    ):
        make_attack("knockoff").steps(given)
    assert given.oracle.used == 0
    small: nn.Module = toys.network(3)
    make_attack("knockoff").steps(toys.theft(8, clone=small, pool=toys.pool(10)))  # needs no whitening
