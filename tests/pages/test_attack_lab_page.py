"""The controls of the Attack lab: what is selected first, and what a start changes."""

import dataclasses
from pathlib import Path

import pytest
from test_pages import open_page

from dcp_core.runs import launch, store
from dcp_core.runs.describe import clearest_pair
from dcp_core.runs.spec import RunSpec

SIGNS = RunSpec("signs-resnet8", budget=100, pool="signs_pool")


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "start_workers", lambda: None)


def run(error: float, **changes: object) -> store.RunView:
    spec = dataclasses.replace(SIGNS, **changes)  # type: ignore[arg-type]
    return store.RunView(Path(spec.key), "done", spec, result={"rows": [{"adversary_error": error}]})


def test_a_first_visitor_sees_a_shipped_theft_undefended_and_defended(home: Path) -> None:
    app = open_page("attack_lab")
    plain, defended = (store.view(store.find(key)) for key in app.multiselect(key="a_runs").value)
    assert plain.shipped
    assert defended.shipped
    assert plain.spec is not None
    assert defended.spec is not None
    assert defended.spec == dataclasses.replace(
        plain.spec, defense=defended.spec.defense, defense_parameters=defended.spec.defense_parameters
    )
    assert plain.spec.defense == "none" != defended.spec.defense


def test_the_pair_shown_first_is_the_one_that_differs_most_by_the_defense_alone() -> None:
    def dcp(beta: float) -> dict[str, object]:
        return {"defense": "dcp", "defense_parameters": {"beta": beta}}

    plain, other = run(40.0), run(10.0, seed=1)
    weak, strong = run(45.0, **dcp(0.5)), run(70.0, **dcp(1.2))
    lonely = run(99.0, **dcp(1.2), budget=200)
    assert clearest_pair([strong, other, lonely, weak, plain]) == [plain.key, strong.key]
    assert clearest_pair([other, lonely]) == []


def test_the_one_click_pair_is_queued_shown_and_drawn_along_its_training(home: Path) -> None:
    free = next(view for view in store.shipped() if view.spec is not None and view.spec.pool is None)
    app = open_page("attack_lab")
    app.multiselect(key="a_runs").set_value([free.key]).run()
    app.segmented_control(key="a_across").set_value("queries").run()
    assert app.button(key="a_demo").label == "Launch the pair"
    app.button(key="a_demo").click().run()
    assert not app.exception
    assert [view.state for view in store.views()] == ["queued"] * 2
    assert sorted(app.multiselect(key="a_runs").value) == sorted(view.key for view in store.views())
    assert app.segmented_control(key="a_across").value == "work"
    assert app.button(key="a_demo").label == "Show the pair"
