"""`dcp serve --ray` as users start it: replicas that agree, exact quotas, and one replica killed while clients ask."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from benchmarks.hostile_pictures import noise, saved
from dcp_core.api.keys import Keys
from dcp_core.models import zoo

pytest.importorskip("ray.serve", reason="Ray is optional: pip install -r requirements-ray.txt")

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
QUOTA = 100
PICTURE = saved(noise(64, 64), "PNG")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture
def server(victim: zoo.Victim, tmp_path: Path) -> Iterator[tuple[str, int, str]]:
    """Address and process id of a server with two replicas, and a key for `QUOTA` pictures."""
    secret, port = Keys().add("alice", quota=QUOTA), free_port()
    words = f"-m dcp_core serve --victim toy --defense random --port {port} --keys --ray --replicas 2".split()
    ports = {f"RAY_SERVE_HAPROXY_{name}_PORT": str(free_port()) for name in ("METRICS", "STATS")}
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, *words], env=os.environ | ports, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while "send a picture" not in (tmp_path / "log").read_text():
            assert started.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", started.pid, secret
    finally:
        started.terminate()
        started.wait(120)


def replicas(server: int) -> list[psutil.Process]:
    found = psutil.Process(server).children(recursive=True)
    return [each for each in found if any("ServeReplica" in word for word in each.cmdline())]


def ask(address: str, secret: str) -> tuple[int, str]:
    answered = requests.post(
        f"{address}/predict", PICTURE, headers={"Authorization": f"Bearer {secret}"}, timeout=120
    )
    return answered.status_code, answered.text if answered.status_code == 200 else ""


def test_replicas_agree_keep_quotas_and_lose_no_request_when_one_is_killed(server: tuple[str, int, str]) -> None:
    address, pid, secret = server
    two = replicas(pid)
    assert len(two) == 2
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, address, secret) for _ in range(QUOTA - 10)]
        while sum(each.done() for each in asked) < 20:
            time.sleep(0.01)
        os.kill(two[0].pid, signal.SIGKILL)
        seen = Counter(each.result() for each in asked)
    assert {status for status, _ in seen} == {200}
    assert len(seen) == 1  # a randomised defense: equal pictures get equal answers, from each replica
    with ThreadPoolExecutor(4) as pool:
        after = Counter(status for status, _ in pool.map(lambda _: ask(address, secret), range(20)))
    # A request that was in the killed replica may count twice: it was answered again by the other one.
    assert after.keys() == {200, 429}
    assert 6 <= after[200] <= 10
    operator = Keys().add("owner", operator=True)
    for key, status in ((None, 401), (secret, 403), (operator, 200)):  # also from this machine: HAProxy is on it
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        assert requests.get(f"{address}/watch", headers=headers, timeout=60).status_code == status
    (row,) = requests.get(f"{address}/watch", headers=headers, timeout=60).json()["clients"]
    assert (row["client"], row["today"]) == ("alice", QUOTA)
