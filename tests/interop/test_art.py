"""Our defenses and oracle in the Adversarial Robustness Toolbox; skipped without it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("art", reason="optional: pip install -r requirements-art.txt")
sys.path.insert(0, str(Path(__file__).parents[1] / "attacks"))

import toys
from art.attacks.extraction import CopycatCNN, KnockoffNets
from art.estimators.classification import PyTorchClassifier

from dcp_core.attacks import AttackError, Oracle
from dcp_core.defenses import MAD, Deception, ModelGuardS, NoDefense, RandomNoise, ReverseSigmoid
from dcp_core.defenses.modelguard_s import StoredAnswers
from dcp_core.interop.art import DefensePostprocessor, black_box
from dcp_core.models.inference import predict

PIXELS = toys.pictures(40, 5)[0].float().div(255)


def classifier(model: nn.Module, **options: Any) -> PyTorchClassifier:
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    loss = nn.CrossEntropyLoss()
    return PyTorchClassifier(
        model, loss, toys.SHAPE, toys.CLASSES, optimizer, clip_values=(0, 1), device_type="cpu", **options
    )


@pytest.mark.parametrize(
    "defense",
    [
        NoDefense(),
        Deception(beta=0.9),
        ReverseSigmoid(beta=0.64),
        ModelGuardS(epsilon=0.5).armed(StoredAnswers(predict(toys.victim(), PIXELS))),
    ],
    ids=lambda defense: defense.name,
)
def test_a_classifier_of_art_answers_like_our_oracle(defense: Any) -> None:
    defended = classifier(toys.victim(), postprocessing_defences=DefensePostprocessor(defense))
    ours = Oracle(toys.victim(), defense, 40, shape=toys.SHAPE).query(PIXELS)
    np.testing.assert_allclose(defended.predict(PIXELS.numpy()), ours.numpy(), atol=1e-5)


def test_logits_are_not_taken_for_posteriors() -> None:
    defended = classifier(toys.victim(), postprocessing_defences=DefensePostprocessor(Deception(), logits=False))
    with pytest.raises(ValueError, match="use logits=True"):
        defended.predict(PIXELS.numpy())
    posteriors = predict(toys.victim(), PIXELS).softmax(1)
    found = DefensePostprocessor(Deception(), logits=False)(posteriors.numpy())
    np.testing.assert_allclose(found, Deception()(posteriors).numpy())


def test_a_randomised_defense_depends_on_its_seed() -> None:
    logits = predict(toys.victim(), PIXELS).numpy()
    one, same, other = (DefensePostprocessor(RandomNoise(epsilon=0.5), seed=seed)(logits) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_defense_that_uses_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="uses the picture"):
        DefensePostprocessor(MAD())


@pytest.mark.parametrize("attack", [KnockoffNets, CopycatCNN])
def test_attacks_of_art_steal_through_the_oracle_and_every_query_counts(attack: Any) -> None:
    oracle = Oracle(toys.victim(), Deception(beta=0.5), 600, shape=toys.SHAPE)
    thief = attack(
        black_box(oracle),
        batch_size_fit=32,
        batch_size_query=100,
        nb_epochs=8,
        nb_stolen=600,
        use_probability=True,
    )
    np.random.seed(0)  # noqa: NPY002 - ART draws from it
    clone = classifier(toys.network(11))
    pool = toys.pool().images.float().div(255).numpy()
    stolen = thief.extract(pool, thieved_classifier=clone)
    assert oracle.used == oracle.ledger.answers == 600
    assert oracle.ledger.mean_l1 > 0
    assert toys.judge()(stolen.model.eval()).error < toys.CHANCE_ERROR - 40


def test_an_attack_that_asks_too_much_is_stopped_before_the_query() -> None:
    oracle = Oracle(toys.victim(), NoDefense(), 30, shape=toys.SHAPE)
    with pytest.raises(AttackError, match="nb_stolen"):
        black_box(oracle).predict(PIXELS.numpy())
    assert oracle.used == 0
