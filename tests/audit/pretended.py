"""Results of runs that did not take place, for tests of reports."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from dcp_core.defenses.base import identity
from dcp_core.models import storing, zoo
from dcp_core.models.architectures import build
from dcp_core.runs.folder import claim, folder_of, keep_result
from dcp_core.runs.spec import RunSpec

ErrorOf = Callable[[RunSpec], float]


def victim_with_answers(
    name: str = "small", right: float = 0.95, *, size: int = 32, dataset: str = "signs"
) -> str:
    """A victim of four classes in the test's home, right in this share of 400 stored test answers; its name."""
    labels = torch.arange(400) % 4
    logits = 4 * torch.nn.functional.one_hot(labels, 4).float() + torch.randn(400, 4, generator=dice())
    wrong = torch.arange(400) < 400 * (1 - right)
    logits = torch.where(wrong[:, None], logits.roll(1, 1), logits)
    torch.manual_seed(0)
    card = zoo.Card(name, name.title(), dataset, "resnet8", tuple("abcd"), size, test_pictures=400)
    storing.save(build("resnet8", 4), card, logits, labels)
    return name


def dice(seed: int = 0) -> torch.Generator:
    """A generator with a fixed seed."""
    return torch.Generator().manual_seed(seed)


def pretend(runs: Iterable[RunSpec], error_of: ErrorOf) -> list[Path]:
    """Write results of these runs with the given errors of the clone, percent. Returns their folders."""
    folders = []
    for spec in runs:
        folder = folder_of(spec)
        claim(spec, folder)
        keep_result(folder, {"rows": [row(spec, error_of(spec))], "queries": spec.budget, "seconds": 1.0,
                             "class_errors": [], "transfer_rate": 0.0})  # fmt: skip
        folders.append(folder)
    return folders


def row(spec: RunSpec, error: float) -> dict:
    """A result row of a run."""

    defense = spec.make_defense()
    moved = 0.0 if spec.defense == "none" else 0.5
    return {
        "source": "measured",
        "where": spec.command,
        "key": spec.key,
        "dataset": "signs",
        "victim": spec.victim,
        "precision": "fp32",
        "victim_error": 5.0,
        "defense": spec.defense,
        "parameters": json.dumps(identity(defense)),
        "strength": spec.defense_parameters.get(defense.strength) if defense.strength else None,
        "attack": spec.attack,
        "attack_parameters": json.dumps(identity(spec.make_attack())),
        "queries_from": spec.pool,
        "thief": spec.make_attack().thief,
        "clone": spec.clone,
        "budget": spec.budget,
        "epochs": spec.attack_parameters["epochs"],
        "seed": spec.seed,
        "defender_error": 5.0,
        "adversary_error": round(error, 4),
        "fidelity": round(100 - error, 4),
        "l1": moved,
        "l1_queries": moved,
        "n_test": 400,
        "hardware": "a machine",
        "versions": "{}",
        "date": "2026-01-01",
    }
