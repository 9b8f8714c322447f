"""The schema of result rows. Each row has measured or published numbers and says how they were obtained.

An empty cell means that the value is unknown or that the column does not apply. Values are never invented.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of result rows. `kind` is its type, numbers are in [low, high], and `required` says in which rows it must not
    be empty."""

    name: str
    kind: str  # str | json | date | float | Int64 | bool
    meaning: str
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    required: str = (
        ""  # "" (never) | "always" | "measured" (if source is measured) | "unreliable" (if unreliable is true)
    )

    @property
    def expected(self) -> str:
        """Description of a valid cell, for messages."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        words = {"json": "a JSON object", "date": "YYYY-MM-DD", "bool": "true or false", "str": "some text"}
        if self.kind in words:
            return words[self.kind]
        number = "a whole number" if self.kind == "Int64" else "a number"
        return f"{number} from {self.low:g} to {self.high:g}"


def _percent(name: str, meaning: str) -> Column:
    return Column(name, "float", f"{meaning}, percent", high=100.0)


COSTS = (
    Column("engine", "str", "software that ran the victim"),
    Column("clock", "str", "clock of the latencies: elapsed or processor time", choices=("wall", "processor")),
    Column(
        "implementation",
        "str",
        "code of the defense: 'here' is this project's, 'literal' the published computation",
        choices=("here", "literal"),
    ),
    Column("batch", "Int64", "queries in one batch when a cost is measured", low=1),
    Column("repeats", "Int64", "number of timed calls", low=1),
    Column("latency_ms", "float", "inference latency of one query, milliseconds; the median if measured"),
    Column("latency_low_ms", "float", "lower end of the median's 95 % interval, milliseconds"),
    Column("latency_high_ms", "float", "upper end of the median's 95 % interval, milliseconds"),
    Column("latency_p95_ms", "float", "95th percentile of the latency, milliseconds"),
    Column("latency_ratio", "float", "latency relative to no defense: median of ratios within one round"),
    Column("latency_ratio_low", "float", "lower end of the ratio's 95 % interval"),
    Column("latency_ratio_high", "float", "upper end of the ratio's 95 % interval"),
    Column("energy_wh", "float", "energy for all queries of the row, watt-hours"),
    Column("energy_mj", "float", "energy of one query above idle, millijoules", low=-float("inf")),
    Column("energy_low_mj", "float", "smallest value of energy_mj over time windows", low=-float("inf")),
    Column("energy_high_mj", "float", "largest value of energy_mj over time windows", low=-float("inf")),
    Column("energy_method", "str", "counter that measured the energy"),
    Column("second_network", "str", "kind of the second network that the defense needs"),
    Column("second_parameters", "Int64", "number of parameters of the second network"),
    Column("training_seconds", "float", "training time of the second network; its card names the machine"),
    Column("memory_mb", "float", "peak memory of one batch, megabytes"),
    Column("memory_method", "str", "how the memory was measured"),
)
"""What each answer costs the owner (Table III)."""

COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("source", "str", "published or measured here", choices=("paper", "measured"), required="always"),
        Column("where", "str", "table of the paper, or command that made the row", required="always"),
        Column("key", "str", "key of the run that made the row: a hash of all its parameters"),
        Column("dataset", "str", "data set on which the victim was trained and tested", required="always"),
        Column("victim", "str", "name of the victim, or its architecture"),
        Column(
            "precision",
            "str",
            "precision of the victim's weights",
            choices=("fp32", "ptq", "qat"),
            required="always",
        ),
        _percent("victim_error", "test error of the undefended victim"),
        Column("defense", "str", "name of the defense in the registry", required="always"),
        Column("parameters", "json", "parameters of the defense (`defenses.base.identity`)", required="measured"),
        Column("strength", "float", "value of the parameter that a trade-off curve varies", low=-float("inf")),
        Column("attack", "str", "name of the attack in the registry; empty for a row without an attack"),
        Column("attack_parameters", "json", "parameters of the attack (`defenses.base.identity`)"),
        Column("queries_from", "str", "data set from which the thief takes the queries"),
        Column(
            "thief",
            "str",
            "what the thief does with the answers: 'as is', 'top-1', 'average', 'recovery'; 'bound: ...' is no thief",
        ),
        Column("clone", "str", "architecture of the clone"),
        Column("budget", "Int64", "query budget: most queries that the thief may send"),
        Column("epochs", "Int64", "epochs of the clone's training"),
        Column("clone_precision", "str", "number format in which the clone was trained", choices=("fp32", "bf16")),
        Column("seed", "Int64", "seed of the attack"),
        _percent("defender_error", "test error of the defended answers"),
        _percent("adversary_error", "the clone's error on the victim's test set"),
        _percent("fidelity", "test pictures that the clone and the undefended victim put in the same class"),
        _percent("transfer_rate", "adversarial pictures made with the clone that fool the victim"),
        Column("l1", "float", "mean l1 distance of defended and clean answers on the test set", high=2.0),
        Column("l1_queries", "float", "mean l1 distance on the thief's queries", high=2.0),
        Column("max_defender_increase", "float", "for bounds: allowed rise of defender_error, percentage points"),
        Column("max_l1", "float", "for bounds: allowed mean l1 distance", high=2.0),
        *COSTS,
        Column("n_test", "Int64", "number of pictures in the test set", low=1),
        Column("hardware", "str", "machine that measured the numbers", required="measured"),
        Column("versions", "json", "versions of the software", required="measured"),
        Column("date", "date", "date of the measurement", required="measured"),
        Column("unreliable", "bool", "true if the numbers should not be used for conclusions; empty means false"),
        Column("reason", "str", "why the row is unreliable", required="unreliable"),
    )
}
AVERAGED = ["victim_error", "defender_error", "adversary_error", "fidelity", "transfer_rate", "l1", "l1_queries"]
_OWN = {
    "seed",
    "where",
    "key",
    "hardware",
    "clone_precision",
    "versions",
    "date",
    "reason",
    "n_test",
    *AVERAGED,
    *(c.name for c in COSTS),
}
CONDITIONS = [name for name in COLUMNS if name not in _OWN]
"""The columns that define a point. Rows with equal values in all of them differ only in seed, date and machine."""


class ResultsError(ValueError):
    """Result rows that violate the schema. The message has the file, line and column, and what a valid cell is."""


def check(text: pd.DataFrame) -> tuple[pd.DataFrame, list[ResultsError]]:
    """Convert a table of strings to typed rows. Rows with an invalid cell are left out.

    Args:
        text: cells as in a CSV file; missing ones are empty or NaN. The index says where each row is ("file.csv:12").

    Returns:
        A frame with the index as `id` and all of `COLUMNS` in their dtypes; and one error for each invalid cell.
    """
    text = text.reindex(columns=list(COLUMNS)).astype("str").fillna("").apply(lambda cells: cells.str.strip())
    whose = {
        "": np.zeros(len(text), bool),
        "always": np.ones(len(text), bool),
        "measured": (text["source"] == "measured").to_numpy(),
        "unreliable": (text["unreliable"].str.lower() == "true").to_numpy(),
    }
    rows: dict[str, pd.Series] = {"id": text.index.to_series().astype("str")}
    bad, problems = np.zeros(len(text), bool), []
    for column in COLUMNS.values():
        cells = text[column.name]
        rows[column.name], right = _parse(cells, column)
        empty = (cells == "").to_numpy()
        wrong = np.where(empty, whose[column.required], ~right)
        bad |= wrong
        problems += [
            ResultsError(
                f"{text.index[i]}, column '{column.name}': {cells.iloc[i]!r} should be {column.expected} "
                f"({column.meaning})"
            )
            for i in np.flatnonzero(wrong)
        ]
    return pd.DataFrame(rows)[~bad].reset_index(drop=True), problems


def check_values(row: Any, required: Iterable[str] = ()) -> None:
    """Check that the values of one row, as read from JSON, are of their columns' kinds; None and NaN mean unknown.

    Columns that this version does not know are ignored.

    Args:
        required: columns that must have a value, besides those that every row must have.

    Raises:
        ResultsError: for the first value that is missing or not what its column expects.
    """
    if not isinstance(row, dict):
        raise ResultsError(f"{type(row).__name__} is not a row")
    needed = {*required, *(column.name for column in COLUMNS.values() if column.required == "always")}
    for column in COLUMNS.values():
        value = row.get(column.name)
        if value is None or value != value:
            if column.name in needed:
                raise ResultsError(f"column '{column.name}' is missing ({column.meaning})")
        elif not _is_value(value, column):
            shown = repr(value)[:60]
            raise ResultsError(f"column '{column.name}': {shown} should be {column.expected} ({column.meaning})")


def _is_value(value: Any, column: Column) -> bool:
    if column.kind == "bool":
        return isinstance(value, bool)
    if column.kind in ("float", "Int64"):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        whole = column.kind == "float" or (value == value // 1 and abs(value) <= 2**53)
        return abs(value) < float("inf") and column.low <= value <= column.high and whole
    return isinstance(value, str) and (not column.choices or value in column.choices)


def _parse(cells: pd.Series, column: Column) -> tuple[pd.Series, np.ndarray]:
    """Values in the column's dtype (missing if empty or invalid), and a mask of the valid cells."""
    if column.kind in ("float", "Int64"):
        numbers = pd.to_numeric(cells, errors="coerce").astype(float)
        right = np.isfinite(numbers) & numbers.between(column.low, column.high)
        if column.kind == "Int64":
            right &= numbers == numbers.round()
        return numbers.where(right).astype(column.kind), right.to_numpy()
    if column.kind == "bool":
        lower = cells.str.lower()
        return lower == "true", lower.isin(["true", "false"]).to_numpy()
    values = cells.where(cells != "")
    if column.choices:
        return values, cells.isin(column.choices).to_numpy()
    form = {"json": _is_object, "date": _is_date}.get(column.kind, bool)
    return values, np.array([form(cell) for cell in cells], bool)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
