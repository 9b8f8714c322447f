"""The folder of a run: the names of its files, which run it belongs to, and its result.

spec.json                all parameters of the run; written first and never changed
status.json              which process works on it, and its progress; the modification time is the heartbeat
events.jsonl             the events of the attack, one on each line
sample.png               pictures sent to the victim, with the answers
worker.log               what the worker printed
state.pt, training.pt    checkpoints; deleted when the run is done
clone.safetensors        the clone's weights, when an attack is done
result.json              written last: the run is done when this file exists
queued                   exists while the run waits in the queue
stop                     exists after a request to stop
lock                     locked by the process that works on the run
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
    """The folder of a spec's run, whether or not it exists. Equal specs have the same folder."""
    return root() / spec.key


def shared() -> Path:
    """The folder of stored answers that several runs use."""
    return root() / ".shared"


def slot(number: int) -> Path:
    """The file that a background worker holds locked. There are never more workers than slots."""
    return root() / ".slots" / str(number)


def claim(spec: Spec, folder: Path) -> None:
    """Create the folder of a run and write its spec; if the folder exists, check that it belongs to the run.

    Raises:
        SpecError: if the folder belongs to another run.
    """
    path = folder / SPEC
    if not path.exists():
        write_atomic(path, lambda file: file.write(spec.to_json().encode()))
    elif read_spec(path.read_text()) != spec:
        raise SpecError(f"{folder} belongs to another run: choose another folder, or delete this one")
    for half in folder.glob(
        ".*.pt.*"
    ):  # an incomplete checkpoint, left by a worker that was killed while writing it
        half.unlink()


def result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run; None while it is not done.

    Every result has `rows` of the common schema, the number of `queries` answered and the `seconds` taken. An attack has
    one row, and also `class_errors` of the clone and its `transfer_rate`, both in percent. A measurement of costs also
    has the entries that `bench.run` describes.
    """
    path = folder / RESULT
    return json.loads(path.read_text()) if path.exists() else None


def keep_result(folder: Path, found: dict[str, Any]) -> None:
    """Write the result. The run is done after this."""
    text = json.dumps(found, indent=2, ensure_ascii=False)
    write_atomic(folder / RESULT, lambda file: file.write(text.encode()))


def used_bytes(folder: Path) -> int:
    """Size of all files below a folder in bytes."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue  # deleted in the meantime
    return total
