"""Throughput of the prediction API in the dashboard's server (`dcp app --serve`) as a share of its own (`dcp serve`).

Both servers run at the same time and are asked in turns, in a new random order in each round, so that other load on the
machine affects both equally. Each turn sends pictures over several connections and counts answers.

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


def answers(address: str) -> float:
    """Answers a second of a server that several connections ask."""
    end = time.monotonic() + SECONDS

    def ask(number: int) -> int:
        count = 0
        with requests.Session() as session:
            while time.monotonic() < end:
                session.post(f"{address}/predict", PICTURE, timeout=60).raise_for_status()
                count += 1
        return count

    began = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        count = sum(pool.map(ask, range(CONNECTIONS)))
    return count / (time.monotonic() - began)


def main() -> None:
    """Print the median ratio and its quartiles."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    alone, port = start("serve", "--victim", VICTIM)
    together, other = start("app", "--serve", VICTIM, "--no-keys", "--server.headless=true")
    addresses = {"alone": f"http://127.0.0.1:{port}", "together": f"http://127.0.0.1:{other}/api"}
    try:
        for address in addresses.values():
            wait(address)
            answers(address)  # a warm-up
        speeds: dict[str, list[float]] = {name: [] for name in addresses}
        for _ in range(rounds):
            for name in random.sample(list(addresses), 2):
                speeds[name].append(answers(addresses[name]))
    finally:
        for process in (alone, together):
            process.kill()
            process.wait()
    ratios = [b / a for a, b in zip(speeds["alone"], speeds["together"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    print(f"dcp serve: {statistics.median(speeds['alone']):.0f} answers a second")
    print(
        f"dcp app --serve: {100 * median:.0f} % of it (quartiles {100 * low:.0f} to {100 * high:.0f} %), {rounds} rounds"
    )


if __name__ == "__main__":
    main()
