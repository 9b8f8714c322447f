"""The prediction API as a service: keys, quotas, watching, slow and rude clients."""

import http.client
import io
import logging
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from click.testing import CliRunner
from PIL import Image
from running import running

from benchmarks.hostile_pictures import zipped
from dcp_core.api import application, bodies, connections, service
from dcp_core.api.keys import KeyFileError, Keys
from dcp_core.api.watch import Watch, read_rows
from dcp_core.cli import main
from dcp_core.defenses import NoDefense
from dcp_core.models import zoo


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def near(seed: int, count: int) -> bytes:
    """A zip of pictures around one picture, at distances of many orders, as an attack makes them."""
    random = np.random.default_rng(seed)
    base = random.integers(60, 190, (32, 32, 3))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            far = 10 ** random.uniform(-0.5, 1.7)
            pixels = (base + random.normal(0, far, base.shape)).clip(0, 255).astype(np.uint8)
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            archive.writestr(f"{number:03}.png", picture.getvalue())
    return file.getvalue()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "dcp.api")
    return caplog


@pytest.fixture
def open_api(victim: zoo.Victim) -> Iterator[str]:
    with running(application(victim, NoDefense())) as address:
        yield address


def ask(address: str, body: bytes, key: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return requests.post(f"{address}/predict", body, headers=headers, timeout=60)


def soon(true: Callable[[], bool]) -> None:
    """Wait until something is true: the server logs after it has answered."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def rows(address: str) -> dict[str, dict[str, object]]:
    return {row["client"]: row for row in requests.get(f"{address}/watch", timeout=10).json()["clients"]}


def test_only_valid_keys_get_answers_up_to_their_quota(victim: zoo.Victim) -> None:
    keys = Keys()
    alice, bob = keys.add("alice", quota=3), keys.add("bob", quota=100)
    with running(application(victim, NoDefense(), keys=keys)) as address:
        for wrong in (None, "dcp_wrong", alice + "x", ""):
            refused = ask(address, png(), wrong)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert ask(address, zipped(png(), 2), alice).status_code == 200
        refused = ask(address, zipped(png(), 2), alice)
        assert (refused.status_code, "1 of 3 pictures left" in refused.json()["error"]) == (429, True)
        assert ask(address, png(), alice).status_code == 200  # a refused request does not count
        assert ask(address, png(), bob).status_code == 200
        keys.revoke("bob")  # the running server notices
        assert ask(address, png(), bob).status_code == 401
        keys.path.write_text("{")
        assert ask(address, png(), alice).status_code == 503
    keys.path.unlink()
    again = Keys()
    secret = again.add("alice", quota=3)
    with running(application(victim, NoDefense(), keys=again)) as address:  # a restart does not renew the quota
        assert ask(address, png(), secret).status_code == 429


def test_the_file_of_keys_has_hashes_and_its_damage_is_named(home: Path) -> None:
    keys = Keys()
    secret = keys.add("alice")
    assert secret not in keys.path.read_text()
    assert keys.find(secret) == keys.all()[0]
    for name in ("alice", "", "a b", "x" * 65, "../a"):
        with pytest.raises(ValueError, match="name"):
            keys.add(name)
    for damage in ("{}", "[]", '{"keys": [1]}', keys.path.read_text().replace("10000", '"many"')):
        keys.path.write_text(damage)
        with pytest.raises(KeyFileError, match="damaged"):
            Keys().all()


def test_the_command_adds_lists_and_revokes_keys(home: Path) -> None:
    def say(*words: str) -> str:
        return CliRunner().invoke(main, ["keys", *words]).output

    assert "no keys yet" in say("list")
    assert "dcp_" in say("add", "alice", "--quota", "5")
    assert "alice: 5 pictures a day" in say("list")
    assert "already" in say("add", "alice")
    assert "revoked" in say("revoke", "alice")
    assert "no valid key" in say("revoke", "alice")


def test_an_open_address_needs_keys_unless_told_otherwise(victim: zoo.Victim) -> None:
    result = CliRunner().invoke(main, ["serve", "--victim", "toy", "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "dcp keys add" in result.output


def test_metrics_and_watch_are_for_the_owner(victim: zoo.Victim) -> None:
    keys = Keys()
    alice, operator = keys.add("alice"), keys.add("owner", operator=True)
    with running(application(victim, NoDefense(), keys=keys)) as address:
        ask(address, png(), alice)
        ask(address, b"nonsense", alice)
        page = requests.get(f"{address}/metrics", timeout=10).text
        assert 'dcp_request_seconds_count{path="/predict",status="200"} 1.0' in page
        assert 'dcp_refused_requests_total{reason="400"} 1.0' in page
        assert f"dcp_received_bytes_total {len(png()) + len(b'nonsense')}.0" in page
        assert 'dcp_pictures{client="alice"} 1.0' in page
        proxied = {"X-Forwarded-For": "203.0.113.9"}  # a web server on this machine sends the client's address
        for secret, status in ((alice, 403), (operator, 200)):
            headers = {**proxied, "Authorization": f"Bearer {secret}"}
            for path in ("metrics", "watch"):
                assert requests.get(f"{address}/{path}", headers=headers, timeout=10).status_code == status
        assert requests.get(f"{address}/watch", headers=proxied, timeout=10).status_code == 401


@pytest.mark.parametrize(("tau", "alarm"), [(0.999, True), (0.0, False)])
def test_many_uncertain_answers_raise_the_alarm(home: Path, tau: float, alarm: bool) -> None:
    watch, random = Watch(tau=tau), np.random.default_rng(0)
    for count in (99, 1):
        watch.see("a", random.random((count, 3, 32, 32), np.float32), np.array([[0.9, 0.1]] * count))
        assert watch.client("a").alarm is (alarm and count == 1)  # nothing is said of few


@pytest.mark.parametrize(("action", "status"), [("tell", 200), ("delay", 200), ("refuse", 403)])
def test_a_client_that_looks_like_an_attack_is_told_of_delayed_or_refused(
    victim: zoo.Victim, action: str, status: int, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "DELAY", 0.5)
    with running(application(victim, NoDefense(), watch=Watch(action, tau=0))) as address:  # type: ignore[arg-type]
        for seed in range(2):
            assert ask(address, near(0, 80 + seed)).status_code == 200
        row = rows(address)["127.0.0.1"]
        assert (row["pictures"], row["alarm"]) == (161, True)
        assert "looks like an attack" in log.text
        start = time.monotonic()
        answered = ask(address, png())
        assert answered.status_code == status
        assert (time.monotonic() - start > 0.5) == (action == "delay")
        if status == 200:
            asked = answered.json()["predictions"]
            assert sum(entry["probability"] for entry in asked[0]) == pytest.approx(1)
    (row,) = read_rows()  # for the page
    assert row["alarm"] is True


def test_every_answer_has_an_id_and_headers_for_browsers(open_api: str, log: pytest.LogCaptureFixture) -> None:
    answers = [requests.get(open_api, timeout=10), requests.get(f"{open_api}/no", timeout=10), ask(open_api, b"x")]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        soon(lambda id=answer.headers["X-Request-Id"]: id in log.text)
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3
    for path in ("", "/predict/", "/metrics/"):
        evil = requests.get(open_api + path, headers={"Host": "evil.example"}, timeout=10, allow_redirects=False)
        assert "evil" not in evil.text + str(evil.headers)


def connect(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def seconds_until_closed(client: socket.socket, drip: bytes) -> float:
    start = time.monotonic()
    try:
        while True:
            client.sendall(drip)
            client.settimeout(0.1)
            try:
                if not client.recv(4096):
                    break
            except TimeoutError:
                pass
    except OSError:
        pass
    return time.monotonic() - start


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "drip"), [(b"", b""), (b"GET / HT", b"T"), (HEAD, b"x"), (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"")]
)
def test_connections_that_drip_or_say_nothing_are_closed(
    victim: zoo.Victim, monkeypatch: pytest.MonkeyPatch, first: bytes, drip: bytes
) -> None:
    monkeypatch.setattr(bodies, "SECONDS", 1.0)
    with running(application(victim, NoDefense()), head_seconds=1.0) as address, connect(address) as client:
        client.sendall(first)
        assert seconds_until_closed(client, drip) < 8
        assert ask(address, png()).status_code == 200


def test_connections_are_counted_for_each_address(open_api: str, victim: zoo.Victim) -> None:
    with running(application(victim, NoDefense()), connections=4) as address:
        held = [connect(address), connect(address)]
        with connect(address) as third:
            assert seconds_until_closed(third, b"G") < 5
        for client in held:
            client.close()
        soon(lambda: answers(address))


def test_unfinished_bodies_hold_a_bounded_number_of_bytes(
    victim: zoo.Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "OF_ONE", 100_000)
    with running(application(victim, NoDefense())) as address:
        clients = [connect(address) for _ in range(5)]
        for client in clients:
            client.sendall(HEAD.replace(b"1000", b"90000") + bytes(40_000))
        # the first two may go on
        soon(lambda: 'reason="503"} 3.0' in requests.get(f"{address}/metrics", timeout=10).text)
        assert "dcp_held_bytes 80000.0" in requests.get(f"{address}/metrics", timeout=10).text
        for client in clients:
            client.close()


def test_clients_that_hang_up_leave_one_line_in_the_log(open_api: str, log: pytest.LogCaptureFixture) -> None:
    host = open_api.removeprefix("http://")
    for body in (b"", bytes(500)):
        client = http.client.HTTPConnection(host, timeout=10)
        client.putrequest("POST", "/predict")
        client.putheader("Content-Length", "1000")
        client.endheaders(body)
        time.sleep(0.1)
        client.close()
    with connect(open_api) as client:
        client.sendall(HEAD.replace(b"1000", str(len(png())).encode()) + png())
    soon(lambda: log.text.count(" gone ") >= 2)
    assert "Traceback" not in log.text
    assert not [record for record in log.records if record.levelname == "ERROR"]
    assert connections.HEAD_SECONDS <= 30
