"""Victims that are services: every form of question and answer, a service that misbehaves, and each request counted."""

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from click.testing import CliRunner
from networks import CLASSES, archive, network, pictures, pixels
from PIL import Image

from dcp_core.api import application
from dcp_core.audit import Request
from dcp_core.cli import main
from dcp_core.defenses import NoDefense
from dcp_core.given.check import CheckError
from dcp_core.given.services import EXAMPLE, accept_service, examine_service
from dcp_core.making import finish, make_quantized
from dcp_core.models import remote, zoo
from dcp_core.models.given_onnx import GivenNetwork
from dcp_core.models.preprocessing import Preprocessing
from dcp_core.models.remote import RemoteClassifier, RemoteError, ledger_of
from dcp_core.models.service import Service, ServiceError, read_service
from dcp_core.runs.estimate import estimate
from dcp_core.runs.spec import RunSpec

NETWORK = GivenNetwork(network())


def posteriors(images: torch.Tensor) -> list[list[float]]:
    return NETWORK(images, Preprocessing(8)).softmax(1).tolist()


class Server(ThreadingHTTPServer):
    """A service on this machine. `script` has answers that it gives first, a status and a content each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, bytes, dict[str, str]]] = []
        self.count, self.keys = 0, []  # type: ignore[var-annotated]
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Plain JSON, multipart and raw bytes at /..., KServe's V2 protocol at /v2/models/toy/infer."""

    server: Server

    def do_POST(self) -> None:
        server, length = self.server, int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        server.count += 1
        server.keys.append(self.headers.get("Authorization"))
        status, content, headers = server.script.pop(0) if server.script else (200, self.answer(body), {})
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def answer(self, body: bytes) -> bytes:
        if self.path.startswith("/v2"):
            (given,) = json.loads(body)["inputs"]
            assert given["datatype"] == "FP32"
            row = posteriors(torch.tensor(given["data"]).view(given["shape"]))[0]
            return json.dumps({"outputs": [{"name": "p", "shape": [1, 4], "data": row}]}).encode()
        if self.headers["Content-Type"] == "application/json":
            body = base64.b64decode(json.loads(body)["image"])
        elif self.headers["Content-Type"].startswith("multipart"):
            body = body[body.index(b"\x89PNG") : body.rindex(b"\r\n--")]
        image = torch.from_numpy(np.array(Image.open(io.BytesIO(body)))).permute(2, 0, 1)[None] / 255
        row = posteriors(image)[0]
        if self.path == "/top":
            best = sorted(zip(row, CLASSES, strict=True), reverse=True)[:2]
            return json.dumps([{"label": name, "score": score} for score, name in best]).encode()
        return json.dumps({"result": {"p": [row]}}).encode()

    def log_message(self, format: str, *arguments: Any) -> None:
        """No output."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        made.shutdown()


def service(server: Server, **changes: Any) -> Service:
    given = {"url": f"{server.url}/predict", "path": "result.p.0", "per_second": 1000.0, "retries": 3}
    return Service(**{"size": 8, "classes": CLASSES} | given | changes)


KSERVE = '{"inputs": [{"name": "x", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": "{pixels}"}]}'
FORMS: dict[str, dict[str, Any]] = {
    "raw bytes": {},
    "multipart": {"form": "multipart", "name": "picture"},
    "base64 in JSON": {"form": "json", "body": '{"image": "{picture}"}'},
    "KServe V2": {"form": "json", "body": KSERVE, "path": "outputs.0.data"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gets_the_posteriors(home: Path, server: Server, form: str) -> None:
    changes = dict(FORMS[form])
    if form == "KServe V2":
        changes["url"] = f"{server.url}/v2/models/toy/infer"
    model = RemoteClassifier(service(server, **changes), 100)
    seen = pixels(6)
    torch.testing.assert_close(model(seen).softmax(1), torch.tensor(posteriors(seen)), atol=1e-5, rtol=0)
    assert server.count == 6


def test_an_answer_with_the_best_two_only_shares_the_rest(home: Path, server: Server) -> None:
    described = service(server, url=f"{server.url}/top", path="", label="label", score="score")
    seen = pixels(4)
    found, full = RemoteClassifier(described, 100)(seen).softmax(1), torch.tensor(posteriors(seen))
    assert torch.equal(found.argmax(1), full.argmax(1))
    torch.testing.assert_close(found.topk(2).values, full.topk(2).values, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(4))


def test_our_own_api_is_such_a_service(home: Path) -> None:
    victim = zoo.load("signs-resnet8")
    api = uvicorn.Server(uvicorn.Config(application(victim, NoDefense()), log_level="warning"))
    seen = torch.randint(0, 256, (2, 3, 32, 32)) / 255
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/predict"
        described = Service(
            url, 32, victim.card.classes, path="predictions.0", label="class", score="probability", per_second=1000
        )
        thread = threading.Thread(target=api.run, args=([listening],), daemon=True)
        thread.start()
        try:
            found = RemoteClassifier(described, 10)(seen).softmax(1)
        finally:
            api.should_exit = True
            thread.join(10)
    with torch.inference_mode():
        torch.testing.assert_close(found, victim.model(seen).softmax(1), atol=1e-5, rtol=0)


def test_no_picture_is_sent_twice_not_even_in_another_session(home: Path, server: Server) -> None:
    seen = pixels(5)
    first = RemoteClassifier(service(server), 100)(seen)
    again = RemoteClassifier(service(server), 100)
    assert torch.equal(again(seen), first)
    assert server.count == again.ledger.requests == 5


def test_two_at_the_same_time_send_a_picture_once(home: Path, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: RemoteClassifier(service(server), 100)(pixels(5)), range(4)))
    assert all(torch.equal(each, found[0]) for each in found)
    assert server.count == 5


@pytest.mark.parametrize("changes", [False, True])
def test_a_service_that_changes_between_sessions_is_noticed(
    home: Path, server: Server, monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    first = RemoteClassifier(service(server), 100)
    first(pixels(3))
    assert first.choose_probe(pictures_of(pixels(1))[0])
    monkeypatch.setattr(remote, "PROBE_AFTER", -1.0)
    later = RemoteClassifier(service(server), 100)
    later(pixels(3))
    assert server.count == 4  # nothing new is asked, so nothing is checked
    if not changes:
        later(pixels(4))
        assert server.count == 6
        return
    server.script = [(200, OTHER, {})]
    with pytest.raises(RemoteError, match="has changed: it gives another answer to a picture than before"):
        later(pixels(4))
    assert server.count == later.ledger.requests == 5


def test_a_service_that_answers_at_random_is_named(home: Path, server: Server, tmp_path: Path) -> None:
    server.script = [(200, OTHER, {})]  # to the first picture
    found = finish(examine_service(described(server, tmp_path), archive(tmp_path), most_requests=400, most=8))
    assert server.count == found.sent == 9
    assert "another answer to the same picture" in " ".join(found.words())


OTHER = b'{"result": {"p": [[0.4, 0.3, 0.2, 0.1]]}}'


def pictures_of(seen: torch.Tensor) -> torch.Tensor:
    return seen.mul(255).round().byte()


def test_errors_that_pass_are_tried_again_and_every_request_is_counted(home: Path, server: Server) -> None:
    waits: list[float] = []
    server.script = [
        (429, b"slow down", {"Retry-After": "7"}),
        (500, b"oops", {}),
        (200, b"{}", {"Content-Length": "50"}),
    ]
    model = RemoteClassifier(service(server), 100, waits.append)
    model(pixels(1))
    assert [round(each) for each in waits if each > 0.5] == [7, 14, 28]
    assert server.count == model.ledger.requests == 4


def test_a_date_until_which_to_wait_is_kept_and_words_are_none(home: Path, server: Server) -> None:
    waits: list[float] = []
    later, past = formatdate(time.time() + 40, usegmt=True), formatdate(0, usegmt=True)
    server.script = [(503, b"", {"Retry-After": text}) for text in (later, past, "soon")]
    RemoteClassifier(service(server), 100, waits.append)(pixels(1))
    waits = [each for each in waits if each > 0.5]
    assert 5 < waits[0] <= 40
    doubled = [min(factor * waits[0], remote.LONGEST_PAUSE) for factor in (2, 4)]  # as without the header
    assert waits[1:] == doubled


def test_a_service_that_asks_for_an_hour_is_not_asked_again_now(home: Path, server: Server) -> None:
    server.script = [(429, b"quota", {"Retry-After": "3600"})]
    model = RemoteClassifier(service(server), 100, lambda seconds: None)
    with pytest.raises(RemoteError, match="asks to wait 60 minutes"):
        model(pixels(1))
    assert server.count == model.ledger.requests == 1


def test_a_service_that_stays_down_is_told_and_what_arrived_is_kept(home: Path, server: Server) -> None:
    model = RemoteClassifier(service(server), 100, lambda seconds: None)
    model(pixels(2))
    server.script = [(503, b"down", {})] * 4
    with pytest.raises(RemoteError, match="does not answer after 4 attempts: status 503"):
        model(pixels(3))
    model(pixels(3))
    assert server.count == model.ledger.requests == 2 + 4 + 1


def test_a_refusal_is_final_and_shows_no_key(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCP_KEY_TOY", "s3cret-value")
    described = service(server, headers={"Authorization": "Bearer ${DCP_KEY_TOY}"})
    server.script = [(401, b"wrong key s3cret-value", {})]
    model = RemoteClassifier(described, 100)
    with pytest.raises(RemoteError, match="refuses the request with status 401") as error:
        model(pixels(1))
    assert "s3cret" not in str(error.value)
    assert server.keys == ["Bearer s3cret-value"]
    stored = b"".join(each.read_bytes() for each in home.rglob("*") if each.is_file())
    assert b"s3cret" not in stored


def test_a_redirect_is_not_followed(home: Path, server: Server) -> None:
    server.script = [(307, b"", {"Location": f"{server.url}/elsewhere"})]
    with pytest.raises(RemoteError, match="status 307"):
        RemoteClassifier(service(server), 100)(pixels(1))
    assert server.count == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "not JSON"),
        (b"{}", "has no 'result.p.0'"),
        (b'{"result": {"p": [[1, 0, 0]]}}', "must have 4 numbers"),
        (b'{"result": {"p": [[5, 1, 1, 1]]}}', "no probabilities"),
        (b'{"result": {"p": [["a", 0, 0, 0]]}}', "must have 4 numbers"),
        (b'{"result": {"p": [[NaN, 0, 0, 1]]}}', "must have 4 numbers"),
    ],
)
def test_an_answer_of_another_form_is_told_in_a_sentence(
    home: Path, server: Server, content: bytes, reason: str
) -> None:
    server.script = [(200, content, {})]
    with pytest.raises(ServiceError, match=reason):
        RemoteClassifier(service(server), 100)(pixels(1))


def test_a_class_that_appears_later_is_told(home: Path, server: Server) -> None:
    described = service(server, url=f"{server.url}/top", path="", label="label", score="score")
    server.script = [(200, b'[{"label": "new", "score": 1}]', {})]
    with pytest.raises(ServiceError, match="class 'new', which is not in the description"):
        RemoteClassifier(described, 100)(pixels(1))


def test_the_limit_is_never_passed(home: Path, server: Server) -> None:
    model = RemoteClassifier(service(server), 3)
    with pytest.raises(RemoteError, match="limit of 3 requests"):
        model(pixels(5))
    assert server.count == 3
    raised = RemoteClassifier(service(server), 5)
    raised(pixels(5))
    assert server.count == 5


def test_the_rate_is_limited(home: Path, server: Server) -> None:
    waits: list[float] = []
    RemoteClassifier(service(server, per_second=2.0), 100, waits.append)(pixels(4))
    assert sum(waits) >= 0.4 * 3


BAD: list[tuple[Callable[[str], str], str]] = [
    (lambda text: "url = ", "not TOML"),
    (lambda text: "nonsense = 1\n" + text, "no 'nonsense'"),
    (lambda text: text.replace("size = 224", 'size = "224"'), "another type"),
    (lambda text: text.replace('["cat", "dog"]', '["cat", "cat"]'), "different names"),
    (lambda text: text.replace("https://example", "file:///example"), "http"),
    (lambda text: text.replace("https://example", "https://me:pw@example"), "password"),
    (lambda text: text.replace("Bearer ${DCP_KEY_1}", "Bearer abc"), "keys are not stored"),
    (lambda text: text.replace("DCP_KEY_1", "HOME"), "begin with DCP_KEY_"),
    (lambda text: text.replace("{picture}", "x").replace("{pixels}", "x"), "must contain"),
    (lambda text: text.replace('form = "json"', 'form = "xml"'), "form must be"),
    (lambda text: "\n".join(line for line in text.splitlines() if "classes" not in line), "lacks classes"),
]


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_a_wrong_description_says_what_is_wrong(change: Callable[[str], str], reason: str) -> None:
    with pytest.raises(ServiceError, match=reason):
        read_service(change(EXAMPLE))


def test_the_example_is_a_description_and_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DCP_KEY_1", raising=False)
    with pytest.raises(ServiceError, match="DCP_KEY_1 is not set"):
        read_service(EXAMPLE).secret_headers()


def described(server: Server, folder: Path) -> Path:
    path = folder / "service.toml"
    path.write_text(
        f'url = "{server.url}/predict"\nsize = 8\nclasses = {json.dumps(CLASSES)}\npath = "result.p.0"\nper_second = 1000'
    )
    return path


def test_it_asks_before_the_first_request_and_states_what_the_service_counted(
    home: Path, server: Server, tmp_path: Path
) -> None:
    add = ["victims", "add", "api", str(described(server, tmp_path)), "--data", archive(tmp_path)]
    assert "needs a limit" in CliRunner().invoke(main, add).output
    add += ["--price-per-1000", "2", "--most-money", "0.5"]
    refused = CliRunner().invoke(main, add, input="n\n")
    assert "at most 250 requests in all, which cost 0.50" in refused.output
    assert server.count == 0
    done = CliRunner().invoke(main, [*add, "--yes"])
    assert "accuracy 100.00 %" in done.output, done.output
    assert "161 of 250 requests sent, 0.32 in money" in done.output  # one picture is sent again
    assert server.count == 161
    attack = ["attack", "--victim", "api", "--pool", pool(tmp_path), "--clone", "resnet8", "--defense", "dcp"]
    attack += ["--budget", "40", "--epochs", "1", "--to", str(tmp_path / "run")]
    stolen = CliRunner().invoke(main, attack)
    assert "after 40 queries" in stolen.output, stolen.output
    assert "transfer" not in stolen.output
    assert server.count == 161 + 40
    card = zoo.card("api")
    assert ledger_of(zoo.service("api")).requests == server.count
    assert Request.of("api", (pool(tmp_path),)).price == card.recipe["price_per_1000"] == 2


def pool(folder: Path) -> str:
    images = np.random.default_rng(1).integers(0, 256, (60, 24, 24, 3), dtype=np.uint8)
    np.savez(folder / "pool.npz", x_train=images)
    return str(folder / "pool.npz")


def test_what_needs_the_network_says_so_and_an_estimate_sends_nothing(
    home: Path, server: Server, tmp_path: Path
) -> None:
    found = finish(examine_service(described(server, tmp_path), archive(tmp_path), most_requests=400, most=80))
    accept_service("api", found)
    sent = server.count
    with pytest.raises(zoo.VictimError, match="is a service"):
        finish(make_quantized("api"))
    with pytest.raises(zoo.VictimError, match="is a service"):
        zoo.onnx_file("api")
    assert "is a service" in CliRunner().invoke(main, ["bench", "--victim", "api", "--seconds", "1"]).output
    assert estimate(RunSpec("api", pool=pool(tmp_path), budget=50, clone="resnet8")).seconds > 0
    assert server.count == sent


def test_pictures_of_other_classes_are_refused_before_anything_is_sent(
    home: Path, server: Server, tmp_path: Path
) -> None:
    other = archive(tmp_path, classes=np.array(tuple("abcd")), images=pictures()[0])
    with pytest.raises(CheckError, match="has the class a"):
        finish(examine_service(described(server, tmp_path), other, most_requests=10))
    assert server.count == 0
