"""Text from an address or a file is shown as it is, never drawn as Markdown; numbers that are none are refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_pages import SIGNS, open_page

from dcp_core import ui
from dcp_core.models import zoo
from dcp_core.runs import launch, store
from dcp_core.runs.status import Status

PICTURE = "![x](http://elsewhere.example/x.png)"
DRAWN_AS_MARKDOWN = ("markdown", "caption", "info", "error", "warning", "success", "header", "subheader", "title")


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "start_workers", lambda: None)


def markdown(app: AppTest) -> str:
    """Everything on a page that Streamlit draws as Markdown."""
    shown = [str(element.value) for kind in DRAWN_AS_MARKDOWN for element in app.get(kind)]
    shown += [element.proto.text for element in app.get("progress")]
    return "\n".join([*shown, *(str(getattr(element, "label", "")) for element in app.main)])


@pytest.mark.parametrize("wrapped", ["{}", "a\n\n{}", "`{}", "[a]{}", "{}\\"])
def test_plain_text_has_no_markup_left(wrapped: str) -> None:
    shown = ui.plain(wrapped.format(PICTURE))
    assert "\n" not in shown
    assert "![" not in shown
    assert ui.plain("snake_case - 1.5 (DCP)") == "snake_case - 1.5 (DCP)"
    assert ui.plain(":red[*x*] $a$ <b> _y_") == r":red\[\*x\*\] \$a\$ \<b\> \_y\_"
    assert len(ui.plain("x" * 10**6)) < 1100


@pytest.mark.parametrize(("page", "name"), [
    ("playground", "victim"), ("tradeoffs", "t_victim"), ("attack_lab", "a_victim"), ("cost", "c_victim"),
    ("quantized", "q_victim"), ("attack_lab", "a_pool_limited"), ("attack_lab", "a_runs"), ("attack_lab", "a_text"),
])  # fmt: skip
def test_text_from_an_address_is_not_drawn(home: Path, page: str, name: str) -> None:
    app = open_page(page, a_knowledge="limited", **{name: PICTURE})
    assert "![x](" not in markdown(app)


def test_text_from_files_is_not_drawn(home: Path, victim: zoo.Victim) -> None:
    card = home / "victims" / "toy" / zoo.CARD
    card.write_text(json.dumps(json.loads(card.read_text()) | {"architecture": PICTURE, "classes": [PICTURE] * 4}))
    for name in ("foreign", PICTURE.replace("/", "")):
        shutil.copytree(store.shipped()[0].folder, home / "runs" / name)
        spec = home / "runs" / name / "spec.json"
        spec.write_text(json.dumps(json.loads(spec.read_text()) | {"victim": PICTURE}))
    (home / "runs" / "foreign" / "result.json").unlink()
    status = Status.here(1, "cpu")
    dataclasses.replace(status, phase=PICTURE, message=PICTURE, device=PICTURE).write(home / "runs" / "foreign")
    shown = markdown(open_page("playground", victim="toy")) + markdown(open_page("attack_lab", a_victim="toy"))
    assert "elsewhere" in shown
    assert "![x](" not in shown


@pytest.mark.parametrize("value", ["inf", "-inf", "1e999"])
@pytest.mark.parametrize(("page", "name"), [
    ("playground", "picture"), ("attack_lab", "a_budget"), ("cost", "c_seconds"),
])  # fmt: skip
def test_a_number_that_is_none_is_refused_like_other_nonsense(
    home: Path, page: str, name: str, value: str
) -> None:
    usual, app = open_page(page), open_page(page, **{name: value})
    for kind in ("number_input", "slider"):
        assert [each.value for each in app.get(kind)] == [each.value for each in usual.get(kind)]


def test_the_rest_of_such_an_address_is_kept(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, picture="inf", dcp_beta="0.6")
    assert app.slider(key="dcp_beta").value == 0.6
