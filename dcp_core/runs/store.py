"""List runs and read the state of each from the files of its folder.

Other processes may change or delete a folder while it is read. A run that cannot be read has the state "unreadable" and
a reason; the other runs are still listed.
"""

import io
import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import pandas as pd
from PIL import Image

from dcp_core.files import PRECOMPUTED, home, open_regular, read_regular
from dcp_core.results.rows import load_results
from dcp_core.runs.folder import (
    EVENTS,
    LOCK,
    LOG,
    QUEUED,
    RESULT,
    SAMPLE,
    SPEC,
    STOP,
    result,
    root,
    row_of_attack,
    spec_in,
    used_bytes,
)
from dcp_core.runs.locks import holding
from dcp_core.runs.spec import BenchSpec, RunSpec, Spec
from dcp_core.runs.status import Status, silence

State = Literal["queued", "running", "stopping", "interrupted", "failed", "done", "unreadable"]
ACTIVE = ("queued", "running", "stopping")
GIGABYTE = 1e9
SHIPPED = PRECOMPUTED / "runs"
EVENTS_BYTES, SAMPLE_BYTES, SAMPLE_PIXELS = 20_000_000, 20_000_000, 4_000_000  # larger ones are not this program's
KEEP_FREE = 0.5  # gigabytes of the disk that must stay free


class StoreError(ValueError):
    """An operation on a run that is not possible now. The message says what to do."""


AnySpec = TypeVar("AnySpec", bound=Spec, covariant=True)


@dataclass(frozen=True)
class RunView(Generic[AnySpec]):
    """The state of a run, read from its folder.

    Args:
        spec: None if the folder cannot be read.
        fraction: share of the work that is done, 0 to 1.
        eta: seconds until the run is done, None while unknown.
        silence: seconds since the last heartbeat.
        created: seconds since 1970.
        worker: machine, device and threads of the worker, in words.
        result: as in `folder.result`.
    """

    folder: Path
    state: State
    spec: AnySpec | None = None
    message: str = ""
    phase: str = ""
    fraction: float = 0.0
    queries: int = 0
    eta: float | None = None
    silence: float = 0.0
    created: float = 0.0
    worker: str = ""
    result: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Name of the folder, which is the key of the spec."""
        return self.folder.name

    @property
    def active(self) -> bool:
        """Whether it is running or in the queue."""
        return self.state in ACTIVE

    @property
    def shipped(self) -> bool:
        """Whether it came with the repository; such a run can be viewed but not changed."""
        return self.folder.parent == SHIPPED

    @property
    def resumable(self) -> bool:
        """Whether it can be resumed."""
        return self.spec is not None and self.state in ("interrupted", "failed")


def find(key: str) -> Path:
    """The folder of a run by its key: of this machine's run, or else of one that came with the repository."""
    own, shipped = root() / key, SHIPPED / key
    return shipped if shipped.exists() and not own.exists() else own


def views() -> list[RunView[RunSpec]]:
    """All attacks of this machine and all folders that cannot be read, newest first."""
    return _views(root(), RunSpec)


def shipped() -> list[RunView[RunSpec]]:
    """The attacks that came with the repository, without those that this machine has run itself."""
    return [each for each in _views(SHIPPED, RunSpec) if not (root() / each.key).exists()]


def benches() -> list[RunView[BenchSpec]]:
    """All measurements of costs of this machine, newest first."""
    return [each for each in _views(root(), BenchSpec) if each.spec is not None]


def _views(place: Path, kind: type[AnySpec]) -> list[RunView[AnySpec]]:
    try:
        entries = list(place.iterdir())
    except OSError:
        return []
    # A name that cannot be printed is not one of a run, and no page could show it.
    named = [entry for entry in entries if not entry.name.startswith(".") and entry.name.isprintable()]
    seen = [view(folder) for folder in named if os.path.isdir(folder)]
    wanted = [each for each in seen if each.spec is None or isinstance(each.spec, kind)]
    return sorted(wanted, key=lambda v: (-v.created, v.key))  # type: ignore[arg-type]  # their specs are of this kind


def view(folder: Path) -> RunView[Spec]:
    """The state of the run in a folder; raises no error."""
    try:
        return _view(folder)
    except Exception as error:  # whatever is wrong with one folder must not hide the others
        return RunView(folder, "unreadable", message=f"this version cannot read the run: {error}")


def _view(folder: Path) -> RunView[Spec]:
    spec = spec_in(folder)
    created = min((folder / SPEC).stat().st_mtime, time.time())
    found = result(folder)
    if found is not None:
        if isinstance(spec, RunSpec) != row_of_attack(found["rows"][0]):
            raise ValueError(
                f"{folder / RESULT} is the result of another kind of run: delete this file, and run it again"
            )
        return RunView(folder, "done", spec, "", "done", 1.0, found["queries"], created=created, result=found)
    status = Status.read(folder)
    if (folder / QUEUED).exists():
        where = {} if status is None else {"fraction": status.fraction, "queries": status.queries}
        return RunView(folder, "queued", spec, "waiting in the queue", created=created, **where)  # type: ignore[arg-type]
    if status is None:
        return RunView(folder, "interrupted", spec, "not started", created=created)
    message, state = status.message, status.state
    if state == "done":
        state, message = "interrupted", "its result is missing: resume it"
    if state in ("running", "stopping"):
        if status.alive(folder):
            state = "stopping" if (folder / STOP).exists() else state
        else:
            stopped = (folder / STOP).exists()
            message = "stopped by you" if stopped else f"the worker on {status.host} ended unexpectedly"
            state = "interrupted"
    return RunView(
        folder,
        state,
        spec,
        message,
        status.phase,
        status.fraction,
        status.queries,
        _eta(status) if state == "running" else None,
        silence(folder),
        created,
        f"{status.host}, {status.device}, {status.threads} thread{'s' * (status.threads > 1)}",
    )


def _eta(status: Status) -> float | None:
    done = status.fraction - status.work_from
    if not status.work_began or done <= 0.01:
        return None
    return (1 - status.fraction) / done * (time.time() - status.work_began)


def events(folder: Path) -> pd.DataFrame:
    """The events of a run, a row each: time, phase, fraction, queries, losses (a dictionary), error, fidelity.

    Error and fidelity are NaN except at log points. Work replayed after a resume replaces the earlier events: events with
    a larger fraction than a later line are left out. Lines that cannot be read are skipped.
    """
    kept: list[dict[str, Any]] = []
    try:
        lines = read_regular(folder / EVENTS, EVENTS_BYTES).splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            event = json.loads(line)
            numbers = {name: float(event[name]) for name in ("time", "fraction", "queries")}
            scores = {name: float(event.get(name, "nan")) for name in ("error", "fidelity")}
            if not all(map(math.isfinite, numbers.values())) or any(map(math.isinf, scores.values())):
                continue
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            continue
        while kept and kept[-1]["fraction"] > numbers["fraction"]:
            kept.pop()
        losses = event.get("losses")
        kept.append(
            numbers
            | scores
            | {"phase": str(event.get("phase")), "losses": losses if isinstance(losses, dict) else {}}
        )
    return pd.DataFrame(kept, columns=["time", "phase", "fraction", "queries", "losses", "error", "fidelity"])


def sample(folder: Path) -> tuple[Image.Image, list[list[tuple[int, float]]]] | None:
    """Pictures sent to the victim, side by side, and the top classes of its answers, [(class, probability), ...] each.

    None if there is no readable sample of a possible size.
    """
    try:
        file = io.BytesIO(read_regular(folder / SAMPLE, SAMPLE_BYTES))
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.width * picture.height > SAMPLE_PIXELS:
                return None
            picture.load()
            text = picture.info.get("answers", "[]")
            answers = [[(int(c), float(p)) for c, p in row] for row in json.loads(text)]
            possible = all(0 <= c < 2**31 and 0 <= p <= 1.001 for row in answers for c, p in row)
            return picture.convert("RGB"), answers if possible else []
    except Exception:  # whatever is wrong with it, the page shows the run without it
        return None


def log_tail(folder: Path, lines: int = 15) -> str:
    """The last lines of the log; empty without a log."""
    try:
        with open_regular(folder / LOG) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


def limit_gb() -> float:
    """Gigabytes that all runs together may use: `DCP_RUNS_GB`, by default 10.

    Raises:
        StoreError: if `DCP_RUNS_GB` is not a number.
    """
    given = os.environ.get("DCP_RUNS_GB", "10")
    try:
        return float(given)
    except ValueError:
        raise StoreError(f"DCP_RUNS_GB must be a number of gigabytes, not {given!r}") from None


def check_room() -> None:
    """Check that there is disk space for more runs.

    Raises:
        StoreError: if runs use more than `limit_gb`, or the disk is nearly full.
    """
    used, limit = used_bytes(root()) / GIGABYTE, limit_gb()
    if used >= limit:
        raise StoreError(f"runs use {used:.1f} GB of the allowed {limit:g} GB: delete some, or raise DCP_RUNS_GB")
    place = root()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIGABYTE
    if free < KEEP_FREE:
        raise StoreError(f"only {free:.2f} GB are free on the disk of {place}: free some space first")


def check_unused(victim: str) -> None:
    """Check that a new victim can have this name: runs and results have the names of victims only, so those of an earlier
    victim would be taken for those of the new one.

    Raises:
        StoreError: if this machine has such runs or results.
    """
    attacked = {view.spec.victim for view in views() if view.spec is not None}
    timed = {bench.spec.victim for bench in benches() if bench.spec is not None}
    rows, _ = load_results(home() / "results")
    if victim in attacked | timed | set(rows["victim"]):
        raise StoreError(
            f"there are runs or results of an earlier victim {victim}, which would be taken for those of the new one: "
            "choose another name, or first delete them on the pages Attack lab and Cost"
        )


def delete(folder: Path) -> None:
    """Delete a run and its result rows.

    Raises:
        StoreError: while a worker works on it, or for a disk error.
    """
    trash = folder.with_name(f".deleted-{folder.name}")
    if view(folder).state in ("running", "stopping"):
        raise StoreError(f"run {folder.name} is running: stop it first")
    try:
        with holding(folder / LOCK) as ours:
            if not ours:
                raise StoreError(f"run {folder.name} is being started: stop it first")
            shutil.rmtree(trash, ignore_errors=True)
            folder.rename(trash)  # atomic, so that no reader sees a partly deleted run
        shutil.rmtree(trash)
        for kind in (RunSpec.kind, BenchSpec.kind):
            (home() / "results" / f"{kind}-{folder.name}.csv").unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"run {folder.name} could not be deleted: {error.strerror}") from error
