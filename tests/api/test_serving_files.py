"""An exported file as the API's engine: the same answers as the library, and no torch."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from click.testing import CliRunner

from benchmarks.hostile_pictures import noise, saved
from dcp_core import Deception, answer, load_victim, read_image, to_tensor
from dcp_core.api.engines import exported
from dcp_core.cli import main
from dcp_core.models.onnx_session import OnnxError

ROOT = Path(__file__).parents[2]
VICTIM = "signs-resnet8"
PICTURE = saved(noise(40, 40), "PNG")
SERVE = """
import sys
sys.modules["torch"] = None  # importing it is an error
from dcp_core.cli import main
main(["serve-file", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "signs.onnx"
    made = CliRunner().invoke(
        main, ["export", "--victim", VICTIM, "--defense", "dcp", "--for", "server", "--to", str(path)]
    )
    assert made.exit_code == 0, made.output
    return path


@pytest.fixture
def server(file: Path, tmp_path: Path) -> Iterator[str]:
    """The address of `serve-file` in a process in which torch cannot be imported."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "DCP_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(file), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    while "running on" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=60)


def test_a_file_gives_clean_and_defended_posteriors_as_the_library_does(file: Path) -> None:
    engine, victim = exported(file), load_victim(VICTIM)
    pixels = to_tensor(read_image(PICTURE), victim.card.size)[None].repeat(3, 1, 1, 1)
    ours = answer(victim, pixels, Deception())
    clean, defended = engine.answer(pixels.numpy())
    assert (engine.classes, engine.size) == (victim.card.classes, 32)
    assert np.abs(clean - ours.clean.numpy()).max() < 1e-5
    assert np.abs(defended - ours.defended.numpy()).max() < 1e-4


def test_a_server_without_torch_answers_and_watches(server: str) -> None:
    answered = requests.post(f"{server}/predict", PICTURE, timeout=60)
    victim = load_victim(VICTIM)
    pixels = to_tensor(read_image(PICTURE), victim.card.size)[None]
    ours = dict(zip(victim.card.classes, answer(victim, pixels, Deception()).defended[0].tolist(), strict=True))
    (prediction,) = answered.json()["predictions"]
    assert {each["class"]: each["probability"] for each in prediction} == pytest.approx(ours, abs=1e-4)
    (row,) = requests.get(f"{server}/watch", timeout=10).json()["clients"]
    assert (row["pictures"], row["uncertain_share"]) == (1, 1.0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    network = ROOT / "precomputed/victims" / VICTIM / "model.onnx"
    for path in (network, ROOT / "README.md"):
        with pytest.raises(OnnxError):
            exported(path)
    result = CliRunner().invoke(main, ["serve-file", str(tmp_path / "none.onnx")])
    assert result.exit_code == 1
    assert "Check the path" in result.output


def test_the_servers_packages_are_those_of_the_whole_package() -> None:
    whole = (ROOT / "requirements.txt").read_text()
    lines = (ROOT / "requirements-serve.txt").read_text().splitlines()[1:]
    assert [line for line in lines if f"\n{line}" not in whole] == []
    assert json.dumps(lines).count("torch") == 0
