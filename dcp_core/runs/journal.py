"""A run that can be watched: it leaves status, events, sample pictures and a log in its folder, and can be stopped.

The one way in which page, command line and cluster run something. Whoever holds the folder's lock is its one writer;
everything else reads. A torn last line of `events.jsonl` is what a killed worker leaves, and is skipped by readers.
"""

import _thread
import dataclasses
import json
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
from dcp_core.files import home, write_atomic
from dcp_core.results.rows import write_results
from dcp_core.runs.folder import EVENTS, LOCK, LOG, QUEUED, SAMPLE, STOP, claim, result
from dcp_core.runs.locks import holding
from dcp_core.runs.spec import Spec
from dcp_core.runs.status import Status, beat
from dcp_core.runs.worker import run

LINES = 400  # events kept of a whole run, besides those with scores
LOG_BYTES = 1_000_000  # a longer log is begun anew by the next sitting
STATUS_EVERY, BEAT_EVERY = 0.5, 1.0  # seconds
SAVE_EVERY = 20.0  # seconds of work that a killed worker loses at most
PATIENCE = 0.8  # seconds a request to stop waits for the next event, before the work is broken off
TOP = 3  # classes of an answer that are kept with a sample picture


class RunBusy(ValueError):
    """Somebody else works on the run."""


def record(
    spec: Spec, folder: Path, *, device: str | None = None, save_every: float = SAVE_EVERY, publish: bool = True
) -> Generator[Event, None, None]:
    """Run `spec` in `folder` or go on with it, keeping its record; yields its events.

    Ends early, resumable, when a file `stop` appears in the folder or the iterator is closed. Errors end up in the
    status as one sentence, in the log with their traceback, and are raised.

    Args:
        publish: add the result to `home()/results`, where every page finds it.

    Raises:
        ValueError: for a folder of another run (which is left alone), a run that somebody else works on, or what
            `run` says.
    """
    claim(spec, folder)
    with holding(folder / LOCK) as ours:
        if not ours:
            raise RunBusy(f"another process works on the run in {folder}: wait for it, or stop it")
        for name in (QUEUED, STOP):
            (folder / name).unlink(missing_ok=True)
        if result(folder) is None:
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            yield from _sitting(spec, folder, device, save_every)
        if publish and result(folder) is not None:
            add_to_results(spec, folder)


def add_to_results(spec: Spec, folder: Path) -> Path:
    """The file of results that holds this run's rows, written if it is not there."""
    path = home() / "results" / f"{spec.kind}-{spec.key}.csv"
    found = result(folder)
    if found is not None and not path.exists():
        write_results(path, pd.DataFrame(found["rows"]))
    return path


def _sitting(spec: Spec, folder: Path, device: str, save_every: float) -> Iterator[Event]:
    status = Status.here(torch.get_num_threads(), device)
    with suppress(OSError, ValueError):  # what an earlier sitting reached, until this one has loaded it
        if before := Status.read(folder):
            status = dataclasses.replace(status, fraction=before.fraction, queries=before.queries)
    journal = _Journal(folder, status)
    journal.log(f"{'resumed' if journal.path.exists() else 'started'}: {spec.command.split(' -m ')[1]}")
    events: Iterator[Event] | None = None
    try:
        events = run(spec, folder, device=device, save_every=save_every, tell=journal.tell)
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
        _close(events)
        journal.end("interrupted", "stopped on request")
        raise
    except KeyboardInterrupt:
        journal.end("interrupted", "stopped on request")
        if not journal.asked_to_stop:
            raise
    except BaseException as error:
        journal.log(traceback.format_exc())
        with suppress(OSError):  # what the disk does not take, a resumed run does again
            _close(events)
        journal.end("failed", sentence(error))
        raise
    finally:
        journal.close()


def _close(events: Iterator[Event] | None) -> None:
    """Have the attack save what it has, if it has begun."""
    if isinstance(events, Generator):
        events.close()


def sentence(error: BaseException) -> str:
    """What went wrong, for people."""
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or "alloc" in text or "out of memory" in text:
        return "out of memory: take a smaller batch or clone, or run fewer at once"
    if isinstance(error, OSError):
        return f"the disk: {error.strerror or text}; make room and resume"
    if isinstance(error, ValueError | FloatingPointError):
        return text
    return f"{type(error).__name__}: {text}; the log has the details"


class _Journal:
    """The record of one sitting, and the thread that keeps its heartbeat and looks for a request to stop."""

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
        """Change the status."""
        self._noticed.set()
        self.status = dataclasses.replace(self.status, **changes)
        self.status.write(self.folder)
        self._written = time.monotonic()

    def keep(self, event: Event) -> None:
        """Note where the attack is."""
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

    def tell(self, phase: str) -> None:
        """Note what is done before the first event.

        Raises:
            KeyboardInterrupt: when somebody asked for a stop: there is nothing yet to save.
        """
        if self.asked_to_stop:
            self._noticed.set()
            raise KeyboardInterrupt
        if time.monotonic() - self._written > STATUS_EVERY:
            self.write(phase=phase)

    def log(self, text: str) -> None:
        """Add to the log; a disk that cannot take it has worse news elsewhere."""
        with suppress(OSError):
            self._append(self.folder / LOG, f"{time.strftime('%H:%M:%S')} {text}")

    def end(self, state: Any, message: str) -> None:
        """The last word."""
        self.log(message or state)
        self._over.set()
        self._watch.join()  # or its heartbeat might touch what another writer leaves
        with suppress(OSError):  # a full disk: without a last word the run counts as interrupted
            self.write(state=state, message=message)
            (self.folder / STOP).unlink(missing_ok=True)

    def close(self) -> None:
        """End the thread."""
        self._over.set()

    def _append(self, path: Path, line: str) -> None:
        with path.open("ab+") as file:
            size = file.seek(0, 2)
            torn = b""
            if size:
                file.seek(size - 1)
                torn = b"" if file.read(1) == b"\n" else b"\n"  # the end of a killed worker's line
            file.write(torn + line.encode() + b"\n")

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
                _thread.interrupt_main()  # between two events for long: nothing of it could be saved


def _draw(event: Event, path: Path) -> None:
    """Pictures side by side; their answers' top classes, [[class, probability], ...] each, in the PNG's text."""
    assert event.images is not None
    strip = torch.cat(list(event.images), dim=2).permute(1, 2, 0).numpy()
    text = PngInfo()
    if event.answers is not None:
        tops = event.answers.topk(min(TOP, event.answers.shape[1]), dim=1)
        rows = zip(tops.indices.tolist(), tops.values.tolist(), strict=True)
        answers = [[[c, round(p, 4)] for c, p in zip(*row, strict=True)] for row in rows]
        text.add_text("answers", json.dumps(answers))
    write_atomic(path, lambda file: Image.fromarray(strip).save(file, "PNG", pnginfo=text))
