"""The command `bench`, on a victim that takes no time."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result

from dcp_core.cli import main
from dcp_core.costs import measure
from dcp_core.models import zoo
from dcp_core.results.rows import load_results
from dcp_core.runs import store


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "BATCHES", {1: 1, 2: 1})
    monkeypatch.setattr(measure, "ENERGY_BATCH", 2)


def bench(*arguments: object) -> Result:
    words = ["bench", "--victim", "toy", "--seconds", "0.01", *map(str, arguments)]
    return CliRunner().invoke(main, words)


def test_bench_prints_a_line_a_way_and_keeps_rows_where_every_page_finds_them(victim: zoo.Victim) -> None:
    made = bench("--device", "cpu")
    assert made.exit_code == 0, made.output
    assert "MAD as published        2 at once" in made.output
    assert "AM: not measured: toy has no misinformation model yet: python -m dcp_core auxiliary" in made.output
    rows, problems = load_results()
    assert not problems
    mine = rows[rows["victim"] == "toy"]
    assert set(mine["where"]) == {"python -m dcp_core bench --victim toy --seconds 0.01 --seed 0"}
    (view,) = store.benches()
    assert view.state == "done"
    json.loads((view.folder / "result.json").read_text(), parse_constant=pytest.fail)  # no NaN: any tool reads it


def test_a_measurement_that_is_done_is_not_made_again_but_its_rows_can_go_elsewhere(
    victim: zoo.Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench("--device", "cpu").exit_code == 0
    monkeypatch.setattr("dcp_core.runs.bench.measure", lambda *_, **__: pytest.fail("measured again"))
    for _ in range(2):
        assert bench("--results", tmp_path / "mine.csv").exit_code == 0
    table = pd.read_csv(tmp_path / "mine.csv")
    assert not table.duplicated(["defense", "implementation", "batch"]).any()


def test_processor_time_is_of_one_thread_whatever_the_machine_has(victim: zoo.Victim) -> None:
    torch.set_num_threads(2)
    try:
        made = bench("--clock", "processor")
        assert made.exit_code == 0, made.output
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    (view,) = store.benches()
    assert view.result is not None
    assert {(row["clock"], row["hardware"].rpartition(", ")[2]) for row in view.result["rows"]} == {
        ("processor", "1 thread")
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--clock", "processor", "--threads", 4), "leave out --device and --threads"),
        (("--clock", "processor", "--device", "cuda"), "leave out --device and --threads"),
        (("--victim", "nobody"), "nobody"),
        (("--seconds", 0), "0"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence_and_leaves_no_run(
    victim: zoo.Victim, arguments: tuple[object, ...], sentence: str
) -> None:
    made = bench(*arguments)
    assert made.exit_code != 0
    assert sentence in made.output
    assert "Traceback" not in made.output
    assert not store.benches()
