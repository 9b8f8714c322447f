"""One session of an audit: run the ladder through the queue of background runs until it is done or the time is over.

The runs are ordinary runs: they appear on the page Attack lab, and a finished one is never repeated. The victim answers
each picture once: its answers are stored before the runs start (`runs/shared_answers.py`).
"""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dcp_core.attacks.adaptive import AS_IS
from dcp_core.attacks.transfer_set import picking_order
from dcp_core.audit.fitting import Fit, fitting
from dcp_core.audit.ladder import first_specs, ladder
from dcp_core.audit.request import MOST_HOURS, AuditError, Request
from dcp_core.audit.rows import finished
from dcp_core.data.datasets import load
from dcp_core.runs import launch, store
from dcp_core.runs.describe import name_of, time_words
from dcp_core.runs.estimate import estimate
from dcp_core.runs.locks import holding
from dcp_core.runs.shared_answers import known_answers, share
from dcp_core.runs.spec import RunSpec, Spec
from dcp_core.runs.status import Status

LOCK = "lock"
TICK = 0.5  # seconds between two checks of the runs
CLOSING = 10.0  # seconds kept for stopping the runs and writing the report, at most a tenth of the time


@dataclass(frozen=True)
class AuditProgress:
    """The progress of an audit: the larger of the shares of its time and of its runs (0 to 1), and a sentence."""

    fraction: float
    words: str


@dataclass(frozen=True)
class Plan:
    """Each considered defense with its fitting setting or the reason why there is none, and all runs of the ladder."""

    fits: list[Fit]
    runs: list[RunSpec]


def audit(request: Request, hours: float) -> Iterator[AuditProgress]:
    """Run an audit for some time, yielding its progress; then stop what still runs. `report.write` makes the report.

    Closing the iterator, or Ctrl-C, stops the runs, which keep their state. Calling it again continues.

    Args:
        hours: the time limit.

    Raises:
        AuditError: for an impossible time, a pool that does not fit, or while another process audits the same victim.
        StoreError: without room on the disk.
    """
    if not 0 < hours <= MOST_HOURS:
        raise AuditError(f"the time must be above 0 and at most {MOST_HOURS:g} hours, not {hours:g}")
    request.check_pools()
    store.check_room()
    with holding(request.folder / LOCK) as ours:
        if not ours:
            raise AuditError(
                f"another process audits {request.victim}: wait for it, or stop it on the page Audit or with Ctrl-C"
            )
        status = Status.here(launch.threads(), "cpu")
        state = "failed"
        try:
            for progress in _work(request, hours):
                status = dataclasses.replace(status, fraction=progress.fraction, phase=progress.words)
                status.write(request.folder)
                yield progress
            state = "done"
        except (GeneratorExit, KeyboardInterrupt):
            state = "interrupted"
            raise
        finally:
            with suppress(OSError):
                dataclasses.replace(status, state=state).write(request.folder)  # type: ignore[arg-type]


def plan(request: Request) -> Plan:
    """The runs of an audit and the defenses that fit, from what is stored. No query is sent, and nothing is run.

    Raises:
        ValueError: as `Request.check_pools`.
    """
    fits = fitting(request.victim, request.defenses, request.needs, _first_answers(request))
    return Plan(fits, ladder(request, [fit.defense for fit in fits if fit.defense is not None]))


def _first_answers(request: Request) -> Tensor | None:
    """The clean logits (N, K) for the pictures that every audit sends first; None while they are not all stored.

    Later pictures are left out, so that the plan of an audit that continues is the same.
    """
    first = min(first_specs(request), key=lambda spec: spec.budget)
    pool = load(request.pool, "train", size=request.card.size)
    asked = picking_order(len(pool), first.seed)[: first.budget]
    known = known_answers(request.victim, pool, asked)
    return known if len(known) == len(asked) else None


def _work(request: Request, hours: float) -> Iterator[AuditProgress]:
    """Everything between the lock and its release."""
    began = time.monotonic()
    limit = hours * 3600
    queue = _Queue(began + limit - min(CLOSING, limit / 10))
    threads = torch.get_num_threads()
    torch.set_num_threads(launch.threads())
    try:
        yield AuditProgress(0.0, "reading the pictures, sending the first queries")
        share(first_specs(request)[:2], queue.deadline)
        runs = plan(request).runs
        known = finished(runs)
        todo = [spec for spec in runs if spec.key not in known]
        while time.monotonic() < queue.deadline:
            queue.look()
            if queue.has_room and (spec := queue.next(todo)):
                todo.remove(spec)
                share(_same_pictures(spec, runs), queue.deadline)
                if time.monotonic() > queue.deadline:
                    break
                queue.start(spec)
            elif not queue.active:
                break
            else:
                time.sleep(TICK)
            spent = (time.monotonic() - began) / limit
            ended = len(runs) - len(todo) - len(queue.active) - len(queue.lost)
            words = f"{ended} of {len(runs)} runs are done; {queue.words}; {time_words(limit * (1 - spent))} left"
            yield AuditProgress(min(0.99, max(spent, ended / len(runs))), words)
    finally:
        torch.set_num_threads(threads)
        queue.stop()
    done = len(finished(runs))
    more = "" if done == len(runs) else "; the same command with more time continues"
    yield AuditProgress(1.0, f"{done} of {len(runs)} runs are done{more}.")


def _same_pictures(spec: RunSpec, runs: list[RunSpec]) -> list[RunSpec]:
    """This run, and the runs of the plan that send only pictures which this run sends too: they share the answers."""
    return [
        each for each in runs if (each.pool, each.seed) == (spec.pool, spec.seed) and each.budget <= spec.budget
    ]


class _Queue:
    """The runs that this session started. It keeps all workers busy, and starts nothing that would end too late."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.started: dict[str, tuple[RunSpec, Path]] = {}
        self.lost: set[str] = set()  # keys of runs that ended without a result
        self.active: dict[str, store.RunView[Spec]] = {}
        self._expected: dict[tuple[object, ...], float] = {}
        self._began: dict[str, float] = {}
        self._measured, self._estimated = 0.0, 0.0

    @property
    def has_room(self) -> bool:
        """Whether another run can be queued. One waiting run is enough: a worker that finds none would end."""
        return len(self.active) <= launch.slots()

    @property
    def words(self) -> str:
        """The names and progress of the running runs, as a text."""
        running = [view for view in self.active.values() if view.state == "running"]
        return " and ".join(f"{name_of(view)} {view.fraction:.0%}" for view in running) or "waiting for a worker"

    def start(self, spec: RunSpec) -> None:
        """Queue a run. One that another process works on is only watched."""
        (folder,) = launch.launch([spec])
        self.started[spec.key] = spec, folder
        self.active[spec.key] = store.view(folder)

    def look(self) -> None:
        """Read the states of the runs, and remove those that have ended from the queue."""
        if self.active:
            launch.start_workers()  # replaces workers that were killed
        for key in list(self.active):
            spec, folder = self.started[key]
            view = store.view(folder)
            if view.state == "running":
                self._began.setdefault(key, time.monotonic())
            if view.active:
                self.active[key] = view
                continue
            del self.active[key]
            if view.state == "done" and key in self._began:
                self._measured += time.monotonic() - self._began[key]
                self._estimated += self._seconds(spec)
            elif view.state != "done":
                self.lost.add(key)

    def next(self, todo: list[RunSpec]) -> RunSpec | None:
        """The first run of the list that ends in time; the very first run of all is always tried."""
        if todo and not self.started:
            return todo[0]
        factor = self._measured / self._estimated if self._estimated else 1.0
        waiting = sum(
            factor * self._seconds(self.started[key][0]) * (1 - v.fraction) for key, v in self.active.items()
        )
        start = time.monotonic() + waiting / launch.slots()
        return next((spec for spec in todo if start + factor * self._seconds(spec) < self.deadline), None)

    def stop(self) -> None:
        """Stop the runs that are not done. Waiting ones first, so that no worker takes one."""
        for key in sorted(self.active, key=lambda key: self.active[key].state != "queued"):
            launch.stop(self.started[key][1])

    def _seconds(self, spec: RunSpec) -> float:
        """Estimated seconds of a run. Defenses and treatments make little difference, so they are not timed."""
        plain = dataclasses.replace(
            spec,
            defense="none",
            defense_parameters={},
            attack_parameters=spec.attack_parameters | {"treatment": AS_IS},
            seed=0,
        )
        kind = (plain.key,)
        if kind not in self._expected:
            self._expected[kind] = estimate(plain).seconds
        return self._expected[kind]
