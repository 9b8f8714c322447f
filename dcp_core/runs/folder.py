"""The folder of a run: the names of its files, which run it belongs to, and its result.

spec.json                what the run is; written first and never changed
status.json              who works on it and how far it is; its modification time is the heartbeat
events.jsonl             its course, one event a line
sample.png               pictures sent to the victim, with the answers
worker.log               what the worker printed
state.pt, training.pt    checkpoints while it runs
clone.safetensors        the clone's weights, of a finished attack
result.json              written last: a run is done when it is there
queued, stop, lock       it waits; it is asked to stop; held by the process that works on it
"""

import json
import os
from pathlib import Path
from typing import Any

from dcp_core.attacks.base import ATTACK_STATE, TRAINING_STATE
from dcp_core.files import home, write_atomic
from dcp_core.runs.spec import Spec, SpecError, read_spec

SPEC, RESULT, CLONE = "spec.json", "result.json", "clone.safetensors"
STATUS, EVENTS, SAMPLE, LOG = "status.json", "events.jsonl", "sample.png", "worker.log"
QUEUED, STOP, LOCK = "queued", "stop", "lock"
STATES = (ATTACK_STATE, TRAINING_STATE)


def root() -> Path:
    """The folder of this machine's runs."""
    return home() / "runs"


def folder_of(spec: Spec) -> Path:
    """Where a spec's run is or would be: equal specs, equal folders."""
    return root() / spec.key


def shared() -> Path:
    """The folder of answers that several runs use."""
    return root() / ".shared"


def slot(number: int) -> Path:
    """The file whose lock a background worker holds; as many workers as there are slots."""
    return root() / ".slots" / str(number)


def claim(spec: Spec, folder: Path) -> None:
    """Make the folder this run's.

    Raises:
        SpecError: for a folder of another run.
    """
    path = folder / SPEC
    if not path.exists():
        write_atomic(path, lambda file: file.write(spec.to_json().encode()))
    elif read_spec(path.read_text()) != spec:
        raise SpecError(f"{folder} holds another run: choose another folder, or delete it")
    for half in folder.glob(".*.pt.*"):  # a state that was being written when an earlier worker was killed
        half.unlink()


def result(folder: Path) -> dict[str, Any] | None:
    """What a finished run found; None while it is not done.

    `rows` of the common schema, `queries` answered, `seconds`. An attack has one row, and also `class_errors` of its
    clone in percent; for what a measurement of costs has besides, see `bench.run`.
    """
    path = folder / RESULT
    return json.loads(path.read_text()) if path.exists() else None


def keep_result(folder: Path, found: dict[str, Any]) -> None:
    """Write the result, which ends the run."""
    text = json.dumps(found, indent=2, ensure_ascii=False)
    write_atomic(folder / RESULT, lambda file: file.write(text.encode()))


def used_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue  # deleted meanwhile
    return total
