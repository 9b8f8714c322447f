"""Experiments: what they need first, which runs remain, and their rows."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from worlds import small_world

from dcp_core.cli import main
from dcp_core.making.second_network import EPOCHS
from dcp_core.models import auxiliary, zoo
from dcp_core.results.rows import SHIPPED, load_results, over_seeds, write_results
from dcp_core.runs import store
from dcp_core.runs.experiment import PLANS, gathered, names, read_experiment
from dcp_core.runs.plans import PlanError

HEAD = 'title = "A try"\n[[train]]\ndata = "DATA"\nnetwork = "resnet8"\nname = "made"\nepochs = 1\n'
RUNS = """
[[cpu]]
victims = ["VICTIM"]
seeds = [0, 1]
budgets = [20]
[[cpu.attacks]]
name = "knockoff"
pools = ["DATA"]
epochs = 1
[[cpu.defenses]]
name = "dcp"
"""


@pytest.fixture
def plan(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs of a victim that has to be trained first."""
    monkeypatch.setenv("DCP_RUNS_AT_ONCE", "1")
    path = tmp_path / "try.toml"
    path.write_text((HEAD + RUNS).replace("DATA", small_world(tmp_path)).replace("VICTIM", "made"))
    return path


def reproduce(*words: object) -> Result:
    """The command's end."""
    return CliRunner().invoke(main, ["reproduce", *map(str, words)])


@pytest.mark.parametrize("name", names())
def test_every_shipped_plan_can_be_read_and_makes_each_victim_that_is_not_shipped(name: str) -> None:
    experiment = read_experiment(name)
    made = {step.victim for step in experiment.steps if step.command != "auxiliary"}
    shipped = {path.parent.name for path in (PLANS.parent / "victims").glob("*/card.json")}
    for specs in experiment.scales.values():
        assert {spec.victim for spec in specs} <= made | shipped
        assert [spec.seed for spec in specs] == sorted(spec.seed for spec in specs)  # a cut run has whole seeds


def test_only_what_the_runs_need_is_made_first(plan: Path) -> None:
    text = plan.read_text() + '[[auxiliary]]\nvictim = "made"\nkind = "misinformation"\n'
    plan.write_text(text)
    experiment = read_experiment(str(plan))
    specs = experiment.scales["cpu"]
    assert [step.command for step in experiment.missing(specs)] == ["train"]  # DCP needs no second network
    plan.write_text(text.replace('"dcp"', '"am"'))
    armed = read_experiment(str(plan))
    assert [step.command for step in armed.missing(armed.scales["cpu"])] == ["train", "auxiliary"]


def test_one_command_trains_the_victim_runs_everything_and_gathers_rows(plan: Path, tmp_path: Path) -> None:
    into = tmp_path / "rows.csv"
    said = reproduce(plan, "--into", into, "--courses", tmp_path / "courses")
    assert said.exit_code == 0, said.output
    assert "2 runs, 2 of them done, 0 left" in said.output
    assert "made" in zoo.names()
    rows, problems = load_results(tmp_path)
    assert not problems
    assert sorted(rows["seed"]) == [0, 1]
    assert set(rows["reason"]) == {"2 seeds, fewer than 3"}
    assert rows["unreliable"].all()
    spec = read_experiment(str(plan)).scales["cpu"][0]
    kept = store.view(tmp_path / "courses" / spec.key)
    assert kept.state == "done"
    assert store.events(kept.folder)["error"].notna().all()
    assert store.events(kept.folder)["error"].iloc[-1] == pytest.approx(
        kept.result["rows"][0]["adversary_error"], 1e-4
    )


def test_a_time_limit_stops_and_the_same_command_goes_on(plan: Path) -> None:
    said = reproduce(plan, "--hours", 1e-6)
    assert said.exit_code == 0, said.output
    assert "2 left" in said.output
    assert "the same command continues" in said.output
    assert not any(view.active for view in store.views())
    assert "0 left" in reproduce(plan).output


def test_a_plain_kill_stops_the_runs_too(plan: Path) -> None:
    plan.write_text(
        plan.read_text()
        .replace('pools = ["', 'batch = 8\npools = ["')
        .replace("\nepochs = 1\n[[cpu.d", "\nepochs = 1000\n[[cpu.d")
    )
    command = [sys.executable, "-m", "dcp_core", "reproduce", str(plan)]
    deaf = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen([sys.executable, "-c", deaf, *command], stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if any(view.state == "running" and view.fraction > 0 for view in store.views()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert "2 left" in said
    assert [view.state for view in store.views()] == ["interrupted"] * 2


def test_rows_that_are_shipped_are_not_run_again_unless_asked(
    plan: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = read_experiment(str(plan)).scales["cpu"]
    row = {
        "source": "measured",
        "where": specs[0].command,
        "key": specs[0].key,
        "dataset": "d",
        "defense": "none",
        "attack": "knockoff",
    }
    row |= {"hardware": "h", "versions": "{}", "date": "2026-01-01", "adversary_error": 50.0, "seed": 0}
    row |= {"precision": "fp32", "parameters": "{}"}
    write_results(home / "results" / "shipped.csv", pd.DataFrame([row]))
    assert "2 runs, 1 of them done, 1 left" in reproduce(plan, "--list").output
    assert "2 runs, 0 of them done, 2 left" in reproduce(plan, "--list", "--anew").output
    found = gathered(specs, load_results()[0])
    assert list(found["key"]) == [specs[0].key]
    assert list(found["reason"]) == ["1 seed, fewer than 3"]


def test_shipped_second_networks_were_trained_as_their_plans_say() -> None:
    steps = [step for name in names() for step in read_experiment(name).steps if step.command == "auxiliary"]
    seen = 0
    for step in steps:
        victim, kind = step.options["victim"], step.options["kind"]
        card = auxiliary.card(victim, kind) if victim in zoo.names() else None
        if card is not None:
            seen += 1
            assert card.recipe["epochs"] == step.options.get("epochs", EPOCHS[kind]), (victim, kind)
            assert card.pictures == step.options.get("pictures", zoo.card(victim).train_pictures)
    assert seen >= 4


def test_a_shipped_row_that_is_marked_stays_marked_when_rows_are_gathered_again(home: Path) -> None:
    specs = read_experiment("table2-cifar10").scales["cpu"]
    rows = gathered(specs, load_results(SHIPPED)[0]).set_index("defense")
    assert rows.loc["am", "unreliable"].all()
    assert set(rows.loc["am", "reason"]) == {
        "made with a misinformation network of 1 epoch, since replaced by one of 5 epochs as the plan says"
    }
    assert not rows.loc["rs", "unreliable"].any()


def test_a_run_made_twice_counts_once() -> None:
    row = {"source": "measured", "defense": "none", "seed": 0, "adversary_error": 50.0, "id": "a"}
    rows, _ = load_results()
    twice = pd.DataFrame([row, row | {"adversary_error": 60.0, "id": "b"}, row | {"seed": 1, "id": "c"}])
    mean = over_seeds(twice.reindex(columns=rows.columns).assign(unreliable=[True, False, False]))
    assert list(mean["runs"]) == [2]
    assert list(mean["adversary_error"]) == [55.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[cpu", "not a readable TOML"),
        ('title = "x"', "has no runs"),
        ("full = 3\n", "as a table"),
        ("[[small]]\n", "unknown entry 'small'"),
        (
            '[[train]]\ndata = "signs"\n[[cpu]]\nvictims = ["a"]\n[[cpu.attacks]]\nname = "dfme"\n',
            "needs the entry 'network'",
        ),
    ],
)
def test_what_is_wrong_with_an_experiment_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(PlanError, match=words):
        read_experiment(str(tmp_path / "x.toml"))


def test_an_unknown_experiment_or_scale_is_refused_with_what_there_is(plan: Path) -> None:
    assert "signs-defenses" in reproduce("nothing").output
    said = reproduce(plan, "--scale", "full")
    assert said.exit_code == 2
    assert "no scale 'full': use --scale cpu" in said.output


def test_without_a_plan_all_are_listed_with_what_is_left(home: Path) -> None:
    said = reproduce().output
    assert all(f"{name}: " in said for name in names())
