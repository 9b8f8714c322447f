"""`dcp app`: the dashboard and the prediction API in one process, with headers for browsers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from benchmarks.hostile_pictures import noise, saved
from dcp_core.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "DCP_HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1"}
    environment["DCP_FRAMED_BY"] = "https://example.org"
    words = ["app", "--port", str(port), "--serve", "signs-resnet8", "--no-keys", "--server.headless=true"]
    process = subprocess.Popen([sys.executable, "-m", "dcp_core", *words], cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            requests.get(f"{address}/_stcore/health", timeout=5)
            break
        except OSError:
            time.sleep(0.2)
    yield address
    process.kill()
    process.wait()


def test_one_server_has_the_dashboard_and_the_api(server: str) -> None:
    assert "Streamlit" in requests.get(f"{server}/attack_lab", timeout=30).text
    answered = requests.post(f"{server}/api/predict", saved(noise(32, 32), "PNG"), timeout=60)
    assert sum(each["probability"] for each in answered.json()["predictions"][0]) == pytest.approx(1)
    described = requests.get(f"{server}/api/openapi.json", timeout=30).json()
    assert described["servers"] == [{"url": "/api"}]
    metrics = requests.get(f"{server}/api/metrics", timeout=30).text
    assert 'dcp_request_seconds_count{path="/predict",status="200"} 1.0' in metrics


def test_dashboard_and_api_have_their_own_headers_for_browsers(server: str) -> None:
    dashboard, api = requests.get(server, timeout=30).headers, requests.get(f"{server}/api/", timeout=30).headers
    assert "frame-ancestors 'self' https://example.org;" in dashboard["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in api["Content-Security-Policy"]
    assert dashboard["X-Content-Type-Options"] == api["X-Content-Type-Options"] == "nosniff"
    assert (dashboard["Referrer-Policy"], api["Referrer-Policy"]) == ("same-origin", "no-referrer")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--serve", "nobody"], "no victim 'nobody'"),
        (["--serve", "signs-resnet8", "--beta", "7"], "between 0 and 1.5"),
        (["--serve", "signs-resnet8"], "dcp keys add"),
    ],
)
def test_mistakes_are_explained_before_anything_starts(home: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["app", *words])
    assert result.exit_code == 1
    assert said in result.output
