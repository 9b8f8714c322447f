"""Where a recovery's clean posteriors come from: wide, the thief's own clone, or the victim (a bound)."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import toys
from torch import Tensor

from dcp_core.attacks import AttackError, clone_training, make_attack
from dcp_core.attacks.base import Theft, training_state
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.attacks.recovery import TABLE, finished, learned_inverse, own_prior, partial_bayes
from dcp_core.defenses import Deception, ModelGuardS, ReverseSigmoid
from dcp_core.defenses.modelguard_s import StoredAnswers
from dcp_core.models.inference import predict
from dcp_core.results.decision import measured_cases
from dcp_core.runs.folder import STATES
from dcp_core.runs.spec import RunSpec


def posteriors(seed: int, count: int) -> Tensor:
    """Answers of one victim: sure ones."""
    return (9 * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))).softmax(1)


def l1(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum(1).mean())


@pytest.mark.parametrize("recover", [partial_bayes, learned_inverse])
def test_the_nearer_the_prior_the_better_the_recovery(recover: Any) -> None:
    defense, clean, few = Deception(beta=0.9), posteriors(1, 300), {"steps": 500}
    given = few if recover is learned_inverse else {}
    wide = finished(recover(defense(clean), defense, 0, **given))
    near = finished(recover(defense(clean), defense, 0, posteriors(2, 5000), **given))
    assert l1(near, clean) < 0.85 * l1(wide, clean)


def test_the_own_prior_is_half_wide_and_half_the_clone_at_the_temperature_that_explains_the_answers() -> None:
    defense, logits = Deception(beta=0.9), 9 * torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
    answers = defense(logits.softmax(1))
    found = own_prior(logits / 2.5, logits / 2.5, answers, defense, 0)
    assert found.shape == (TABLE, 6)
    own, wide = (half.amax(1) for half in found.chunk(2))
    true, flat = logits.softmax(1).amax(1).mean(), (logits / 2.5).softmax(1).amax(1).mean()
    assert abs(float(own.mean() - true)) < 0.2 * float(true - flat)
    assert 0.1 < float((wide < 0.4).float().mean()) < 0.5


def thief(budget: int = 300, **changes: Any) -> Theft:
    def clean(images: Tensor) -> Tensor:
        return predict(toys.victim(), images).softmax(1)

    return toys.theft(budget, ReverseSigmoid(beta=0.64), clean_answers=clean, **changes)


def targets_of(monkeypatch: pytest.MonkeyPatch, given: Theft, **parameters: Any) -> list[Tensor]:
    """The targets of each training of an attack."""
    seen: list[Tensor] = []
    train = clone_training.train

    def watch(model: Any, images: Tensor, targets: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(targets)
        return train(model, images, targets, *rest, **more)

    monkeypatch.setattr(clone_training, "train", watch)
    toys.steal("knockoff", given, treatment="bayes", **parameters)
    return seen


def test_the_own_prior_refines_the_answers_in_rounds_without_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """A perfect clone in place of the trained one, but a third as confident: its temperature is found.

    Behind a codebook of one centroid a class, the wide prior does not know how sure the victim is; its clone does.
    """
    answers = predict(toys.victim(), toys.pool().images)
    stored = StoredAnswers(answers)
    known = ModelGuardS(epsilon=0.3).armed(stored)
    given = toys.theft(300, known)
    monkeypatch.setattr(clone_training, "predict", lambda model, images: predict(toys.victim(), images) / 3)
    seen = targets_of(monkeypatch, given, prior="own", rounds=2, epochs=1)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))[:300]
    clean = predict(toys.victim(), toys.pool().images[order]).softmax(1)
    assert len(seen) == 3
    assert given.oracle.used == 300
    assert l1(seen[-1], clean) < l1(seen[0], clean)


def test_the_oracle_prior_is_the_victims_answers_to_pictures_that_were_not_queried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Tensor] = []

    def clean(images: Tensor) -> Tensor:
        asked.append(images)
        return predict(toys.victim(), images).softmax(1)

    defense = ReverseSigmoid(beta=0.64)
    given = toys.theft(300, defense, clean_answers=clean)
    (targets,) = targets_of(monkeypatch, given, prior="oracle")
    order = torch.randperm(900, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat(asked), toys.pool().images[order[300:]])
    truth = predict(toys.victim(), toys.pool().images[order[:300]]).softmax(1)
    assert l1(targets, truth) < 0.2 * l1(defense(truth), truth)


@pytest.mark.parametrize(
    ("budget", "clean", "words"), [(300, None, "clean answers of the victim"), (500, "known", "has 400")]
)
def test_the_bound_is_refused_where_it_cannot_be_computed(budget: int, clean: str | None, words: str) -> None:
    given = thief(budget)
    given.clean_answers = given.clean_answers if clean else None
    with pytest.raises(AttackError, match=words):
        make_attack("knockoff", treatment="bayes", prior="oracle").steps(given)


def test_each_stage_has_a_checkpoint_that_a_finished_run_removes(tmp_path: Path) -> None:
    toys.steal("knockoff", thief(folder=tmp_path, save_every=0.0), treatment="bayes", prior="own", rounds=2)
    written = {path.name for path in tmp_path.glob("training*.pt") if "older" not in path.name}
    assert written == {training_state(stage) for stage in range(3)}
    assert written <= set(STATES)


def test_what_has_no_effect_does_not_make_another_run() -> None:
    def spec(**parameters: Any) -> RunSpec:
        return RunSpec("v", attack_parameters=parameters, pool="p")

    assert spec(prior="own", rounds=3).key == spec().key
    assert spec(treatment="bayes", rounds=3).key == spec(treatment="bayes").key
    assert spec(treatment="bayes", prior="own").key != spec(treatment="bayes").key
    assert "prior" not in spec(treatment="bayes").command
    assert "--prior own --rounds 2" in spec(treatment="bayes", prior="own", rounds=2).command


def test_a_bound_is_named_as_one_and_no_recommendation_uses_it() -> None:
    attack = KnockoffNets(treatment="inverse", prior="oracle")
    assert attack.thief == "bound: recovery (inverse, oracle prior)"
    assert KnockoffNets(treatment="inverse", prior="own").thief == "recovery (inverse, own prior)"
    assert not KnockoffNets(prior="oracle").is_bound
    columns = dict.fromkeys(("victim", "precision", "attack", "queries_from", "clone"), "same")
    points = pd.DataFrame(
        {
            **columns,
            "budget": 10,
            "epochs": 5,
            "source": "measured",
            "defense": ["none", "dcp", "dcp"],
            "thief": ["as is", "as is", attack.thief],
            "attack_parameters": ["{}", "{}", '{"treatment": "inverse", "prior": "oracle"}'],
            "unreliable": False,
            "adversary_error": [20.0, 30.0, 25.0],
            "victim_error": 5.0,
            "dataset": "signs",
        }
    )
    (case,) = measured_cases(points).values()
    assert list(case["thief"]) == ["as is", "as is"]
