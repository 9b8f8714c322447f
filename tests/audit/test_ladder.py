"""The ladder: the most informative runs first, nothing twice, nothing that does not fit."""

from pathlib import Path

import numpy as np
import pytest
from pretended import victim_with_answers

from dcp_core.audit.fitting import fitting
from dcp_core.audit.ladder import BUDGETS, budgets, epochs, ladder
from dcp_core.audit.request import AuditError, Request
from dcp_core.defenses import Deception, ModelGuardW
from dcp_core.models import zoo
from dcp_core.models.pretrained import FROZEN
from dcp_core.results.decision import Needs
from dcp_core.runs.experiment import read_experiment

UNKNOWN = {"size": 224, "dataset": "small-1a2b3c4d"}  # takes large pictures, was trained on unknown ones


def request_of(name: str, **more: object) -> Request:
    return Request.of(name, **more)


def test_the_first_runs_are_a_learning_curve_then_labels_then_a_defense(home: Path) -> None:
    runs = ladder(request_of(victim_with_answers()), [Deception(beta=0.9), ModelGuardW(epsilon=0.5)])
    first = [(spec.defense, spec.attack_parameters["treatment"], spec.budget) for spec in runs[:7]]
    assert sorted(budget for defense, _, budget in first[:3]) == [500, 1000, 2000]
    assert {defense for defense, _, _ in first[:4]} == {"none"}
    assert first[3] == ("none", "top-1", 2000)
    assert first[4:] == [("dcp", treatment, 2000) for treatment in ("as-is", "top-1", "bayes")]
    assert [spec.seed for spec in runs[:7]] == [0] * 7
    assert [spec.seed for spec in runs[7:21]] == [1] * 7 + [2] * 7


def test_no_run_is_there_twice_and_budgets_grow(home: Path) -> None:
    runs = ladder(request_of(victim_with_answers()), [Deception(beta=0.9)])
    assert len({spec.key for spec in runs}) == len(runs)
    highest = [max(spec.budget for spec in runs[: n + 1]) for n in range(len(runs))]
    assert highest == sorted(highest)
    assert {spec.budget for spec in runs} == {budget for budget in BUDGETS if 500 <= budget <= 30_000}


def test_the_runs_of_the_plan_strong_signs_count_for_the_audit_of_its_victim(home: Path) -> None:
    runs = {spec.key for spec in ladder(request_of("signs-resnet8"), [Deception(beta=0.9)])}
    planned = read_experiment("strong-signs").scales["cpu"]
    assert {epochs(spec.budget) == spec.attack_parameters["epochs"] for spec in planned} == {True}
    undefended = [spec for spec in planned if spec.defense == "none"]
    assert undefended
    assert all(spec.key in runs for spec in undefended)


def test_a_defense_is_as_strong_as_the_limits_allow(home: Path) -> None:
    name = victim_with_answers()
    strong, weak = (
        fitting(name, ("mgw",), Needs(1.0, limit, l1_of="l1"), None)[0].defense for limit in (1.5, 0.3)
    )
    assert isinstance(strong, ModelGuardW)
    assert isinstance(weak, ModelGuardW)
    assert 0.3 >= weak.epsilon > 0
    assert strong.epsilon > weak.epsilon


def test_a_defense_that_fits_no_limit_is_left_out_with_the_reason(home: Path) -> None:
    (found,) = fitting(victim_with_answers(), ("mgw",), Needs(0.0, 0.0, l1_of="l1"), None)
    assert found.defense is None
    assert "limit" in found.why_not
    (missing,) = fitting("small", ("am",), Needs(1.0, 0.9), None)
    assert "auxiliary" in missing.why_not


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"price": -1.0}, "price"),
        ({"seeds": 0}, "seeds"),
        ({"defenses": ("nosuch",)}, "unknown defense 'nosuch'"),
        ({"clone": "nosuch"}, "unknown architecture"),
        ({"pools": ("signs_pool", "textures", "cifar10")}, "at most two"),
    ],
)
def test_an_impossible_request_is_refused_with_what_to_do(home: Path, given: dict, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        request_of(victim_with_answers(), **given)


def test_an_unknown_victim_is_refused_with_the_known_ones(home: Path) -> None:
    with pytest.raises(zoo.VictimError, match="signs-resnet8"):
        request_of("nosuch")


def test_a_victim_without_test_pictures_is_refused_with_the_way_out(home: Path) -> None:
    with pytest.raises(AuditError, match=r"victims add NAME weights.safetensors --network torchvision:resnet18"):
        request_of("torchvision:resnet18")


def test_a_small_pool_still_gives_three_budgets(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool.npz"
    np.savez(path, x_train=np.zeros((240, 32, 32, 3), np.uint8))
    assert budgets(request_of(victim_with_answers(), pools=(str(path),))) == [50, 100, 200]


def test_a_pool_of_another_size_is_resized_but_must_be_square(home: Path, tmp_path: Path) -> None:
    for high, name in ((40, "square"), (30, "wide")):
        np.savez(tmp_path / name, x_train=np.zeros((240, high, 40, 3), np.uint8))
    request_of(victim_with_answers(), pools=(str(tmp_path / "square.npz"),)).check_pools()
    with pytest.raises(AuditError, match="40 x 30 pixels, but must be square"):
        request_of("small", pools=(str(tmp_path / "wide.npz"),)).check_pools()


@pytest.mark.parametrize(("asked", "runs_with"), [(32, 32), (64, 0), (100, 100), (512, 224)])
def test_the_thiefs_network_sees_small_pictures_and_the_usual_size_keeps_its_runs(
    home: Path, asked: int, runs_with: int
) -> None:
    request = request_of(victim_with_answers(**UNKNOWN), clone_size=asked)
    assert {spec.clone_size for spec in ladder(request, []) if spec.clone != FROZEN} == {runs_with}


def test_a_victim_of_unknown_pictures_gets_a_pool_that_is_always_there(home: Path) -> None:
    request = request_of(victim_with_answers(**UNKNOWN))
    assert (request.pool, request.other, request.same_kind) == ("textures", None, False)
    request.check_pools()
