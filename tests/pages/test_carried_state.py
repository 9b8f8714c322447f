"""What a page keeps or changes when the victim, the page or the address changes."""

import io
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_pages import live_numbers, open_page, texts

from dcp_core.data.sources import SIGNS_TEST
from dcp_core.data.synthetic import signs
from dcp_core.data.tensors import sharpness
from dcp_core.evaluation import guides
from dcp_core.models import zoo
from dcp_core.ui import PAGES

SIGNS, CIFAR = "signs-resnet8", "cifar10-resnet20"


def shown_points(app: AppTest) -> str:
    """How many result rows the page Trade-offs shows."""
    assert not app.exception
    return next(each.label for each in app.expander if "points (" in each.label)


def test_measured_thieves_are_shown_for_each_victim_and_again_after_going_back(home: Path) -> None:
    app = open_page("tradeoffs", t_victim=SIGNS)
    first = shown_points(app)
    app.selectbox(key="t_victim").set_value(CIFAR).run()
    assert shown_points(app) not in (first, "All points (0)")
    app.selectbox(key="t_victim").set_value(SIGNS).run()
    assert shown_points(app) == first


def test_a_reader_chooses_a_thief_by_its_facts(home: Path) -> None:
    app = open_page("tradeoffs", t_victim=SIGNS)
    assert "**Within your limits," in texts(app)
    first = shown_points(app)
    assert app.button_group(key="thief_recipe").value == "strong"
    app.button_group(key="thief_recipe").set_value("plain").run()
    assert shown_points(app) != first
    app.button_group(key="thief_attack").set_value("dfme").run()
    assert shown_points(app) != first
    app.selectbox(key="t_victim").set_value(CIFAR).run()  # of which DFME was not measured
    assert shown_points(app) != "All points (0)"


def links(app: AppTest, page: str) -> dict[str, dict[str, list[str]]]:
    """What the links to a page carry, by label."""
    found = [each.proto for each in app.get("page_link")]
    return {each.label: parse_qs(each.query_string) for each in found if each.page.endswith(page)}


def test_the_class_view_is_in_every_links_address(home: Path) -> None:
    for page in PAGES:
        (carried,) = list(links(open_page("story", view="class"), page).values())[:1]
        assert carried["view"] == ["class"]
        (carried,) = list(links(open_page("story"), page).values())[:1]
        assert "view" not in carried


def test_a_link_carries_only_what_differs_so_that_the_browsers_back_button_works(home: Path) -> None:
    carried = links(open_page("story"), "playground")
    assert set(carried["What the threshold τ does"]) == {"dcp_tau_auto", "dcp_tau"}
    assert "dcp_beta" not in carried["The paper's setting on CIFAR-10"]


def test_a_link_carries_a_default_where_the_session_holds_another_value(home: Path) -> None:
    app = open_page("playground")
    app.slider(key="dcp_beta").set_value(0.3).run()
    app.switch_page("pages/story.py").run()
    assert links(app, "playground")["The paper's setting on CIFAR-10"]["dcp_beta"] == ["0.9"]


def test_the_edge_preset_opens_an_eight_bit_victim(home: Path) -> None:
    assert (
        "int8"
        in links(open_page("story"), "playground")["Edge device: the defense with the lowest cost"]["victim"][0]
    )


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_upload_is_still_there_after_another_page_was_visited(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, source="upload")
    app.file_uploader(key="upload").upload("mine.png", png(3), "image/png").run()
    before = live_numbers(app)
    app.switch_page("pages/paper.py").run()
    app.switch_page("pages/playground.py").run()
    assert not app.exception
    assert "mine.png" in texts(app)
    assert not [each for each in app.info if "No picture yet" in each.value]
    assert live_numbers(app) == before
    app.button(key="remove_upload").click().run()
    assert [each for each in app.info if "No picture yet" in each.value]


def test_an_unreadable_file_or_unknown_victim_leaves_the_page_usable(home: Path) -> None:
    app = open_page("playground", victim=SIGNS, source="upload")
    app.file_uploader(key="upload").upload("evil.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "image/png").run()
    assert len(app.error) == 1
    assert "l1 distance" in texts(app)
    app = open_page("playground", victim="torchvision:nobody")
    assert "nobody" in app.error[0].value
    assert "l1 distance" in texts(app)


def test_another_victim_begins_with_its_own_picture_as_in_a_fresh_browser(home: Path) -> None:
    app = open_page("playground", victim=SIGNS)
    app.selectbox(key="victim").set_value(CIFAR).run()
    switched = app.number_input(key="picture").value
    assert switched == open_page("playground", victim=CIFAR).number_input(key="picture").value
    app.number_input(key="picture").set_value(5).run()
    app.selectbox(key="victim").set_value(f"{CIFAR}-ptq").run()
    assert app.number_input(key="picture").value == 5  # the same data: the same picture
    app.number_input(key="picture").set_value(switched).run()
    fresh = open_page("playground", victim=f"{CIFAR}-ptq")
    assert fresh.number_input(key="picture").value == switched  # so no number is needed in the address


def test_the_first_picture_can_be_recognised_and_its_answer_is_not_certain(home: Path) -> None:
    number = open_page("playground", victim=SIGNS).number_input(key="picture").value
    contrast = sharpness(signs(1024, SIGNS_TEST)[0])
    assert contrast[number] > contrast.quantile(0.8)
    assert 0.6 < float(zoo.test_answers(SIGNS)[0][number].softmax(-1).max()) < 0.95


def test_a_long_computation_can_be_cancelled_and_begun_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, progress: Callable[[float], object], **__: object) -> None:
        progress(0.1)
        raise ValueError("computed")

    monkeypatch.setattr(guides, "guide_of_test_set", endless)
    app = open_page("tradeoffs", t_victim=SIGNS, t_defense="grad2")
    assert links(app, "tradeoffs")["Cancel"] == {"cancelled": ["grad2"]}
    app = open_page("tradeoffs", t_victim=SIGNS, t_defense="grad2", cancelled="grad2")  # what the link opens
    assert "Cancelled" in texts(app)
    assert "computed" not in texts(app)
    app.button(key="again-grad2").click().run()
    assert "computed" in texts(app)
