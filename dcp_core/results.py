"""Every number knows where it comes from: the one schema of result rows, and where they are kept.

Rows live in CSV files: the shipped ones in `precomputed/results`, a user's own in `home()/results`. An empty cell
means unknown, or that the column does not apply; numbers are never invented to fill one.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dcp_core.files import PRECOMPUTED, home, write_atomic

SHIPPED = PRECOMPUTED / "results"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Column:
    """A declared column: `kind` is its dtype, numbers lie in [low, high], `required` says who must fill it."""

    name: str
    kind: str  # str | json | float | Int64 | bool
    meaning: str
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    required: str = ""  # "" | "always" | "measured"


def _percent(name: str, meaning: str) -> Column:
    return Column(name, "float", f"{meaning}, percent", high=100.0)


_INF = float("inf")
COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("source", "str", "who says so", choices=("paper", "measured"), required="always"),
        Column("where", "str", "'Table II' or the command that made the row", required="always"),
        Column("dataset", "str", "what the victim was trained and is tested on", required="always"),
        Column("victim", "str", "the victim's architecture"),
        Column("precision", "str", "of the victim's weights", choices=("fp32", "ptq", "qat"), required="always"),
        _percent("victim_error", "test error of the undefended victim"),
        Column("defense", "str", "short name, as in the registry", required="always"),
        Column("parameters", "json", "all parameters of the defense, a JSON object", required="measured"),
        Column("strength", "float", "the parameter that a curve varies", low=-_INF),
        Column("attack", "str", "short name; empty for a row without an attack"),
        Column("queries_from", "str", "data set that the thief's queries come from"),
        Column("thief", "str", "what the thief does with the answers: 'as is', 'top-1', 'average', 'recovery'"),
        Column("clone", "str", "the clone's architecture"),
        Column("budget", "Int64", "queries that the thief may make"),
        Column("epochs", "Int64", "of the clone's training"),
        Column("seed", "Int64", "of the attack"),
        _percent("defender_error", "test error of the defended answers"),
        _percent("adversary_error", "the clone's error on the victim's test set"),
        _percent("fidelity", "test pictures that the clone and the undefended victim put in the same class"),
        Column("l1", "float", "mean l1 distance to the clean answer, test set", high=2.0),
        Column("l1_queries", "float", "the same on the thief's queries", high=2.0),
        Column("max_defender_increase", "float", "if filled, the row is a bound, see `bounds`; percentage points"),
        Column("max_l1", "float", "mean l1 distance allowed in a bound", high=2.0),
        Column("latency_ms", "float", "inference latency of one query, milliseconds"),
        Column("energy_wh", "float", "energy for all queries of the row, watt-hours"),
        Column("n_test", "Int64", "pictures in the test set", low=1),
        Column("hardware", "str", "machine that the numbers come from", required="measured"),
        Column("versions", "str", "of the software", required="measured"),
        Column("date", "str", "of the measurement, YYYY-MM-DD", required="measured"),
        Column("unreliable", "bool", "true if the number is not to be trusted; empty means false"),
        Column("reason", "str", "why it is unreliable"),
    )
}
CONDITIONS = [c for c in COLUMNS if COLUMNS[c].kind in ("str", "json")] + [
    "strength", "budget", "epochs", "max_defender_increase", "max_l1", "unreliable"
]  # fmt: skip
"""Rows that agree on these (dates, commands, machines and versions aside) differ only by their seed."""
for _varies in ("where", "hardware", "versions", "date", "reason"):
    CONDITIONS.remove(_varies)


class ResultsError(ValueError):
    """A file of results that breaks the schema; the text names file, line, column and what is wrong."""


def read_results(path: Path) -> tuple[pd.DataFrame, list[ResultsError]]:
    """The good rows of one file, and everything that is wrong with it.

    Returns:
        A frame with `id` ("file.csv:12", name and line) and all of `COLUMNS` in their dtypes; and one error for every
        bad cell (its row is left out), unknown column (left out) or unreadable file.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        return _checked(pd.DataFrame(), path.name)[0], [ResultsError(f"{path.name}: cannot be read: {error}")]
    rows, problems = _checked(text, path.name)
    for name in text.columns.difference(list(COLUMNS)):
        problems.append(ResultsError(f"{path.name}: unknown column '{name}'; known: {', '.join(COLUMNS)}"))
    return rows, problems


def load_results(*folders: Path) -> tuple[pd.DataFrame, list[ResultsError]]:
    """All results of the folders, `precomputed/results` and `home()/results` without any, and what is wrong in them.

    A bad file costs its bad rows, nothing else. A folder that does not exist has no results.
    """
    frames, problems = [read_results_of_nothing()], []
    for folder in folders or (SHIPPED, home() / "results"):
        for path in sorted(folder.glob("*.csv")):
            rows, wrong = read_results(path)
            frames.append(rows)
            problems += wrong
    return pd.concat(frames, ignore_index=True), problems
