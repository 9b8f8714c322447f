"""What a page keeps or changes when the victim, the page or the address changes."""

from pathlib import Path
from urllib.parse import parse_qs

from streamlit.testing.v1 import AppTest
from test_pages import open_page

from dcp_core.ui import PAGES

SIGNS, CIFAR = "signs-resnet8", "cifar10-resnet20"


def test_measured_thieves_are_shown_for_each_victim_and_again_after_going_back(home: Path) -> None:
    app = open_page("tradeoffs", t_victim=SIGNS)
    first = app.multiselect(key="thieves").value
    assert first
    for victim in (CIFAR, SIGNS):
        app.selectbox(key="t_victim").set_value(victim).run()
        assert not app.exception
        assert app.multiselect(key="thieves").value
    assert app.multiselect(key="thieves").value == first


def test_no_thief_stays_chosen_when_a_reader_clears_them(home: Path) -> None:
    app = open_page("tradeoffs", t_victim=SIGNS)
    app.multiselect(key="thieves").set_value([]).run()
    app.slider(key="budget").set_value(0.5).run()
    assert app.multiselect(key="thieves").value == []


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
    assert set(carried["Why τ matters"]) == {"dcp_tau_auto", "dcp_tau"}
    assert "dcp_beta" not in carried["The paper's setting on CIFAR-10"]


def test_a_link_carries_a_default_where_the_session_holds_another_value(home: Path) -> None:
    app = open_page("playground")
    app.slider(key="dcp_beta").set_value(0.3).run()
    app.switch_page("pages/story.py").run()
    assert links(app, "playground")["The paper's setting on CIFAR-10"]["dcp_beta"] == ["0.9"]


def test_the_edge_preset_opens_an_eight_bit_victim(home: Path) -> None:
    assert "int8" in links(open_page("story"), "playground")["Edge device: the cheapest noise"]["victim"][0]
