"""The wheel, installed in a fresh environment and used from another folder."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dcp_core.cli import COMMANDS

ROOT = Path(__file__).parents[1]
MEGABYTES = 15  # the most that a wheel may have
OPEN_EVERY_PAGE = """
import dcp_core.files
from streamlit.testing.v1 import AppTest
from dcp_core.ui import PAGES
for page in PAGES:
    app = AppTest.from_file(dcp_core.files.SHIPPED / "app.py", default_timeout=120)
    app.switch_page(f"pages/{page}.py").run()
    print(page, [error.value for error in [*app.exception, *app.error]], flush=True)
"""


class Installed:
    """An environment with the wheel in it and the dependencies of the one that runs the tests."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.wheel, self.folder, self.bin = wheel, folder, folder / "env" / "bin"
        self.home = folder / "home"
        venv.create(folder / "env", with_pip=False)
        (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
        reused = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "dependencies.pth").write_text("\n".join(reused))
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python")]
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.environment |= {"DCP_HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """What a program of the environment answers, called from the folder beside it."""
        command = [str(self.bin / program), *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    return Installed(next(folder.glob("*.whl")), folder)


@pytest.fixture
def dashboard(installed: Installed) -> Iterator[str]:
    """The address of a dashboard that `dcp app` opened."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [installed.bin / "dcp", "app", "--port", str(port), "--server.headless=true"],
        cwd=installed.folder,
        env=installed.environment,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_the_console_script_is_the_command_line(installed: Installed) -> None:
    shown = installed.run("dcp", "--help").stdout
    assert shown.startswith("Usage: dcp ")
    assert all(name in shown for name in COMMANDS)


def test_the_embedded_victims_come_with_the_wheel_and_answer(installed: Installed) -> None:
    assert installed.wheel.stat().st_size < MEGABYTES * 1e6
    lines = installed.run("dcp", "victims").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["signs-resnet8", "signs-resnet8-ptq", "signs-resnet8-qat"]
    picture = installed.folder / "picture.png"
    Image.new("RGB", (40, 40), "red").save(picture)
    answer = installed.run("dcp", "perturb", picture, "--defense", "am")  # with its second network
    assert answer.returncode == 0, answer.stderr
    (row,) = json.loads(answer.stdout)
    assert sum(row["defended"].values()) == pytest.approx(1, abs=1e-5)


def test_every_page_opens_from_the_wheel(installed: Installed) -> None:
    opened = installed.run("python", "-c", OPEN_EVERY_PAGE)
    assert opened.returncode == 0, opened.stderr
    lines = opened.stdout.splitlines()
    assert len(lines) > 7
    assert all(line.endswith(" []") for line in lines), opened.stdout


def test_the_app_command_serves_the_dashboard_with_its_theme(dashboard: str, installed: Installed) -> None:
    for _ in range(120):
        try:
            assert urllib.request.urlopen(f"{dashboard}/_stcore/health", timeout=2).read() == b"ok"
            break
        except OSError:
            time.sleep(0.25)
    assert b"Streamlit" in urllib.request.urlopen(f"{dashboard}/paper", timeout=5).read()


def test_the_archive_brings_the_other_victims(installed: Installed, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "tools/release.py"), str(tmp_path)], check=True)
    (archive,) = tmp_path.iterdir()
    fetched = installed.run("dcp", "fetch", archive)
    assert fetched.returncode == 0, fetched.stderr
    listed = installed.run("dcp", "victims").stdout
    for card in (ROOT / "precomputed/victims").glob("*/card.json"):
        assert card.parent.name in listed
