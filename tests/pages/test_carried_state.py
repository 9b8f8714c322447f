"""What a page keeps or changes when the victim, the page or the address changes."""

from pathlib import Path

from test_pages import open_page

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
