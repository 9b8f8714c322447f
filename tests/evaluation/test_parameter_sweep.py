"""Tables of one answer over one parameter."""

import dataclasses

import pytest
import torch

from dcp_core import DEFENSES, Deception, defend, make_defense
from dcp_core.defenses.base import Defense
from dcp_core.defenses.model_based import ModelBased
from dcp_core.defenses.modelguard_s import Learned
from dcp_core.evaluation.parameter_sweep import movable, sweep_parameter

LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0])
GUIDE = torch.tensor([[0.1, 0.2, 0.3, 0.4]])


def swept() -> list[tuple[str, str]]:
    """Every defense that needs no stored answers, with each of its movable parameters."""
    kinds = {name: kind for name, kind in DEFENSES.items() if not issubclass(kind, Learned)}
    return [(name, parameter) for name in kinds for parameter in movable(make_defense(name))]


@pytest.mark.parametrize(("name", "parameter"), swept())
def test_every_row_is_what_the_defense_answers_with_that_value(name: str, parameter: str) -> None:
    defense = make_defense(name)
    guide = GUIDE if isinstance(defense, ModelBased) else None
    table = sweep_parameter(defense, parameter, LOGITS, guide=guide, seed=3, seconds=0.01)
    declared = defense.parameters()[parameter]
    assert (table.values[0], table.values[-1]) == (declared.low, declared.high)
    assert getattr(defense, parameter) in table.values
    for row in (0, len(table.values) // 2, -1):
        each: Defense = dataclasses.replace(defense, **{parameter: table.values[row]})
        assert table.defenses[row] == each
        assert torch.equal(table.answers[row], defend(LOGITS[None], each, 3, guide=guide).defended[0])


def test_a_strength_has_a_row_for_every_step_of_its_slider() -> None:
    values = sweep_parameter(Deception(beta=0.37), "beta", LOGITS).values
    assert values == pytest.approx([step / 100 for step in range(151)])


def test_a_slow_defense_gets_fewer_rows_with_its_own_value_among_them() -> None:
    table = sweep_parameter(Deception(gamma=0.23), "gamma", LOGITS, seconds=1e-9)
    assert len(table.values) <= 6
    assert 0.23 in table.values


def test_what_is_no_number_or_follows_another_cannot_be_swept() -> None:
    assert movable(Deception()) == ["beta", "gamma", "nu"]
    with pytest.raises(ValueError, match="beta, gamma, nu"):
        sweep_parameter(Deception(), "tau", LOGITS)
