"""The folder of a run: the names of its files, which run it belongs to, and its result.

spec.json                all parameters of the run; written first and never changed
status.json              which process works on it, and its progress; the modification time is the heartbeat
events.jsonl             the events of the attack, one on each line
sample.png               pictures sent to the victim, with the answers
worker.log               what the worker printed
state.pt, training.pt    checkpoints, see `checkpoints.py`; deleted when the run is done
state.older.pt, ...      the checkpoints before these
clone.safetensors        the clone's weights, when an attack is done
result.json              written last: the run is done when this file exists
queued                   exists while the run waits in the queue
stop                     exists after a request to stop
lock                     locked by the process that works on the run
"""

import json
import math
import os
from pathlib import Path
from typing import Any

from dcp_core.attacks.base import ATTACK_STATE, MOST_STAGES, SHADOWS_STATE, training_state
from dcp_core.files import home, read_object, write_atomic
from dcp_core.results.schema import check_values
from dcp_core.runs.spec import Spec, SpecError, spec_from

SPEC, RESULT, CLONE = "spec.json", "result.json", "clone.safetensors"
STATUS, EVENTS, SAMPLE, LOG = "status.json", "events.jsonl", "sample.png", "worker.log"
QUEUED, STOP, LOCK = "queued", "stop", "lock"
STATES = (ATTACK_STATE, SHADOWS_STATE, *map(training_state, range(MOST_STAGES)))
WRITTEN = (SPEC, RESULT, CLONE, STATUS, SAMPLE, QUEUED, *STATES)  # by `write_atomic`
SPEC_BYTES, RESULT_BYTES = 100_000, 10_000_000  # larger files are not this program's
MOST_QUERIES = 2**53  # more than any run makes
ACHIEVED = (
    "victim_error",
    "defender_error",
    "adversary_error",
    "fidelity",
    "l1",
    "l1_queries",
    "n_test",
)  # every attack's


class FolderError(ValueError):
    """A file in a run's folder is damaged. The message names it and says what to do."""


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
    elif spec_in(folder) != spec:
        raise SpecError(f"{folder} belongs to another run: choose another folder, or delete this one")


def spec_in(folder: Path) -> Spec:
    """The spec of the run in a folder.

    Raises:
        FolderError: for a spec that cannot be read or has impossible parameters.
    """
    path = folder / SPEC
    try:
        return spec_from(read_object(path, SPEC_BYTES))
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read ({error}): delete this run, and start it again") from error


def result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run; None while it is not done. Entries that this version does not know are kept.

    Every result has `rows` of the common schema, the number of `queries` answered and the `seconds` taken. An attack has
    one row, and also `class_errors` of the clone and its `transfer_rate`, both in percent. A measurement of costs also
    has the entries that `bench.run` describes.

    Raises:
        FolderError: for a result that cannot be read, lacks an entry or has one of another kind.
    """
    path = folder / RESULT
    try:
        if not path.exists():
            return None
        found = read_object(path, RESULT_BYTES)
        _check_result(found)
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read ({error}): delete this file, and run it again") from error
    return found


def _check_result(found: dict[str, Any]) -> None:
    """Raise a ValueError that says what is wrong with the content of a result."""
    rows, queries, missing = found.get("rows"), found.get("queries"), found.get("missing", {})
    if not isinstance(rows, list) or not rows:
        raise ValueError("it has no rows")
    for row in rows:
        check_values(row, required=ACHIEVED if row_of_attack(row) else ())
    if not isinstance(queries, int) or not 0 <= queries <= MOST_QUERIES:
        raise ValueError("queries is not a whole number from 0")
    rate = found.get("transfer_rate", "")  # null for a service, which gets no queries beyond the budget
    if row_of_attack(rows[0]) and not (rate is None or _is_number(rate)):
        raise ValueError("transfer_rate is not a number")
    if not isinstance(missing, dict) or not all(isinstance(reason, str) for reason in missing.values()):
        raise ValueError("missing is not an object of texts")


def row_of_attack(row: Any) -> bool:
    """Whether a result row comes from an attack, not from a measurement of costs."""
    return isinstance(row, dict) and bool(row.get("attack"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


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
