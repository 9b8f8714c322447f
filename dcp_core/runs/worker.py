"""Do one run from start to finish in its folder (see `folder.py`). Pages, command line and cluster all use `run`."""

import dataclasses
import json
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from dcp_core import checkpoints
from dcp_core.attacks import Event, Oracle, Theft
from dcp_core.data.datasets import ImageSet, load
from dcp_core.defenses import Defense
from dcp_core.defenses.base import identity
from dcp_core.evaluation.metrics import error, per_answer
from dcp_core.evaluation.stealing import Evaluator
from dcp_core.evaluation.transfer import transfer_rate
from dcp_core.files import write_atomic
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.auxiliary import arm
from dcp_core.models.ensemble import Ensemble
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.pretrained import FROZEN, FrozenNet, weights_file
from dcp_core.precision import precision
from dcp_core.provenance import hardware, today, versions
from dcp_core.runs import bench, shared_answers, shared_features
from dcp_core.runs.folder import CLONE, RESULT, STATES, claim, keep_result
from dcp_core.runs.spec import USUAL_SIDE, BenchSpec, RunSpec, Spec

CURVE_PICTURES, FEW = 2000, 500  # largest and smallest number of test pictures for a point of the curve
LOGS = 20
BATCH = 500


def run(
    spec: Spec,
    folder: Path,
    *,
    device: str | None = None,
    save_every: float = 60.0,
    report: Callable[[str], object] = lambda words: None,
) -> Iterator[Event]:
    """Run `spec` in `folder`, or resume it there; yields its events. Closing the iterator leaves a resumable run.

    Args:
        device: "cpu" or "cuda"; without it, a GPU if there is one.
        save_every: shortest time between two checkpoints, in seconds.
        report: called with a sentence on what is loaded, before the first event.

    Raises:
        ValueError: at once, if the folder belongs to another run, or victim, query pool and clone do not fit together.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    claim(spec, folder)
    if (folder / RESULT).exists():
        return iter(())
    if isinstance(spec, BenchSpec):
        return _measure(spec, folder, device)
    if spec.clone == FROZEN:
        weights_file()  # raises before anything is computed
    report("loading the victim")
    victim = zoo.load(spec.victim, device)
    test = load(victim.card.dataset, "test", size=victim.card.size, report=report)
    if victim.card.source:  # made elsewhere, and perhaps slow: its answers were stored when it was added
        clean = zoo.test_answers(spec.victim)[0]
    else:
        report(f"the victim answers {len(test):,} test pictures")
        clean = predict(victim.model, test.images)
    evaluator = Evaluator.of(clean, test)
    defense = arm(spec.make_defense(), spec.victim, device)
    pool = load(spec.pool, "train", size=victim.card.size, report=report) if spec.pool else None
    sent, seen = spec.sides(victim.card.size, None if pool is None else pool.images.shape[-1])
    attack, answering = spec.make_attack(), shared_answers.cached_victim(victim, pool)
    oracle = Oracle(
        answering,
        defense,
        spec.budget,
        shape=(3, sent, sent),
        side=victim.card.size,
        device=device,
        seed=spec.seed,
        guides=shared_answers.cached_guides(defense, victim, pool),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        clone = build(spec.clone, oracle.classes)
    if seen != victim.card.size and spec.clone != FROZEN:  # a pretrained network resizes pictures itself
        clone.side = seen
    if isinstance(clone.network, FrozenNet) and pool is not None:
        clone.network.lookup = shared_features.lookup(test.images, pool.images)
    theft = Theft(
        oracle,
        clone,
        pool=pool,
        known_defense=defense,
        clean_answers=partial(_clean_answers, answering) if attack.is_bound else None,
        evaluate=evaluator.first(curve_pictures(spec.budget), clone.side),
        folder=folder,
        save_every=save_every,
        logs=LOGS,
        seed=spec.seed,
    )
    events = attack.steps(theft)
    return _run(spec, folder, events, theft, victim, test, clean, evaluator)


def _clean_answers(victim: nn.Module, images: Tensor) -> Tensor:
    return predict(victim, images).softmax(1)


def curve_pictures(budget: int) -> int:
    """Number of test pictures for a point of the curve. It grows with the budget, to keep scoring short in small runs."""
    return min(CURVE_PICTURES, max(FEW, budget // 8))


def transfer_pictures(size: int) -> int:
    """Number of test pictures for the transfer rate. It is smaller for victims above `USUAL_SIDE` pixels, which are slow."""
    return 500 if size <= USUAL_SIDE else 200


def _measure(spec: BenchSpec, folder: Path, device: str) -> Iterator[Event]:
    began = time.monotonic()
    found = yield from bench.run(spec, device)
    found["seconds"] = round(time.monotonic() - began, 2)
    keep_result(folder, found)
    yield Event("done", 1.0, found["queries"])


def _run(
    spec: RunSpec,
    folder: Path,
    events: Iterator[Event],
    theft: Theft,
    victim: zoo.Victim,
    test: ImageSet,
    clean: Tensor,
    evaluator: Evaluator,
) -> Iterator[Event]:
    began = time.monotonic()
    try:
        for event in events:
            if event.fraction == 1 and event.scores is not None:
                break
            yield event
    finally:
        if isinstance(events, Generator):
            events.close()  # it saves its state: an error must reach the caller, not the garbage collector
    yield Event("scoring", 1.0, event.queries)
    scores = evaluator(theft.clone)
    assert test.labels is not None
    first = slice(transfer_pictures(victim.card.size))
    _keep_clone(folder / CLONE, theft.clone, spec.clone)
    # Adversarial pictures would be requests to a service beyond the query budget.
    ask = victim.card.source != zoo.SERVICE
    pictures, labels = test.images[first], test.labels[first]
    rate = transfer_rate(theft.clone, victim.model, pictures, labels, answers=clean[first]) if ask else None
    achieved = {"adversary_error": scores.error, "fidelity": scores.fidelity, "transfer_rate": rate}
    found = {
        "rows": [
            _row(spec, theft, victim, test, clean, evaluator)
            | {name: None if value is None else round(value, 4) for name, value in achieved.items()}
        ],
        "class_errors": scores.class_errors,
        "transfer_rate": rate,
        "queries": theft.oracle.used,
        "seconds": round(time.monotonic() - began, 1),  # of the last session only, if the run was resumed
    }
    keep_result(folder, found)
    for name in STATES:
        checkpoints.remove(folder / name)
    yield dataclasses.replace(event, scores=scores)


def _keep_clone(path: Path, clone: nn.Module, architecture: str) -> None:
    """Store the clone's weights, and in the file's metadata its architecture and whether it averages over mirror images.

    Of an ensemble, these are the weights of all members, and the metadata has their number.
    For a pretrained clone, these are the weights of the head, and the metadata names the file of the pretrained weights.
    The metadata is a single entry, because safetensors writes several in random order, and equal runs must give equal files.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in clone.state_dict().items()}
    about = {"architecture": architecture, "mirrored": getattr(clone, "mirrored", False)}
    if getattr(clone, "side", None):
        about["side"] = clone.side
    if isinstance(clone, Ensemble):
        about["members"] = len(clone.members)
    if architecture == FROZEN:
        about["pretrained"] = weights_file().name
    write_atomic(path, lambda file: file.write(save(weights, {"clone": json.dumps(about)})))


def _row(
    spec: RunSpec, theft: Theft, victim: zoo.Victim, test: ImageSet, logits: Tensor, evaluator: Evaluator
) -> dict[str, Any]:
    """The row of the common schema for this run, without the clone's scores."""
    assert test.labels is not None
    assert theft.known_defense is not None
    defense = theft.known_defense
    defended = _defended(logits, test.images, defense, spec.seed, theft.oracle.device)
    sized = {"clone_size": spec.clone_size} if spec.clone_size else {}
    return {
        "source": "measured",
        "where": spec.command,
        "key": spec.key,
        "dataset": victim.card.dataset,
        "victim": spec.victim,
        "precision": victim.card.precision,
        "victim_error": round(evaluator.victim_error, 4),
        "defense": spec.defense,
        "parameters": json.dumps(identity(spec.make_defense())),
        "strength": spec.defense_parameters.get(defense.strength) if defense.strength else None,
        "attack": spec.attack,
        "attack_parameters": json.dumps(identity(spec.make_attack()) | sized),
        "queries_from": spec.pool,
        "thief": spec.make_attack().thief,
        "clone": spec.clone,
        "budget": spec.budget,
        "epochs": None if spec.clone == FROZEN else spec.attack_parameters.get("epochs"),
        "clone_precision": precision(theft.oracle.device),
        "seed": spec.seed,
        "defender_error": round(float(error(defended, test.labels)), 4),
        "l1": round(float(per_answer(defended, logits.softmax(-1)).l1.double().mean()), 6),
        "l1_queries": round(theft.oracle.ledger.mean_l1, 6),
        "n_test": len(test),
        "hardware": hardware(theft.oracle.device),
        "versions": json.dumps(versions()),
        "date": today(),
    }


def _defended(logits: Tensor, images: Tensor, defense: Defense, seed: int, device: torch.device | str) -> Tensor:
    """Defended posteriors (N, K) of the test set from its clean logits (N, K), on the CPU."""
    generator = torch.Generator(device).manual_seed(seed)
    defended = []
    for some, part in zip(logits.split(BATCH), images.split(BATCH), strict=True):
        inputs = to_pixels(part.to(device)) if defense.needs_inputs else None
        defended.append(defense(logits=some.to(device), inputs=inputs, generator=generator).cpu())
    return torch.cat(defended)
