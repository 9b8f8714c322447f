"""A run is identified by all its parameters, not by today's defaults or its command line."""

from dataclasses import dataclass

import pytest

from dcp_core import attacks
from dcp_core.attacks import KnockoffNets
from dcp_core.defenses.base import parameter
from dcp_core.runs.spec import RunSpec


@dataclass(frozen=True)
class Patient(KnockoffNets):
    """KnockoffNets after a default has changed."""

    epochs: int = parameter(31, "E", "Epochs.", low=1, high=1000, step=1)


@dataclass(frozen=True)
class Newer(KnockoffNets):
    """KnockoffNets after a parameter was added, whose old behaviour is 'plain'."""

    way: str = parameter("new", "w", "How.", choices=("plain", "new"), before="plain")


def spec(**given: object) -> RunSpec:
    return RunSpec("signs-resnet8", "knockoff", given, pool="signs_pool")


def with_attack(monkeypatch: pytest.MonkeyPatch, kind: type[KnockoffNets]) -> None:
    monkeypatch.setitem(attacks.ATTACKS, "knockoff", kind)


def test_a_changed_default_makes_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    before, named = spec().key, spec(epochs=30).key
    with_attack(monkeypatch, Patient)
    assert before == named == spec(epochs=30).key != spec().key


def test_a_parameter_that_was_added_leaves_older_runs_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spec().key
    with_attack(monkeypatch, Newer)
    assert spec(way="plain").key == before != spec().key
