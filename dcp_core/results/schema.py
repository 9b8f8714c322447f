"""The one schema of result rows: a number without its origin is not a result.

An empty cell means unknown, or that the column does not apply; numbers are never invented to fill one.
"""

import json
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Column:
    """A declared column: `kind` is its dtype, numbers lie in [low, high], `required` says who must fill it."""

    name: str
    kind: str  # str | json | date | float | Int64 | bool
    meaning: str
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    required: str = ""  # "" | "always" | "measured" | "unreliable": in every row, or in such rows

    @property
    def expected(self) -> str:
        """What a cell must be, for messages."""
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
    Column("engine", "str", "what ran the victim"),
    Column("clock", "str", "that latency was taken from", choices=("wall", "processor")),
    Column("implementation", "str", "'literal': as published ones compute it", choices=("here", "literal")),
    Column("batch", "Int64", "queries answered at once where a cost is measured", low=1),
    Column("repeats", "Int64", "how often it was timed", low=1),
    Column("latency_ms", "float", "inference latency of one query, milliseconds; median where measured"),
    Column("latency_low_ms", "float", "lower end of the median's 95 % interval"),
    Column("latency_high_ms", "float", "upper end of the median's 95 % interval"),
    Column("latency_p95_ms", "float", "95th percentile"),
    Column("latency_ratio", "float", "median ratio to no defense, within a round of turns"),
    Column("latency_ratio_low", "float", "lower end of its 95 % interval"),
    Column("latency_ratio_high", "float", "upper end of its 95 % interval"),
    Column("energy_wh", "float", "energy for all queries of the row, watt-hours"),
    Column("energy_mj", "float", "energy of one query above idle, millijoules", low=-float("inf")),
    Column("energy_low_mj", "float", "smallest of its windows", low=-float("inf")),
    Column("energy_high_mj", "float", "largest of its windows", low=-float("inf")),
    Column("energy_method", "str", "counter that it was read from"),
    Column("second_network", "str", "kind of network needed beside the victim"),
    Column("second_parameters", "Int64", "its parameters"),
    Column("training_seconds", "float", "that its training took; its card says where"),
    Column("memory_mb", "float", "peak memory of one such batch, megabytes"),
    Column("memory_method", "str", "how that was measured"),
)
"""What an answer costs its giver (Table III)."""

COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("source", "str", "who says so", choices=("paper", "measured"), required="always"),
        Column("where", "str", "'Table II' or the command that made the row", required="always"),
        Column("key", "str", "key of the run that made the row: a hash of all its parameters"),
        Column("dataset", "str", "what the victim was trained and is tested on", required="always"),
        Column("victim", "str", "name of the victim, or its architecture"),
        Column("precision", "str", "of the victim's weights", choices=("fp32", "ptq", "qat"), required="always"),
        _percent("victim_error", "test error of the undefended victim"),
        Column("defense", "str", "short name, as in the registry", required="always"),
        Column("parameters", "json", "parameters of the defense (`defenses.base.identity`)", required="measured"),
        Column("strength", "float", "the parameter that a curve varies", low=-float("inf")),
        Column("attack", "str", "short name; empty for a row without an attack"),
        Column("attack_parameters", "json", "parameters of the attack (`defenses.base.identity`)"),
        Column("queries_from", "str", "data set that the thief's queries come from"),
        Column("thief", "str", "what the thief does with the answers: 'as is', 'top-1', 'average', 'recovery'"),
        Column("clone", "str", "the clone's architecture"),
        Column("budget", "Int64", "queries that the thief may make"),
        Column("epochs", "Int64", "of the clone's training"),
        Column("clone_precision", "str", "that the clone was trained in", choices=("fp32", "bf16")),
        Column("seed", "Int64", "of the attack"),
        _percent("defender_error", "test error of the defended answers"),
        _percent("adversary_error", "the clone's error on the victim's test set"),
        _percent("fidelity", "test pictures that the clone and the undefended victim put in the same class"),
        _percent("transfer_rate", "adversarial pictures made on the clone that fool the victim"),
        Column("l1", "float", "mean l1 distance to the clean answer, test set", high=2.0),
        Column("l1_queries", "float", "the same on the thief's queries", high=2.0),
        Column("max_defender_increase", "float", "rise of defender_error that a bound allows, points"),
        Column("max_l1", "float", "mean l1 distance that a bound allows", high=2.0),
        *COSTS,
        Column("n_test", "Int64", "pictures in the test set", low=1),
        Column("hardware", "str", "machine that the numbers come from", required="measured"),
        Column("versions", "json", "of the software, a JSON object", required="measured"),
        Column("date", "date", "of the measurement, YYYY-MM-DD", required="measured"),
        Column("unreliable", "bool", "true if the number is not to be trusted; empty means false"),
        Column("reason", "str", "why it is unreliable", required="unreliable"),
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
"""What a point was made with: rows that agree on all of these differ only by seed, time and place."""


class ResultsError(ValueError):
    """Results that break the schema; the text names file, line, column and what is wrong."""


def check(text: pd.DataFrame) -> tuple[pd.DataFrame, list[ResultsError]]:
    """Typed rows of a table of strings, without those that have a bad cell; and the bad cells.

    Args:
        text: cells as in a CSV file, missing ones empty or NaN; its index is where each row is ("file.csv:12").

    Returns:
        A frame with the index as `id` and all of `COLUMNS` in their dtypes; an error for every bad cell.
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


def _parse(cells: pd.Series, column: Column) -> tuple[pd.Series, np.ndarray]:
    """Values in the column's dtype (missing where empty or bad), and which cells are good."""
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
