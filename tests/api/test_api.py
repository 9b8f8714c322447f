"""The prediction API over HTTP."""

import io
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
import pytest
import requests
from click.testing import CliRunner
from PIL import Image
from running import running

from dcp_core import answer, read_image, to_tensor
from dcp_core.api import application
from dcp_core.api.pictures import AT_ONCE
from dcp_core.cli import main
from dcp_core.data.images import MAX_BYTES
from dcp_core.defenses import Deception, Defense
from dcp_core.models import zoo

DEFENSE = Deception(beta=0.8, tau=1.2)


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def served(victim: zoo.Victim, defense: Defense) -> AbstractContextManager[str]:
    return running(application(victim, defense))


@pytest.fixture(scope="module")
def api(shared_victim: zoo.Victim) -> Iterator[str]:
    with served(shared_victim, DEFENSE) as address:
        yield address


def expected(victim: zoo.Victim, picture: bytes) -> dict[str, float]:
    pixels = to_tensor(read_image(picture), victim.card.size)[None]
    return dict(zip(victim.card.classes, answer(victim, pixels, DEFENSE).defended[0].tolist(), strict=True))


def said(prediction: list[dict[str, object]]) -> dict[str, object]:
    return {entry["class"]: entry["probability"] for entry in prediction}


def test_a_picture_gets_the_defended_posterior_the_likeliest_class_first(victim: zoo.Victim, api: str) -> None:
    answered = requests.post(f"{api}/predict", png(0), timeout=10)
    assert answered.status_code == 200
    assert list(answered.json()) == ["predictions"]
    (prediction,) = answered.json()["predictions"]
    assert said(prediction) == pytest.approx(expected(victim, png(0)), abs=1e-7)
    probabilities = [entry["probability"] for entry in prediction]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_zip_gets_an_answer_for_each_picture_by_its_name(victim: zoo.Victim, api: str) -> None:
    answered = requests.post(f"{api}/predict", zipped({"b.png": png(1), "a.png": png(2)}), timeout=10).json()
    assert answered["pictures"] == ["a.png", "b.png"]
    for picture, prediction in zip((png(2), png(1)), answered["predictions"], strict=True):
        assert said(prediction) == pytest.approx(expected(victim, picture), abs=1e-6)


def test_many_customers_at_once_all_get_their_own_answer(victim: zoo.Victim, api: str) -> None:
    def ask(seed: int) -> object:
        return said(requests.post(f"{api}/predict", png(seed), timeout=30).json()["predictions"][0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert answers == [pytest.approx(expected(victim, png(seed)), abs=1e-6) for seed in range(16)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no body"),
        (b"not a picture", 400, "not a picture"),
        (png(0)[:200], 400, "damaged"),
        (b"PK\x03\x04 broken", 400, "not a zip archive"),
        (zipped({"good.png": png(0), "bad.png": b"nothing"}), 400, "bad.png: "),
        (zipped({f"{n}.png": b"" for n in range(AT_ONCE + 1)}), 400, f"parts of at most {AT_ONCE}"),
        (bytes(MAX_BYTES + 1), 413, "fewer or smaller"),
    ],
)
def test_bad_input_gets_a_clear_error_and_the_api_goes_on(api: str, body: bytes, status: int, words: str) -> None:
    refused = requests.post(f"{api}/predict", body, timeout=10)
    assert refused.status_code == status
    assert words in refused.json()["error"]
    assert requests.post(f"{api}/predict", png(0), timeout=10).status_code == 200


def test_it_says_how_to_ask_and_neither_victim_nor_defense(victim: zoo.Victim, api: str) -> None:
    about = requests.get(api, timeout=10)
    assert about.json()["classes"] == list(victim.card.classes)
    assert "POST /predict" in about.json()["ask"]
    assert not any(
        word in about.text.lower() for word in ("dcp", "beta", victim.card.name, victim.card.architecture)
    )
    for address, status in ((f"{api}/predict", 405), (f"{api}/nothing", 404)):
        refused = requests.get(address, timeout=10)
        assert (refused.status_code, list(refused.json())) == (status, ["error"])


def test_the_command_serves_until_it_is_interrupted(victim: zoo.Victim) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", "--victim", "toy", "--defense", "dcp", "--beta", "0.8", "--tau", "1.2", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dcp_core", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said_so_far = ""
    while "running on" not in said_so_far:
        line = process.stdout.readline()
        assert line, said_so_far
        said_so_far += line
    assert f"http://127.0.0.1:{port}/predict" in said_so_far
    (prediction,) = requests.post(f"http://127.0.0.1:{port}/predict", png(0), timeout=30).json()["predictions"]
    assert said(prediction) == pytest.approx(expected(victim, png(0)), abs=1e-7)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "Traceback" not in rest


def test_a_defense_without_its_second_network_is_not_served(victim: zoo.Victim) -> None:
    result = CliRunner().invoke(main, ["serve", "--victim", "toy", "--defense", "am"])
    assert result.exit_code == 1
    assert "python -m dcp_core auxiliary --victim toy" in result.output
