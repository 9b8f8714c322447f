"""Throughput and waiting of `dcp serve --ray` with one and two replicas, as ratios to `dcp serve` on the same machine.

Each form runs beside `dcp serve`. Both are asked in turns, in a new random order in each round, so that other load on the
machine affects both equally. Each turn sends pictures over several connections and notes how long each answer took. The
last form puts the pictures of several requests into batches, with `serve.batch`; the program does not.

Run: python -m benchmarks.replicas [ROUNDS]
"""

import os
import random
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil
import requests
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request

from benchmarks.one_server import PICTURE, ROOT, VICTIM, processor_seconds, start, wait
from dcp_core.api.replicas import SharedWatch, Wanted, deploy, fingerprint, serve
from dcp_core.api.replicas import wait as wait_for_end
from dcp_core.api.service import Service
from dcp_core.api.victims import behind
from dcp_core.defenses import Deception, make_defense
from dcp_core.models import zoo

CONNECTIONS, SECONDS = 8, 4.0
FORMS = {  # words after `python -m`
    "1 replica": ("dcp_core", "serve", "--victim", VICTIM, "--ray", "--replicas", "1"),
    "2 replicas": ("dcp_core", "serve", "--victim", VICTIM, "--ray", "--replicas", "2"),
    "1 replica that batches": ("benchmarks.replicas", "batching"),
}


@dataclass
class Turn:
    """The measurements of one turn: answers for each elapsed and each processor second, and seconds of waiting."""

    clock: float
    processor: float
    median: float
    slowest: float  # the 99th percentile


def turn(address: str, process: psutil.Process) -> Turn:
    """Ask a server for `SECONDS` over all connections."""
    end = time.monotonic() + SECONDS

    def ask(number: int) -> list[float]:
        times = []
        with requests.Session() as session:
            while time.monotonic() < end:
                began = time.monotonic()
                session.post(f"{address}/predict", PICTURE, timeout=60).raise_for_status()
                times.append(time.monotonic() - began)
        return times

    began, before = time.monotonic(), processor_seconds(process)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        times = [each for some in pool.map(ask, range(CONNECTIONS)) for each in some]
    used = processor_seconds(process) - before
    median, slowest = np.percentile(times, [50, 99])
    return Turn(len(times) / (time.monotonic() - began), len(times) / used, float(median), float(slowest))


def compare(name: str, rounds: int) -> None:
    """Ask one form and `dcp serve` in turns, and print the ratios."""
    plain, port = start("serve", "--victim", VICTIM)
    other = port + 1
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *FORMS[name], "--port", str(other)]
    form = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
    servers = {
        "plain": (f"http://127.0.0.1:{port}", psutil.Process(plain.pid)),
        "form": (f"http://127.0.0.1:{other}", psutil.Process(form.pid)),
    }
    found: dict[str, list[Turn]] = {each: [] for each in servers}
    try:
        for address, process in servers.values():
            wait(address)
            turn(address, process)  # a warm-up
        for _ in range(rounds):
            for each in random.sample(list(servers), 2):
                found[each].append(turn(*servers[each]))
    finally:
        for started in (form, plain):
            started.terminate()
            started.wait()
    print(f"{name}, {rounds} rounds", flush=True)
    for what, unit, scale in (
        ("clock", "answers a second", 1), ("processor", "answers a second of processor time", 1),
        ("median", "ms, median", 1000), ("slowest", "ms, 99th percentile", 1000),
    ):  # fmt: skip
        one, both = ([getattr(each, what) for each in found[server]] for server in ("plain", "form"))
        low, median, high = statistics.quantiles([b / a for a, b in zip(one, both, strict=True)], n=4)
        print(
            f"  {scale * statistics.median(both):.0f} {unit}; dcp serve: {scale * statistics.median(one):.0f}; "
            f"ratio {median:.2f} (quartiles {low:.2f} to {high:.2f})",
            flush=True,
        )


class Batches(Service):
    """The API, but the pictures of several requests are answered together; a request waits for others at most 5 ms."""

    async def answers(self, request: Request, client: str, pixels: np.ndarray) -> np.ndarray:
        """The answers to one request, computed together with those of others."""
        return await self.together(client, pixels)  # type: ignore[arg-type]

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def together(self, clients: list[str], parts: list[np.ndarray]) -> list[np.ndarray]:
        """Defended posteriors (n, K) for each of several requests (n, 3, S, S)."""
        return await to_thread.run_sync(self.answer_all, clients, parts)

    def answer_all(self, clients: list[str], parts: list[np.ndarray]) -> list[np.ndarray]:
        """The same, in one call of the victim; runs in a thread."""
        ends = np.cumsum([len(part) for part in parts])[:-1]
        clean, defended = (np.split(each, ends) for each in self.engine.answer(np.concatenate(parts)))
        for each in zip(clients, parts, clean, strict=True):
            self.watch.see(*each)
        return defended


@dataclass(frozen=True)
class Batching(Wanted):
    """The deployment of `Batches` on Ray Serve."""

    def application(self) -> Starlette:
        """See `Wanted`."""
        engine = behind(zoo.load(self.victim), make_defense(self.defense, **self.parameters))
        return Batches(engine, None, SharedWatch("tell"), one_of_many=True).application()


def main() -> None:
    """Compare all forms, or serve with `Batching`, which `compare` starts as a command."""
    if "batching" in sys.argv:
        wanted = Batching(VICTIM, "dcp", Deception().values(), "cpu", False, {"action": "tell"}, fingerprint())
        deploy(wanted, None, "127.0.0.1", int(sys.argv[-1]), 1, 1)
        wait_for_end()
        return
    for name in FORMS:
        compare(name, int(sys.argv[1]) if len(sys.argv) > 1 else 10)


if __name__ == "__main__":
    main()
