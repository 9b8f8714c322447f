"""What one hostile request costs at most, and how long honest clients wait beside it.

For each body of `benchmarks/hostile_pictures.py`: processor time and memory that decoding takes, the units of work that
were counted, and the longest that an honest client waits while eight connections of another client send it.

Run: python -m benchmarks.hostile [SECONDS FOR EACH BODY]
"""

import multiprocessing
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from benchmarks.hostile_pictures import bodies, noise, saved
from dcp_core.api.pictures import pictures
from dcp_core.data.structure import MAX_WORK, ImageError, Work

SENDERS = 8


class From(HTTPAdapter):
    """Sends from another address of this machine, so that the server sees another client."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        super().init_poolmanager(*arguments, source_address=(self.address, 0), **options)


def measure(body: bytes, pipe: Connection) -> None:
    """Decode a body and send processor seconds, peak MiB, millions of units and the outcome; runs in its own process."""
    warnings.simplefilter("ignore")

    def peak() -> float:
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]

    work, before, start = Work(), peak(), time.process_time()
    try:
        said = f"{sum(1 for _ in pictures(body, 32, work))} pictures"
    except ImageError as error:
        said = str(error)[:60]
    pipe.send((time.process_time() - start, peak() - before, (MAX_WORK - work.left) / 1e6, said))


def alone(body: bytes) -> tuple[float, float, float, str]:
    """What `measure` sends, from a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dcp_core.api.decoding"])
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(body, theirs))
    process.start()
    result = ours.recv()
    process.join()
    return result


def waits(address: str, body: bytes, seconds: float) -> list[float]:
    """Seconds that each request of an honest client took while another client sent `body` all the time."""
    end = time.monotonic() + seconds

    def send() -> None:
        session = requests.Session()
        session.mount("http://", From("127.0.0.2"))
        while time.monotonic() < end:
            session.post(f"{address}/predict", body, timeout=60)

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    picture, taken = saved(noise(40, 50), "PNG"), []
    while time.monotonic() < end:
        start = time.monotonic()
        requests.post(f"{address}/predict", picture, timeout=60).raise_for_status()
        taken.append(time.monotonic() - start)
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return taken


def main(seconds: float) -> None:
    """Print a row for each body, and the worst of each column."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dcp_core", "serve", "--defense", "dcp", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, worst = f"http://127.0.0.1:{port}", [0.0, 0.0, 0.0]
    try:
        while True:
            try:
                requests.get(address, timeout=60)
                break
            except requests.ConnectionError:
                time.sleep(0.2)
        print(f"{'body':60}{'MB':>7}{'units':>8}{'s':>7}{'MiB':>7}{'wait':>7}  outcome")
        for name, body in [("nothing beside it", b""), *bodies()]:
            took, memory, units, said = alone(body)
            wait = max(waits(address, body, seconds))
            worst = [max(pair) for pair in zip(worst, (took, memory, wait), strict=True)]
            size = len(body) / 1e6
            print(f"{name:60}{size:7.2f}{units:7.1f}M{took:7.2f}{memory:7.0f}{wait:7.2f}  {said}", flush=True)
    finally:
        server.terminate()
        server.wait()
    print("worst: {:.2f} s of processor time, {:.0f} MiB, {:.2f} s of waiting".format(*worst))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
