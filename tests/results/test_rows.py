import json
import math
from pathlib import Path

import pandas as pd
import pytest

from dcp_core.files import PRECOMPUTED
from dcp_core.results.rows import (
    MANIFEST,
    SETTING,
    SHIPPED,
    load_results,
    over_seeds,
    paper_table1,
    seeds_of,
    settings,
    write_manifest,
    write_results,
)
from dcp_core.results.schema import COLUMNS, ResultsError
from dcp_core.runs.spec import RunSpec

METHODS = ("none", "rs", "am", "mad", "grad2", "dcp")
MEASURED = {
    "source": "measured",
    "where": "python -m dcp_core attack",
    "dataset": "signs",
    "victim": "signs-resnet8",
    "precision": "fp32",
    "victim_error": 5.0,
    "defense": "dcp",
    "parameters": '{"beta": 0.9}',
    "strength": 0.9,
    "attack": "knockoff",
    "budget": 2000,
    "seed": 0,
    "defender_error": 5.5,
    "adversary_error": 40.0,
    "l1": 0.4,
    "hardware": "a laptop",
    "versions": '{"torch": "2.13.0"}',
    "date": "2025-11-23",
}


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    rows, problems = load_results(SHIPPED)
    assert problems == []
    return rows


@pytest.fixture(scope="module")
def table2(shipped: pd.DataFrame) -> pd.DataFrame:
    return shipped[shipped["where"] == "Table II"]


@pytest.fixture(scope="module")
def table3(shipped: pd.DataFrame) -> pd.DataFrame:
    return shipped[shipped["where"] == "Table III"]


def test_table2_row_totals_added_by_hand(table2: pd.DataFrame):
    totals = table2.groupby("defense")["adversary_error"].sum().round(2)
    # e.g. none: 3 * (56.89 + 18.03 + 30.92 + 7.18 + 61.14) = 3 * 174.16
    by_hand = [522.48, 697.56, 738.41, 686.71, 693.64, 781.48]
    assert [totals[name] for name in METHODS] == by_hand
    assert len(table2) == 6 * 5 * 3


@pytest.mark.parametrize(
    ("queries_from", "dataset", "by_hand"),
    [
        ("cifar10", "cifar100", [372.25, 376.24, 387.41]),
        ("cifar100", "cifar10", [122.10, 128.82, 141.17]),
        ("cifar10", "svhn", [284.16, 290.83, 304.50]),
        ("cifar10", "gtsrb", [81.13, 89.07, 97.10]),
        ("voc", "cub200", [478.63, 481.42, 485.45]),
    ],
)
def test_table2_column_totals_added_by_hand(
    table2: pd.DataFrame, queries_from: str, dataset: str, by_hand: list[float]
):
    column = table2[(table2["dataset"] == dataset) & (table2["queries_from"] == queries_from)]
    totals = column.groupby("max_defender_increase")["adversary_error"].sum().round(2)
    assert totals.to_dict() == dict(zip([1, 2, 5], by_hand, strict=True))


@pytest.mark.parametrize(
    ("defense", "dataset", "increase", "error"),
    [
        ("dcp", "cifar10", 2, 23.78),
        ("grad2", "cifar10", 5, 27.25),
        ("am", "cub200", 1, 88.92),
        ("mad", "svhn", 2, 43.55),
        ("rs", "gtsrb", 1, 14.23),
        ("am", "gtsrb", 1, 12.04),
    ],
)
def test_table2_cells(table2: pd.DataFrame, defense: str, dataset: str, increase: int, error: float):
    cell = table2[
        (table2["defense"] == defense)
        & (table2["dataset"] == dataset)
        & (table2["max_defender_increase"] == increase)
    ]
    assert cell["adversary_error"].tolist() == [error]
    assert cell["max_l1"].tolist() == [0.9]


@pytest.mark.parametrize(
    ("quantity", "rows", "columns"),
    [
        ("latency_ms", [0.44, 0.52, 0.74, 963.13, 88.95, 0.51], [62.56, 521.34, 63.91, 240.46, 166.02]),
        ("energy_wh", [1.03, 1.55, 1.72, 124.65, 15.90, 1.25], [3.90, 24.03, 8.73, 14.38, 95.06]),
    ],
)
def test_table3_totals_added_by_hand(table3: pd.DataFrame, quantity: str, rows: list[float], columns: list[float]):
    by_method = table3.groupby("defense")[quantity].sum().round(2)
    assert [by_method[name] for name in METHODS] == rows
    by_dataset = table3.groupby("dataset")[quantity].sum().round(2)
    assert [by_dataset[name] for name in ("cifar10", "cifar100", "svhn", "gtsrb", "cub200")] == columns


def test_table3_is_of_the_papers_machine_and_has_no_attack(table3: pd.DataFrame):
    assert table3["hardware"].str.contains("P100").all()
    assert table3["attack"].isna().all()


def test_table1_ticks():
    table = paper_table1().set_index("defense")
    assert table.loc["dcp"].all()
    assert table["fast_inference"].to_dict() == {"rs": True, "am": True, "mad": False, "grad2": False, "dcp": True}
    assert table.index[~table["low_perturbation"]].tolist() == ["rs"]
    assert table.index[table["no_auxiliary_model"]].tolist() == ["rs", "dcp"]


def test_the_paper_is_never_mixed_with_what_was_measured_here(shipped: pd.DataFrame):
    paper = shipped[shipped["id"].str.contains("paper_")]
    assert set(paper["source"]) == {"paper"}
    assert set(shipped.loc[shipped["source"] == "paper", "where"]) == {"Table II", "Table III"}


def test_the_manifest_lists_every_file_with_its_rows(shipped: pd.DataFrame):
    manifest = json.loads((SHIPPED / MANIFEST).read_text())
    assert set(manifest) == {path.name for path in SHIPPED.glob("*.csv")}
    assert sum(file["rows"] for file in manifest.values()) == len(shipped)
    assert manifest["paper_table2.csv"]["made_by"] == ["Table II"]


def test_rows_come_back_as_they_were_written(tmp_path: Path):
    write_results(tmp_path / "runs" / "mine.csv", pd.DataFrame([MEASURED]))
    rows, problems = load_results(tmp_path / "runs")
    assert problems == []
    assert list(rows) == ["id", *COLUMNS]
    row = rows.iloc[0]
    assert {name: row[name] for name in MEASURED} == MEASURED
    assert row["id"] == f"{tmp_path.name}/mine.csv:2"
    assert not row["unreliable"]
    assert math.isnan(row["latency_ms"])
    assert pd.isna(row["epochs"])
    assert pd.isna(row["reason"])


def test_appending_adds_rows_and_ignores_the_ids_of_loaded_ones(tmp_path: Path):
    path = tmp_path / "mine.csv"
    write_results(path, pd.DataFrame([MEASURED]), append=True)
    again, _ = load_results(tmp_path)
    write_results(path, again.assign(seed=1, epochs=30), append=True)
    rows, problems = load_results(tmp_path)
    assert problems == []
    assert rows["seed"].tolist() == [0, 1]
    assert rows["epochs"].tolist() == [pd.NA, 30]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"adversary_error": 140}, "'adversary_error': '140.0' should be a number from 0 to 100"),
        ({"l1": -0.1}, "'l1': '-0.1' should be a number from 0 to 2"),
        ({"l1": "inf"}, "'l1': 'inf' should be"),
        ({"budget": 0.5}, "'budget': '0.5' should be a whole number"),
        ({"source": "guess"}, "'source': 'guess' should be one of paper, measured"),
        ({"precision": ""}, "'precision': '' should be one of fp32, ptq, qat"),
        ({"parameters": "beta=1"}, "'parameters': 'beta=1' should be a JSON object"),
        ({"date": "23.11.2025"}, "'date': '23.11.2025' should be YYYY-MM-DD"),
        ({"hardware": ""}, "'hardware': '' should be some text"),
        ({"unreliable": "maybe"}, "'unreliable': 'maybe' should be true or false"),
        ({"unreliable": True}, "'reason': '' should be some text"),
    ],
)
def test_a_bad_cell_is_named_costs_its_row_alone_and_is_never_written(
    tmp_path: Path, change: dict[str, object], says: str
):
    table = pd.DataFrame([MEASURED, MEASURED | change]).fillna("")
    table.to_csv(tmp_path / "mine.csv", index=False)
    rows, problems = load_results(tmp_path)
    assert len(rows) == 1
    assert [str(problem).partition(", column ")[0] for problem in problems] == [
        f"{tmp_path.parent.name}/mine.csv:3"
    ]
    assert says in str(problems[0])
    with pytest.raises(ResultsError, match="new rows:3"):
        write_results(tmp_path / "new.csv", table)
    assert not (tmp_path / "new.csv").exists()


def test_what_only_a_measured_row_needs_may_be_empty_for_the_paper(tmp_path: Path):
    row = {name: MEASURED[name] for name in ("where", "dataset", "precision", "defense")}
    write_results(tmp_path / "paper.csv", pd.DataFrame([row | {"source": "paper"}]))
    with pytest.raises(ResultsError, match="'parameters'"):
        write_results(tmp_path / "mine.csv", pd.DataFrame([row | {"source": "measured"}]))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a readable CSV file"),
        (b"\xff\xfe\x00", "not a readable CSV file"),
        (b"source,where\n1,2,3\n4,5,6,7\n", "not a readable CSV file"),
        (b"source,colour\npaper,red\n", "unknown column 'colour'"),
    ],
)
def test_a_bad_file_is_named_and_the_others_are_read(tmp_path: Path, content: bytes, says: str):
    write_results(tmp_path / "good.csv", pd.DataFrame([MEASURED]))
    (tmp_path / "bad.csv").write_bytes(content)
    rows, problems = load_results(tmp_path)
    assert len(rows) == 1
    assert len(problems) == 1
    assert f"bad.csv: {says}" in str(problems[0])


def test_shipped_and_own_results_are_read_together(home: Path):
    write_results(home / "results" / "mine.csv", pd.DataFrame([MEASURED]))
    rows, problems = load_results()
    assert problems == []
    assert set(rows["source"]) == {"paper", "measured"}
    assert rows["id"].is_unique


def test_no_folder_no_results(tmp_path: Path):
    rows, problems = load_results(tmp_path / "nowhere")
    assert rows.empty
    assert list(rows) == ["id", *COLUMNS]
    assert problems == []


def test_a_file_that_changed_after_the_manifest_is_named(tmp_path: Path):
    write_results(tmp_path / "a.csv", pd.DataFrame([MEASURED]))
    write_manifest(tmp_path)
    assert load_results(tmp_path)[1] == []
    write_results(tmp_path / "a.csv", pd.DataFrame([MEASURED | {"adversary_error": 99}]))
    write_results(tmp_path / "b.csv", pd.DataFrame([MEASURED]))
    assert [str(problem).partition(":")[0] for problem in load_results(tmp_path)[1]] == ["a.csv", "b.csv"]
    (tmp_path / MANIFEST).write_text("[]")
    assert "not a list of files" in str(load_results(tmp_path)[1][0])


def test_seeds_are_averaged_and_nothing_else(tmp_path: Path):
    runs = [MEASURED | {"seed": seed, "adversary_error": error} for seed, error in enumerate((40, 42, 47))]
    runs.append(MEASURED | {"defense": "rs"})
    write_results(tmp_path / "mine.csv", pd.DataFrame(runs))
    mean = over_seeds(load_results(tmp_path)[0]).set_index("defense")
    assert mean["runs"].to_dict() == {"dcp": 3, "rs": 1}
    assert mean.loc["dcp", "adversary_error"] == 43
    # deviations -3, -1, 4: squares 26, / 2
    assert mean.loc["dcp", "adversary_error_std"] == pytest.approx(13**0.5)
    assert math.isnan(mean.loc["rs", "adversary_error_std"])
    assert [part.rpartition(":")[2] for part in mean.loc["dcp", "id"].split()] == ["2", "3", "4"]
    assert seeds_of(mean.loc["dcp"]).to_numpy().tolist() == [[0, 40], [1, 42], [2, 47]]
    assert seeds_of(pd.Series({"defense": "dcp"})).empty


def test_a_mean_over_seeds_needs_the_number_of_each_seed(tmp_path: Path):
    rates = {"dcp": (8.0, 10.0), "rs": (8.0, None), "am": (None, None)}
    runs = [
        MEASURED | {"defense": name, "seed": seed, "transfer_rate": rate}
        for name, both in rates.items()
        for seed, rate in enumerate(both)
    ]
    write_results(tmp_path / "mine.csv", pd.DataFrame(runs))
    mean = over_seeds(load_results(tmp_path)[0]).set_index("defense")["transfer_rate"]
    assert mean["dcp"] == 9
    assert mean[["rs", "am"]].isna().all()


def test_rows_of_shipped_runs_tell_how_many_adversarial_pictures_carry_over(shipped: pd.DataFrame):
    found = [json.loads(path.read_text()) for path in (PRECOMPUTED / "runs").glob("*/result.json")]
    rates = shipped.dropna(subset=["key"]).set_index("key")["transfer_rate"]
    assert len(found) > 20
    for each in found:
        assert rates[each["rows"][0]["key"]] == pytest.approx(each["transfer_rate"], abs=1e-4)


def test_points_of_one_setting_differ_only_by_the_defense() -> None:
    points = pd.DataFrame(
        {
            "victim": ["v"] * 3,
            "precision": ["fp32"] * 3,
            "attack": ["knockoff"] * 3,
            "queries_from": ["a", "a", "b"],
            "thief": ["as is"] * 3,
            "clone": ["resnet8"] * 3,
            "budget": [10] * 3,
            "epochs": [None] * 3,
            "attack_parameters": ['{"lr": 0.1, "epochs": 30}'] * 3,
            "defense": ["none", "dcp", "dcp"],
        }
    )
    groups = settings(points)
    assert {name: list(group["defense"]) for name, group in groups.items()} == {
        "KnockoffNets · pictures (a)": ["none", "dcp"],
        "KnockoffNets · pictures (b)": ["dcp"],
    }
    assert list(settings(points[:2])) == [
        "KnockoffNets · 10 queries · pictures (a) · trusts the answers · clone resnet8 · victim v"
    ]
    budgets = points.assign(queries_from="a", budget=[10, 10, 2000])
    assert list(settings(budgets)) == ["KnockoffNets · 10 queries", "KnockoffNets · 2,000 queries"]
    assert [len(group) for group in settings(budgets, ["budget"]).values()] == [3]
    rates = points.assign(queries_from="a", attack_parameters=['{"lr": 0.1}', '{"lr": 0.1}', '{"lr": 0.5}'])
    assert [name.rpartition(" · ")[2] for name in settings(rates)] == ["lr 0.1", "lr 0.5"]


def test_what_a_thief_does_with_the_answers_does_not_tell_settings_apart_where_thieves_are_together() -> None:
    points = pd.DataFrame(
        {
            **dict.fromkeys(SETTING, "same") | {"budget": 10, "epochs": 5},
            "thief": ["as is", "top-1", "as is"],
            "attack_parameters": ['{"treatment": "as-is"}', '{"treatment": "top-1"}', '{"treatment": "as-is"}'],
        }
    )
    assert [len(group) for group in settings(points, ["thief"]).values()] == [3]
    assert [len(group) for group in settings(points).values()] == [2, 1]


def test_a_row_without_a_parameter_differs_from_one_with_another_value_than_before() -> None:
    points = pd.DataFrame(
        {
            **dict.fromkeys(SETTING, "same") | {"attack": "knockoff", "budget": 10, "epochs": 5, "thief": "as is"},
            "attack_parameters": ['{"lr": 0.1}', '{"lr": 0.1, "rotations": true}', '{"lr": 0.1, "rounds": 2}'],
        }
    )
    grouped = {name.rpartition(" · ")[2]: len(group) for name, group in settings(points).items()}
    assert grouped == {"rotations False": 2, "rotations True": 1}


def test_key_and_command_of_every_shipped_row_are_those_of_the_run_its_columns_describe(
    shipped: pd.DataFrame,
) -> None:
    attacks = shipped[(shipped["source"] == "measured") & shipped["attack"].notna()]
    assert len(attacks) > 150
    for row in attacks.itertuples():
        described = {
            "victim": row.victim,
            "attack": row.attack,
            "attack_parameters": json.loads(row.attack_parameters),
            "defense": row.defense,
            "defense_parameters": json.loads(row.parameters),
            "budget": int(row.budget),
            "pool": None if pd.isna(row.queries_from) else row.queries_from,
            "clone": row.clone,
            "seed": int(row.seed),
        }
        spec = RunSpec.from_json(json.dumps(described))
        assert (row.key, row.where) == (spec.key, spec.command), row.id
