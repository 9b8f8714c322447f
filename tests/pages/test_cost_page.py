"""The Cost page: which measurement is shown, the message without one, and the button that starts one."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
from test_pages import open_page, texts

from dcp_core.costs import energy
from dcp_core.models import zoo
from dcp_core.results.rows import SHIPPED, write_results
from dcp_core.runs import launch, store
from dcp_core.runs.folder import QUEUED, claim, folder_of
from dcp_core.runs.spec import BenchSpec

SIGNS = "signs-resnet8"
TITLE = "Signs (drawn by us), resnet8"


def shipped() -> pd.DataFrame:
    return pd.read_csv(SHIPPED / f"bench_{SIGNS}.csv")


def test_the_page_opens_with_the_shipped_measurement_beside_the_papers(home: Path) -> None:
    app = open_page("cost", c_victim=TITLE)
    table = app.dataframe[0].value.set_index("defense")
    rows = shipped()
    mine = rows[(rows["batch"] == 64) & (rows["implementation"] == "here")].set_index("defense")
    assert table.loc["DCP", "× no defense"] == mine.loc["dcp", "latency_ratio"]
    assert table.loc["MAD", "×, paper"] == pytest.approx(580.2)  # Table III, CIFAR-10: 58.02 / 0.1
    assert mine["where"].iloc[0] in texts(app)
    assert "MAD ×527 and GRAD² ×37.2 of DCP's latency" in texts(app)
    assert "other work ran on the machine" in texts(app)
    app = open_page("cost", c_victim=TITLE, c_batch="1", c_paper="gtsrb")
    table = app.dataframe[0].value.set_index("defense")
    alone = rows[(rows["batch"] == 1) & (rows["implementation"] == "here")].set_index("defense")
    assert table.loc["AM", "p95, ms"] == alone.loc["am", "latency_p95_ms"]
    assert table.loc["MAD", "ms, paper"] == 225.5


def test_nothing_measured_is_a_sentence_with_the_command_and_the_papers_figures(victim: zoo.Victim) -> None:
    app = open_page("cost", c_victim="Toy")
    assert "`python -m dcp_core bench --victim toy`" in texts(app)
    assert list(app.dataframe[0].value) == ["defense", "×, paper", "ms, paper"]
    needs = app.dataframe[1].value.set_index("defense")
    assert needs.loc["AM", "second network"] == "missing"
    assert "python -m dcp_core auxiliary --victim toy --kind misinformation" in needs.loc["AM", "its training"]
    assert needs.loc["MAD", "second network"] == "untrained"
    assert "Memory has not been measured" in texts(app)


def test_without_a_counter_the_page_says_why_there_is_no_energy(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(device: str) -> None:
        raise energy.NoMeter("this machine has no counter")

    monkeypatch.setattr(energy, "meter", none)
    app = open_page("cost", c_victim=TITLE)
    assert "The energy cannot be measured on this machine: this machine has no counter" in texts(app)


def test_energy_that_was_measured_is_shown_with_its_counter(home: Path) -> None:
    rows = shipped().assign(energy_mj=5.0, energy_low_mj=4.0, energy_high_mj=6.0, energy_method="a counter")
    rows.loc[rows["defense"] == "grad2", "energy_mj"] = 20.0
    write_results(home / "results" / "bench-abcd.csv", rows)
    app = open_page("cost", c_victim=TITLE)  # the user's own goes first
    table = app.dataframe[1].value.set_index("defense")
    assert table.loc["GRAD²", "× no defense"].tolist() == [4.0, 4.0]  # ours and as published
    assert "a counter; 64 queries at once" in texts(app)


def test_times_of_a_busy_machine_are_shown_with_a_warning(home: Path) -> None:
    write_results(
        home / "results" / "bench-abcd.csv", shipped().assign(unreliable=True, reason="there was a storm")
    )
    app = open_page("cost", c_victim=TITLE)
    assert "there was a storm" in app.warning[0].value


def test_the_button_queues_measurements_with_new_seeds_that_can_be_stopped_and_deleted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "start_workers", lambda: None)
    app = open_page("cost", c_victim=TITLE, c_seconds="10", c_clock="processor")
    app.button(key="c_measure").click().run()
    assert not app.exception
    (view,) = store.benches()
    assert view.spec == BenchSpec(SIGNS, 10.0, "processor", 0)
    assert view.state == "queued"
    assert app.button(key="c_measure").disabled
    app.button(key=f"c_stop-{view.key}").click().run()
    assert store.view(view.folder).state == "interrupted"
    app.button(key="c_measure").click().run()
    assert {each.spec.seed for each in store.benches() if each.spec} == {0, 1}
    app.button(key=f"c_delete-{view.key}").click().run()
    assert not app.exception
    assert not view.folder.exists()


def test_a_new_measurement_is_shown_when_it_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "start_workers", lambda: None)
    app = open_page("cost", c_victim=TITLE)
    app.button(key="c_measure").click().run()
    assert "included" in app.selectbox(key=f"c_measurement_{SIGNS}").options[0]
    (view,) = store.benches()
    rows = shipped().assign(where="the new one").astype(object)
    rows = rows.where(rows.notna(), None).to_dict("records")
    (view.folder / QUEUED).unlink()
    (view.folder / "result.json").write_text(json.dumps({"rows": rows, "missing": {}, "queries": 1}))
    app.run()
    assert not app.exception
    assert "the new one" in texts(app)
    app.button(key=f"c_delete-{view.key}").click().run()
    assert not app.exception
    assert "the new one" not in texts(app)


def test_a_full_disk_is_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise store.StoreError("only 0.00 GB are free on the disk")

    monkeypatch.setattr(store, "check_room", full)
    app = open_page("cost", c_victim=TITLE)
    app.button(key="c_measure").click().run()
    assert not app.exception
    assert "only 0.00 GB are free" in app.error[0].value


def test_only_this_victims_measurements_are_listed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "start_workers", lambda: None)
    spec = BenchSpec("cifar10-resnet20")
    claim(spec, folder_of(spec))
    (folder_of(spec) / QUEUED).write_text("{}")
    other = dataclasses.replace(spec, victim=SIGNS)
    claim(other, folder_of(other))
    app = open_page("cost", c_victim=TITLE)
    assert f"`{other.key[:4]}`" in texts(app)
    assert f"`{spec.key[:4]}`" not in texts(app)
    assert not app.button(key="c_measure").disabled
