"""Throughput of the prediction API in the dashboard's server (`dcp app --serve`) as a share of its own (`dcp serve`).

Both servers run at the same time and are asked in turns, in a new random order in each round, so that other load on the
machine affects both equally. Each turn sends pictures over several connections and counts answers. A second ratio is that
of the answers for each second of the servers' processor time, which depends less on other load.

Run: python -m benchmarks.one_server [ROUNDS]
"""

import os
import random
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import requests

from benchmarks.hostile_pictures import noise, saved

ROOT = Path(__file__).parents[1]
CONNECTIONS, SECONDS = 4, 3.0
PICTURE = saved(noise(64, 64), "JPEG")
VICTIM = "signs-resnet8"


def start(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command of this package with a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dcp_core", *words, "--port", str(port)]
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet), port


def wait(address: str) -> None:
    """Wait until a server answers."""
    while True:
        try:
            if requests.post(f"{address}/predict", PICTURE, timeout=30).status_code == 200:
                return
        except OSError:
            time.sleep(0.5)


def processor_seconds(process: psutil.Process) -> float:
    """Processor time of a server with its processes."""
    times = [each.cpu_times() for each in [process, *process.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


def answers(address: str, process: psutil.Process) -> tuple[float, float]:
    """Answers of a server to several connections: for each elapsed second, and for each second of processor time."""
    end = time.monotonic() + SECONDS

    def ask(number: int) -> int:
        count = 0
        with requests.Session() as session:
            while time.monotonic() < end:
                session.post(f"{address}/predict", PICTURE, timeout=60).raise_for_status()
                count += 1
        return count

    began, before = time.monotonic(), processor_seconds(process)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        count = sum(pool.map(ask, range(CONNECTIONS)))
    return count / (time.monotonic() - began), count / (processor_seconds(process) - before)


def main() -> None:
    """Print the median ratios and their quartiles."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    alone, port = start("serve", "--victim", VICTIM)
    together, other = start("app", "--serve", VICTIM, "--no-keys", "--server.headless=true")
    servers = {
        "alone": (f"http://127.0.0.1:{port}", psutil.Process(alone.pid)),
        "together": (f"http://127.0.0.1:{other}/api", psutil.Process(together.pid)),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    try:
        for address, process in servers.values():
            wait(address)
            answers(address, process)  # a warm-up
        for _ in range(rounds):
            for name in random.sample(list(servers), 2):
                found[name].append(answers(*servers[name]))
    finally:
        for started in (alone, together):
            started.kill()
            started.wait()
    for column, what in enumerate(("on the clock", "of processor time")):
        pairs = zip(found["alone"], found["together"], strict=True)
        ratios = [both[column] / one[column] for one, both in pairs]
        low, median, high = (100 * each for each in statistics.quantiles(ratios, n=4))
        speed = statistics.median(each[column] for each in found["alone"])
        print(f"dcp serve: {speed:.0f} answers a second {what}")
        print(f"dcp app --serve: {median:.0f} % of it (quartiles {low:.0f} to {high:.0f} %), {rounds} rounds")


if __name__ == "__main__":
    main()
