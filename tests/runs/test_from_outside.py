"""The defenses and the attack that CONTRIBUTING.md shows, added from outside: no page and no command raises."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import numpy as np
import pytest
import streamlit
from click.testing import CliRunner, Result
from PIL import Image
from starlette.applications import Starlette
from streamlit.testing.v1 import AppTest
from worlds import small_world

from dcp_core import cli
from dcp_core.attacks import ATTACKS
from dcp_core.cli import main
from dcp_core.costs import measure
from dcp_core.defenses import DEFENSES, Defense, NoDefense, exportable, make_defense, register
from dcp_core.plots.style import AUTOMATIC, mark_of
from dcp_core.results.rows import load_results
from dcp_core.runs import launch, store
from dcp_core.runs.estimate import estimate
from dcp_core.runs.experiment import read_experiment
from dcp_core.runs.spec import RunSpec

ROOT = Path(__file__).parents[2]
TOYS = ("flatten", "blend")
PLAN = """victims = ["small"]
budgets = [100]
[[attacks]]
name = "one_pass"
pools = ["POOL"]
size = [16, 32]
[[defenses]]
name = "flatten"
a = [0.1, 0.3]
"""


def run(*words: object) -> Result:
    """A command, run as a person runs it."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


async def ask(app: Starlette, picture: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to POST /predict, without a server."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": picture, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await anyio.sleep_forever()  # like a server's: the client stays
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def files() -> dict[str, str]:
    """The files that CONTRIBUTING.md shows, by their names."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    return dict(blocks)


def _forget_commands() -> dict[str, ModuleType]:
    """Have the commands imported anew: their options are those of the classes known then. Returns the modules by name."""
    names = [name for name in sys.modules if name.startswith("dcp_core.cli.")]
    return {name: sys.modules.pop(name) for name in names}


def _remember_commands(modules: dict[str, ModuleType]) -> None:
    """Put back what `_forget_commands` returned: other test files hold these modules, and patch them."""
    _forget_commands()
    sys.modules.update(modules)
    for name, module in modules.items():
        setattr(cli, name.rpartition(".")[2], module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are, and a picture."""
    path = tmp_path_factory.mktemp("outside")
    for name, text in files().items():
        (path / name).write_text(text)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path / "picture.png")
    return path


@pytest.fixture(scope="module")
def pool(folder: Path) -> Iterator[str]:
    """The three files imported, a small victim in a home of its own, and runs of all three on it; the victim's data."""
    known = dict(DEFENSES), dict(ATTACKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCP_HOME", str(folder / "home"))
        patch.syspath_prepend(folder)
        patch.setattr(launch, "start_workers", lambda: None)
        patch.setattr(measure, "BATCHES", {1: 1, 2: 1})
        patch.setattr(measure, "ENERGY_BATCH", 2)
        streamlit.cache_resource.clear()
        for name in files():
            __import__(Path(name).stem)
        commands = _forget_commands()
        data = small_world(folder)
        for defense in ("none", *TOYS):
            words = ["--victim", "small", "--attack", "one_pass", "--pool", data, "--budget", 64]
            done = run("attack", *words, "--defense", defense)
            assert done.exit_code == 0, done.output
        assert run("bench", "--victim", "small", "--seconds", 0.01, "--device", "cpu").exit_code == 0
        yield data
    for registry, before in zip((DEFENSES, ATTACKS), known, strict=True):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]
    for name in files():
        sys.modules.pop(Path(name).stem, None)
    _remember_commands(commands)
    streamlit.cache_resource.clear()


def open_page(page: str, **query: str) -> AppTest:
    """A page as a browser opens it from an address."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    app.switch_page(f"pages/{page}.py").run()
    assert not app.exception, app.exception
    return app


@pytest.mark.parametrize("closer", ["Functions", "Every step", "All defenses", "What the thief sees"])
def test_playground_shows_a_defense_from_outside(pool: str, closer: str) -> None:
    app = open_page("playground", victim="small", defense="flatten", closer=closer)
    assert app.selectbox(key="defense").value == "flatten"
    assert not app.error


@pytest.mark.parametrize("closer", ["Functions", "All defenses"])
def test_playground_shows_what_a_second_network_from_outside_says(pool: str, closer: str) -> None:
    app = open_page("playground", victim="small", defense="blend", closer=closer)
    assert app.selectbox(key="defense").value == "blend"
    assert not app.error
    if closer == "Functions":
        assert any("Output of the second network for each class" in each.value for each in app.markdown)


@pytest.mark.parametrize("name", TOYS)
def test_tradeoffs_draws_a_curve_of_a_defense_from_outside(pool: str, name: str) -> None:
    app = open_page("tradeoffs", t_victim="small", t_defense=name)
    assert app.selectbox(key="t_defense").value == name
    assert not app.error


def test_the_attack_lab_shows_and_launches_an_attack_from_outside(pool: str) -> None:
    done = [view.key for view in store.views()]
    app = open_page("attack_lab", a_victim="small", a_attack="one_pass", a_defense="blend")
    assert app.selectbox(key="a_attack").value == "one_pass"
    app.multiselect(key="a_runs").set_value(done).run()
    assert not app.exception
    assert any("One pass, 64 " in each.value for each in app.markdown)
    app.button(key="a_launch").click().run()
    assert not app.exception
    assert not app.error
    assert {view.spec.attack for view in store.views() if view.state == "queued" and view.spec} == {"one_pass"}


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("cost", {"c_victim": "small"}),
        ("quantized", {"q_victim": "small"}),
        ("quantized", {}),
        ("decide", {}),
        ("paper", {}),
        ("story", {}),
    ],
)
def test_every_other_page_opens(pool: str, page: str, query: dict[str, str]) -> None:
    assert not open_page(page, **query).error


def test_how_long_an_attack_from_outside_takes_is_estimated(pool: str) -> None:
    small, large = (
        estimate(RunSpec("small", "one_pass", {"size": 16}, budget=budget, pool=pool)) for budget in (100, 100_000)
    )
    assert 0 < small.attack < large.attack


@pytest.mark.parametrize("name", TOYS)
def test_perturb_answers_through_a_defense_from_outside(pool: str, name: str, folder: Path) -> None:
    done = run("perturb", folder / "picture.png", "--victim", "small", "--defense", name, "--a", "1.0")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    if name == "flatten":
        assert list(row["defended"].values()) == pytest.approx([0.25] * 4)


def test_the_row_of_an_attack_from_outside_says_what_was_run(pool: str) -> None:
    rows, problems = load_results()
    assert not problems
    ours = rows[(rows["victim"] == "small") & (rows["attack"] == "one_pass")].set_index("defense")
    assert set(ours.index) == {"none", *TOYS}
    assert set(ours["thief"]) == {"as is"}
    assert ours.loc["flatten", "strength"] == 0.3
    benched = rows[(rows["victim"] == "small") & rows["latency_ms"].notna()]
    assert set(TOYS) <= set(benched["defense"])


def test_plans_name_them(pool: str, folder: Path) -> None:
    (folder / "plan.toml").write_text(PLAN.replace("POOL", pool))
    listed = run("sweep", folder / "plan.toml", "--list")
    assert listed.exit_code == 0, listed.output
    assert listed.output.count("--attack one_pass") == 4
    experiment = PLAN.replace("POOL", pool).replace("[[", "[[cpu.")
    (folder / "experiment.toml").write_text("[[cpu]]\n" + experiment)
    assert len(read_experiment(str(folder / "experiment.toml")).scales["cpu"]) == 4


def test_export_refuses_a_defense_without_nodes_and_says_which_have_them(pool: str, folder: Path) -> None:
    done = run("export", "--victim", "signs-resnet8-ptq", "--defense", "flatten", "--to", folder / "x.onnx")
    assert done.exit_code == 1
    assert "Flatten cannot be exported, because it declares no ONNX nodes" in done.output
    assert not (folder / "x.onnx").exists()
    assert not set(TOYS) & set(exportable())


@pytest.mark.parametrize("name", TOYS)
def test_serve_answers_through_a_defense_from_outside(
    pool: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    monkeypatch.setattr("uvicorn.run", lambda app, **_: served.append(app))
    assert run("serve", "--victim", "small", "--defense", name, "--a", "1.0").exit_code == 0
    status, body = anyio.run(ask, served[0], (folder / "picture.png").read_bytes())
    assert (status, len(json.loads(body)["predictions"][0])) == (200, 4)


def test_decide_weighs_them(pool: str) -> None:
    assert "One pass" in run("decide").output or "one_pass" in run("decide").output
    said = run("decide", "small")
    assert said.exit_code == 0, said.output


def test_a_defense_without_a_mark_is_drawn_with_one_of_its_own(pool: str) -> None:
    drawn = [mark_of(name) for name in DEFENSES]
    assert len({(mark.color, mark.symbol) for mark in drawn}) == len(DEFENSES)
    assert {mark_of("flatten").color, mark_of("blend").color} < {color for color, _, _ in AUTOMATIC}


def test_another_process_knows_them_by_the_environment_variable(folder: Path) -> None:
    environment = os.environ | {
        "DCP_PLUGINS": "flatten, one_pass,missing_module",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    code = (
        "from dcp_core.attacks import make_attack; from dcp_core.defenses import make_defense; "
        "make_attack('one_pass'); print(make_defense('flatten'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "Flatten(a=0.3)\n", done.stderr
    assert "DCP_PLUGINS names missing_module" in done.stderr


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "must declare `title"),
        ({"title": "X", "source": "s", "name": "Bad Name"}, "must start with a letter"),
        ({"title": "X", "source": "s", "name": "dcp"}, "the name 'dcp' is already used by Deception"),
        ({"title": "No defense", "source": "s"}, "the title 'No defense' is already used"),
        ({"title": "X", "source": "s", "strength": "z"}, "not one of its parameters"),
        ({"title": "X", "source": "s", "mark": ("red", "x", "solid")}, "a mark is"),
    ],
)
def test_a_class_that_declares_too_little_is_refused_with_the_reason(attributes: dict, words: str) -> None:
    bare = type("Toy", (Defense,), {"name": "toy", "__module__": __name__} | attributes)
    with pytest.raises(ValueError, match=re.escape(words)):
        register(bare)
    assert "toy" not in DEFENSES
    assert make_defense("none") == NoDefense()
