"""The controls of the Attack lab: what is selected first, and what a start changes."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from test_pages import open_page

from dcp_core.runs import launch, store
from dcp_core.runs.describe import clearest_pair, stage_of, table_of
from dcp_core.runs.spec import RunSpec
from dcp_core.ui.lab.state import all_of
from dcp_core.ui.lab.table import frame_of, state_words

SIGNS = RunSpec("signs-resnet8", budget=100, pool="signs_pool")


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "start_workers", lambda: None)


def run(error: float, **changes: object) -> store.RunView:
    spec = dataclasses.replace(SIGNS, **changes)  # type: ignore[arg-type]
    return store.RunView(
        Path(spec.key), "done", spec, result={"rows": [{"adversary_error": error, "fidelity": 50.0}]}
    )


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


def test_the_pair_shown_first_is_the_strong_one_that_differs_most_by_the_defense_alone() -> None:
    def dcp(beta: float) -> dict[str, object]:
        return {"defense": "dcp", "defense_parameters": {"beta": beta}}

    plain, other = run(40.0), run(10.0, seed=1)
    weak, strong = run(45.0, **dcp(0.5)), run(70.0, **dcp(1.2))
    lonely = run(99.0, **dcp(1.2), budget=200)
    assert clearest_pair([strong, other, lonely, weak, plain]) == [plain.key, strong.key]
    assert clearest_pair([other, lonely]) == []
    beginner = {"attack_parameters": {"recipe": "plain"}}
    beginners = [run(20.0, **beginner), run(90.0, **beginner, **dcp(1.2))]
    assert clearest_pair([*beginners, plain, weak]) == [plain.key, weak.key]
    assert clearest_pair(beginners) == [each.key for each in beginners]


def test_the_one_click_pair_is_queued_shown_and_drawn_along_its_training(home: Path) -> None:
    free = next(view for view in store.shipped() if view.spec is not None and view.spec.pool is None)
    app = open_page("attack_lab")
    app.multiselect(key="a_runs").set_value([free.key]).run()
    app.segmented_control(key="a_across").set_value("queries").run()
    assert app.button(key="a_demo").label == "Try it: steal the example twice"
    app.button(key="a_demo").click().run()
    assert not app.exception
    assert [view.state for view in store.views()] == ["queued"] * 2
    assert sorted(app.multiselect(key="a_runs").value) == sorted(view.key for view in store.views())
    assert app.segmented_control(key="a_across").value == "work"
    assert app.button(key="a_demo").label == "Show the example"


def test_duplicate_fills_the_form_with_the_run_and_its_defense(home: Path) -> None:
    spec = dataclasses.replace(SIGNS, defense="rs", defense_parameters={"beta": 0.32})
    launch.launch([spec])
    app = open_page("attack_lab")
    app.multiselect(key="a_strengths").set_value([1.28]).run()
    app.button(key=f"copy-{spec.key}").click().run()
    assert not app.exception
    assert app.selectbox(key="a_defense").value == "rs"
    assert app.slider(key="a_rs_beta").value == 0.32
    assert app.number_input(key="a_budget").value == 100
    app.button(key="a_launch").click().run()
    assert [view.key for view in store.views()] == [spec.key]  # exactly this run, and no other


def test_the_form_says_before_the_launch_that_a_budget_is_hopeless(home: Path) -> None:
    app = open_page("attack_lab", a_attack="maze", a_budget="2000")
    assert any("even 38,400 queries" in each.value for each in app.warning)
    app.number_input(key="a_budget").set_value(120_000).run()
    assert not app.warning
    app.selectbox(key="a_attack").set_value("knockoff").run()
    assert app.number_input(key="a_budget").value == 4000  # another attack brings its own budget


def test_several_runs_are_stopped_and_deleted_together(home: Path) -> None:
    folders = launch.launch([SIGNS, dataclasses.replace(SIGNS, seed=1)])
    keys = [folder.name for folder in folders]
    all_of(launch.stop, keys, launch.request_stop)
    assert [view.state for view in store.views()] == ["interrupted"] * 2
    all_of(store.delete, keys)
    assert store.views() == []


def test_a_link_to_a_run_that_is_not_here_says_so(home: Path) -> None:
    app = open_page("attack_lab", a_runs="DCP β=0.9 · somebody's run · 0000")
    assert any("not on this machine" in each.value and "somebody's run" in each.value for each in app.info)
    assert len(app.multiselect(key="a_runs").value) == 2


def test_a_link_shows_its_run_also_when_runs_are_described_otherwise_today(home: Path) -> None:
    key = store.shipped()[0].key
    app = open_page("attack_lab", a_runs=f"a former description · {key[:4]}")
    assert app.multiselect(key="a_runs").value == [key]
    assert not app.info


def test_the_filter_looks_at_words_of_cells_not_at_the_columns_names() -> None:
    views = [run(40.0), run(50.0, defense="rs"), run(60.0, defense="dcp")]
    assert len(table_of(views, [], "")) == 3
    assert table_of(views, [], "RS")["key"].tolist() == [views[1].key]
    assert table_of(views, [], "resnet").shape[0] == 3
    assert table_of(views, [], "adversary").empty


def test_a_bad_folder_is_named_on_the_page_and_hides_no_other(home: Path) -> None:
    whole = store.shipped()[0].folder
    for name, file, content in (
        ("other-kind", "result.json", '{"queries": 1e999, "rows": [{}]}'),
        ("other-spec", "spec.json", '{"victim": 3}'),
        ("empty", "spec.json", ""),
    ):
        shutil.copytree(whole, home / "runs" / name)
        (home / "runs" / name / file).write_text(content)
    os.mkfifo(home / "runs" / "pipe")
    (home / "runs" / "waits").mkdir()
    os.mkfifo(home / "runs" / "waits" / "spec.json")
    app = open_page("attack_lab")
    assert not app.exception
    app.multiselect(key="a_runs").set_value(["other-kind", "other-spec", "waits"]).run()
    assert not app.exception
    captions = " ".join(each.value for each in app.caption)
    assert captions.count("cannot read the run") == 3
    table = app.dataframe[0].value
    assert sorted(table["key"][table["state"] == "unreadable"]) == ["empty", "other-kind", "other-spec", "waits"]
    assert (table["state"] == "done").sum() == len(store.shipped())


def test_the_table_says_what_a_run_is_and_draws_its_line_as_the_chart_does() -> None:
    views = [run(37.0), run(90.0, seed=1), run(70.0, defense="dcp", defense_parameters={"beta": 0.9})]
    frame = frame_of(views, [views[0].key, views[1].key])
    assert frame["defense"].tolist() == ["undefended", "undefended", "DCP 0.9"]
    assert frame["attack"].tolist() == ["KnockoffNets, 100 similar"] * 3
    assert frame["seed"].tolist() == [0, 1, 0]
    assert [eye == ":material/visibility:" for eye in frame["shown"]] == [True, True, False]
    assert len(set(frame["line"])) == 3  # two dashes of one defense, and another colour
    assert frame["error"].tolist() == [37.0, 90.0, 70.0]


@pytest.mark.parametrize(
    ("state", "phase", "message", "words"),
    [
        ("queued", "", "", "queued"),
        ("running", "drawing signs_pool (train), once: 20%", "", "drawing"),
        ("running", "asking", "", "asking"),
        ("running", "recovering", "", "training"),
        ("running", "scoring", "", "scoring"),
        ("interrupted", "scoring", "stopped by you", "stopped"),
        ("interrupted", "training", "the worker on here ended unexpectedly", "interrupted"),
    ],
)
def test_a_run_names_its_stage(state: store.State, phase: str, message: str, words: str) -> None:
    view = store.RunView(Path("x"), state, SIGNS, message, phase)
    assert state_words(view) == words
    assert stage_of(dataclasses.replace(view, phase="")) == -1
