"""Run a spec and record its status, events, sample pictures and log in its folder; stop it on request.

Pages, command line and cluster all run specs through `record`. The process that holds the folder's lock is the only
writer. A worker that is killed may leave an incomplete last line in `events.jsonl`, which readers skip.
"""

import _thread
import dataclasses
import json
import logging
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dcp_core.attacks import Event
from dcp_core.files import explained, home, remove_temporary, write_atomic
from dcp_core.results.rows import write_results
from dcp_core.runs.folder import EVENTS, LOCK, LOG, QUEUED, SAMPLE, STOP, WRITTEN, claim, result
from dcp_core.runs.locks import holding
from dcp_core.runs.spec import Spec
from dcp_core.runs.status import Status, beat
from dcp_core.runs.worker import run

LINES = 400  # at most this many events of a run are kept, besides those with scores
LOG_BYTES = 1_000_000  # a longer log is deleted when the next session starts
STATUS_EVERY, BEAT_EVERY = 0.5, 1.0  # seconds between two writes of the status, and between two heartbeats
SAVE_EVERY = 20.0  # seconds between checkpoints: a killed worker loses at most this much work
PATIENCE = 0.8  # seconds to wait for the next event after a request to stop; then the work is interrupted
TOP = 3  # classes of an answer that are stored with a sample picture


class RunBusy(ValueError):
    """Another process works on the run."""


def record(
    spec: Spec, folder: Path, *, device: str | None = None, save_every: float = SAVE_EVERY, publish: bool = True
) -> Generator[Event, None, None]:
    """Run `spec` in `folder`, or resume it there, and record it; yields its events.

    The run ends early and can be resumed if a file `stop` appears in the folder or the iterator is closed. An error is
    written to the status as one sentence and to the log with its traceback, and is raised.

    Args:
        device: as in `worker.run`.
        save_every: shortest time between two checkpoints, in seconds.
        publish: also write the result to `home()/results`, from which the pages read.

    Raises:
        ValueError: if the folder belongs to another run, if another process works on the run, and as `worker.run` does.
    """
    claim(spec, folder)
    with holding(folder / LOCK) as ours:
        if not ours:
            raise RunBusy(f"another process works on the run in {folder}: wait for it, or stop it")
        for name in (QUEUED, STOP):
            (folder / name).unlink(missing_ok=True)
        remove_temporary(folder, WRITTEN)
        if result(folder) is None:
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            yield from _session(spec, folder, device, save_every)
        if publish and result(folder) is not None:
            add_to_results(spec, folder)


def add_to_results(spec: Spec, folder: Path) -> Path:
    """Write the rows of a finished run to its file in `home()/results`, unless that exists; returns its path."""
    path = home() / "results" / f"{spec.kind}-{spec.key}.csv"
    found = result(folder)
    if found is not None and not path.exists():
        write_results(path, pd.DataFrame(found["rows"]))
    return path


def _session(spec: Spec, folder: Path, device: str, save_every: float) -> Iterator[Event]:
    """Work on a run once: until it is done, stopped or fails."""
    status = Status.here(torch.get_num_threads(), device)
    with suppress(
        OSError, ValueError
    ):  # show the progress of the earlier session until this one has loaded its state
        if before := Status.read(folder):
            status = dataclasses.replace(status, fraction=before.fraction, queries=before.queries)
    journal = _Journal(folder, status)
    journal.log(f"{'resumed' if journal.path.exists() else 'started'}: {spec.command.split(' -m ')[1]}")
    warnings = _ToLog(journal)
    logging.getLogger("dcp_core").addHandler(warnings)
    events: Iterator[Event] | None = None
    try:
        events = run(spec, folder, device=device, save_every=save_every, report=journal.report)
        for event in events:
            journal.keep(event)
            yield event
            if journal.asked_to_stop and event.fraction < 1:
                journal.write(state="stopping")
                _close(events)
                journal.end("interrupted", "stopped on request")
                return
        journal.end("done", "")
    except GeneratorExit:
        try:
            _close(events)
        except OSError as error:
            journal.end("failed", sentence(error))
            raise
        journal.end("interrupted", "stopped on request")
        raise
    except KeyboardInterrupt:
        journal.end("interrupted", "stopped on request")
        if not journal.asked_to_stop:
            raise
    except BaseException as error:
        journal.log(traceback.format_exc())
        with suppress(OSError):  # if the state cannot be saved, a resumed run repeats this work
            _close(events)
        journal.end("failed", sentence(error))
        raise
    finally:
        logging.getLogger("dcp_core").removeHandler(warnings)
        journal.close()


class _ToLog(logging.Handler):
    """Adds the warnings of this package to a run's log."""

    def __init__(self, journal: "_Journal") -> None:
        super().__init__(logging.WARNING)
        self.journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self.journal.log(record.getMessage())


def _close(events: Iterator[Event] | None) -> None:
    """Let the attack save its state, if it has started."""
    if isinstance(events, Generator):
        events.close()


def sentence(error: BaseException) -> str:
    """One sentence for the user about an error, and what to do."""
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "alloc" in text or "out of memory" in text:
        return "out of memory: use a smaller batch or clone, or fewer runs at once"
    if isinstance(error, OSError):
        return explained(error, "resume the run")
    if isinstance(error, ValueError | FloatingPointError):
        return text
    return f"{type(error).__name__}: {text}. The log has the details"


class _Journal:
    """The record of one session. A thread updates the heartbeat and looks for a request to stop."""

    def __init__(self, folder: Path, status: Status) -> None:
        self.folder, self.path, self.status = folder, folder / EVENTS, status
        self.asked_to_stop = False
        self._noticed, self._over = threading.Event(), threading.Event()
        self._written, self._line, self._phase = 0.0, -1.0, ""
        if (folder / LOG).exists() and (folder / LOG).stat().st_size > LOG_BYTES:
            (folder / LOG).unlink()
        status.write(folder)
        self._watch = threading.Thread(target=self._attend, daemon=True)
        self._watch.start()

    def write(self, **changes: Any) -> None:
        """Change fields of the status and write it."""
        self._noticed.set()
        self.status = dataclasses.replace(self.status, **changes)
        self.status.write(self.folder)
        self._written = time.monotonic()

    def keep(self, event: Event) -> None:
        """Record an event: status, sample picture, and if it is new enough, a line of `events.jsonl`."""
        self._noticed.set()
        began = self.status.work_began or time.time()
        start = self.status.work_from if self.status.work_began else event.fraction
        where = {"phase": event.phase, "fraction": event.fraction, "queries": event.queries}
        fresh = event.phase != self.status.phase or event.scores is not None
        if fresh or time.monotonic() - self._written > STATUS_EVERY:
            if event.images is not None:
                _draw(event, self.folder / SAMPLE)
            self.write(**where, work_began=began, work_from=start)
        if fresh or event.fraction - self._line >= 1 / LINES:
            self._line = event.fraction
            line = {"time": round(time.time(), 2), **where, "losses": event.losses}
            if event.scores is not None:
                scores = event.scores
                line |= {"error": scores.error, "fidelity": scores.fidelity, "pictures": scores.count}
                self.log(
                    f"{event.queries:,} queries: clone error {scores.error:.2f} %, fidelity {scores.fidelity:.2f} %"
                )
            self._append(self.path, json.dumps(line))
        if event.phase != self._phase:
            self._phase = event.phase
            self.log(event.phase)

    def report(self, phase: str) -> None:
        """Record what is done before the first event.

        Raises:
            KeyboardInterrupt: after a request to stop; there is no state to save yet.
        """
        if self.asked_to_stop:
            self._noticed.set()
            raise KeyboardInterrupt
        if time.monotonic() - self._written > STATUS_EVERY:
            self.write(phase=phase)

    def log(self, text: str) -> None:
        """Add a line to the log. Disk errors are ignored here: writing the status or a checkpoint raises them."""
        with suppress(OSError):
            self._append(self.folder / LOG, f"{time.strftime('%H:%M:%S')} {text}")

    def end(self, state: Any, message: str) -> None:
        """Write the final status of the session."""
        self.log(message or state)
        self._over.set()
        self._watch.join()  # its heartbeat must not change a file of the next writer
        with suppress(OSError):  # on a full disk the final status is missing, and the run counts as interrupted
            self.write(state=state, message=message)
            (self.folder / STOP).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop the thread."""
        self._over.set()

    def _append(self, path: Path, line: str) -> None:
        with path.open("ab+") as file:
            size = file.seek(0, 2)
            separator = b""
            if size:
                file.seek(size - 1)
                separator = b"" if file.read(1) == b"\n" else b"\n"  # ends the incomplete line of a killed worker
            file.write(separator + line.encode() + b"\n")

    def _attend(self) -> None:
        last, asked = time.monotonic(), 0.0
        while not self._over.wait(0.1):
            now = time.monotonic()
            if now - last > BEAT_EVERY:
                last = now
                with suppress(OSError):
                    beat(self.folder)
            if not self.asked_to_stop and (self.folder / STOP).exists():
                self._noticed.clear()
                self.asked_to_stop, asked = True, now
            if asked and now - asked > PATIENCE and not self._noticed.is_set():
                asked = 0.0
                _thread.interrupt_main()  # there was no event in which the attack could stop


def _draw(event: Event, path: Path) -> None:
    """Write an event's pictures side by side as PNG.

    The top classes of the answers are in the PNG's text "answers", as JSON: [[class, probability], ...] a picture.
    """
    assert event.images is not None
    strip = torch.cat(list(event.images), dim=2).permute(1, 2, 0).numpy()
    text = PngInfo()
    if event.answers is not None:
        tops = event.answers.topk(min(TOP, event.answers.shape[1]), dim=1)
        rows = zip(tops.indices.tolist(), tops.values.tolist(), strict=True)
        answers = [[[c, round(p, 4)] for c, p in zip(*row, strict=True)] for row in rows]
        text.add_text("answers", json.dumps(answers))
    write_atomic(path, lambda file: Image.fromarray(strip).save(file, "PNG", pnginfo=text))
