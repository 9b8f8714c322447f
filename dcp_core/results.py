"""Every number knows where it comes from: the one schema of result rows, and where they are kept.

Rows live in CSV files: the shipped ones in `precomputed/results`, a user's own in `home()/results`. An empty cell
means unknown, or that the column does not apply; numbers are never invented to fill one.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dcp_core.files import PRECOMPUTED, home, write_atomic

SHIPPED = PRECOMPUTED / "results"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Column:
    """A declared column: `kind` is its dtype, numbers lie in [low, high], `required` says who must fill it."""

    name: str
    kind: str  # str | json | date | float | Int64 | bool
    meaning: str
    low: float = 0.0
    high: float = float("inf")
    choices: tuple[str, ...] = ()
    required: str = ""  # "" | "always" | "measured"

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


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("source", "str", "who says so", choices=("paper", "measured"), required="always"),
        Column("where", "str", "'Table II' or the command that made the row", required="always"),
        Column("dataset", "str", "what the victim was trained and is tested on", required="always"),
        Column("victim", "str", "name of the victim, or its architecture"),
        Column("precision", "str", "of the victim's weights", choices=("fp32", "ptq", "qat"), required="always"),
        _percent("victim_error", "test error of the undefended victim"),
        Column("defense", "str", "short name, as in the registry", required="always"),
        Column("parameters", "json", "all parameters of the defense, a JSON object", required="measured"),
        Column("strength", "float", "the parameter that a curve varies", low=-float("inf")),
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
        Column("max_defender_increase", "float", "allowed in a bound (below), percentage points"),
        Column("max_l1", "float", "mean l1 distance allowed in a bound", high=2.0),
        Column("latency_ms", "float", "inference latency of one query, milliseconds"),
        Column("energy_wh", "float", "energy for all queries of the row, watt-hours"),
        Column("n_test", "Int64", "pictures in the test set", low=1),
        Column("hardware", "str", "machine that the numbers come from", required="measured"),
        Column("versions", "json", "of the software, a JSON object", required="measured"),
        Column("date", "date", "of the measurement, YYYY-MM-DD", required="measured"),
        Column("unreliable", "bool", "true if the number is not to be trusted; empty means false"),
        Column("reason", "str", "why it is unreliable"),
    )
}
AVERAGED = ["victim_error", "defender_error", "adversary_error", "fidelity", "l1", "l1_queries"]
_OWN = {"seed", "where", "hardware", "versions", "date", "reason", "n_test", "latency_ms", "energy_wh", *AVERAGED}
CONDITIONS = [name for name in COLUMNS if name not in _OWN]
"""Rows that agree on all of these differ only by their seed, and by when and where they ran."""


class ResultsError(ValueError):
    """Results that break the schema; the text names file, line, column and what is wrong."""


def load_results(*folders: Path) -> tuple[pd.DataFrame, list[ResultsError]]:
    """All results below the folders (`precomputed/results` and `home()/results` without any), and what is wrong.

    A row with `max_defender_increase` is a bound, as the paper's Table II gives them: its `adversary_error` is the
    largest of all points that stay within that increase and `max_l1`; where the point lies is not known.

    Returns:
        A frame with `id` ("file.csv:12", name and line) and all of `COLUMNS` in their dtypes; and one error for every
        bad cell (its row is left out), unknown column (left out), unreadable file and deviation from the manifest.
    """
    frames, problems = [], []
    for folder in folders or (SHIPPED, home() / "results"):
        for path in sorted(folder.glob("*.csv")):
            rows, wrong = _read(path.name, path.read_bytes())
            frames.append(rows)
            problems += wrong
        if (folder / MANIFEST).exists() and json.loads((folder / MANIFEST).read_text("utf-8")) != _manifest(
            folder
        ):
            problems.append(ResultsError(f"{folder / MANIFEST} does not describe the files beside it"))
    return pd.concat([_checked("", pd.DataFrame())[0], *frames], ignore_index=True), problems


def write_results(path: Path, rows: pd.DataFrame, *, append: bool = False) -> None:
    """Write rows with columns of `COLUMNS` (an `id` is ignored) to a CSV file, in one step; or add them to it.

    One writer a file: two that append at once lose rows.

    Raises:
        ResultsError: if a row breaks the schema, or the file to append to does. Nothing is written then.
    """
    new = rows.drop(columns="id", errors="ignore").to_csv(index=False).encode()
    parts = [(path.name, path.read_bytes())] if append and path.exists() else []
    frames, problems = zip(*(_read(*part) for part in [*parts, ("new rows", new)]), strict=True)
    if wrong := [str(problem) for group in problems for problem in group]:
        raise ResultsError("\n".join(wrong))
    table = pd.concat(frames, ignore_index=True).drop(columns="id").dropna(axis=1, how="all")
    write_atomic(path, lambda file: table.to_csv(file, index=False, lineterminator="\n"))


def write_manifest(folder: Path = SHIPPED) -> None:
    """Renew the list of a folder's files: what made each, its rows and its sha256."""
    text = json.dumps(_manifest(folder), indent=2) + "\n"
    write_atomic(folder / MANIFEST, lambda file: file.write(text.encode()))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Thief's results averaged over runs that differ only by their seed.

    Returns:
        One row a set of `CONDITIONS`: means of `AVERAGED`, `adversary_error_std` (NaN for one run), `runs`, and the
        runs' `id`s joined by spaces; `where` and `reason` of the first.
    """
    named: dict[str, Any] = {name: (name, "mean") for name in AVERAGED}
    named |= {"adversary_error_std": ("adversary_error", "std"), "runs": ("id", "size"), "id": ("id", " ".join)}
    named |= {name: (name, "first") for name in ("where", "reason")}
    return rows.groupby(CONDITIONS, dropna=False, sort=False).agg(**named).reset_index()


def paper_table1() -> pd.DataFrame:
    """Table I: columns defense, and fast_inference, no_auxiliary_model, low_perturbation (bool)."""
    return pd.read_csv(PRECOMPUTED / "paper_table1.csv")


def _read(name: str, data: bytes) -> tuple[pd.DataFrame, list[ResultsError]]:
    try:
        text = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, index_col=False)
    except ValueError as error:  # so are pandas' parser errors and UnicodeDecodeError
        return _checked(name, pd.DataFrame())[0], [ResultsError(f"{name}: not a CSV file in UTF-8: {error}")]
    rows, problems = _checked(name, text.fillna(""))
    for unknown in text.columns.difference(list(COLUMNS)):
        problems.append(ResultsError(f"{name}: unknown column '{unknown}'; known: {', '.join(COLUMNS)}"))
    return rows, problems


def _checked(name: str, text: pd.DataFrame) -> tuple[pd.DataFrame, list[ResultsError]]:
    """Typed rows of a table of strings, without those that have a bad cell; and the bad cells."""
    rows = pd.DataFrame({"id": [f"{name}:{i + 2}" for i in range(len(text))]}, dtype="str")
    bad, problems = np.zeros(len(text), bool), []
    measured = text.get("source", pd.Series("", text.index)).str.strip() == "measured"
    for column in COLUMNS.values():
        cells = text.get(column.name, pd.Series("", text.index, dtype="str")).str.strip()
        values, right = _parse(cells, column)
        needed = {"always": True, "measured": measured}.get(column.required, False)
        wrong = ((cells != "") & ~right) | ((cells == "") & needed)
        if wrong.any() and column.name not in text:
            problems.append(ResultsError(f"{name}: column '{column.name}' is missing; it takes {column.expected}"))
        else:
            problems += [
                ResultsError(
                    f"{name}, line {i + 2}, column '{column.name}': "
                    f"{cells[i]!r} should be {column.expected} ({column.meaning})"
                )
                for i in np.flatnonzero(wrong)
            ]
        bad |= wrong.to_numpy(bool)
        rows[column.name] = values
    return rows[~bad].reset_index(drop=True), problems


def _parse(cells: pd.Series, column: Column) -> tuple[pd.Series, pd.Series]:
    """Values in the column's dtype (missing where empty or bad), and which cells are good."""
    if column.kind in ("float", "Int64"):
        numbers = pd.to_numeric(cells, errors="coerce").astype(float)
        right = np.isfinite(numbers) & numbers.between(column.low, column.high)
        if column.kind == "Int64":
            right &= numbers == numbers.round()
        return numbers.where(right).astype(column.kind), right
    if column.kind == "bool":
        return cells.str.lower() == "true", cells.str.lower().isin(["true", "false"])
    if column.kind == "json":
        right = cells.map(_is_object).astype(bool)
    elif column.kind == "date":
        right = pd.to_datetime(cells, format="%Y-%m-%d", errors="coerce").notna()
    else:
        right = cells.isin(column.choices) if column.choices else cells != ""
    return cells.where(cells != "").astype("str"), right


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    files = {}
    for path in sorted(folder.glob("*.csv")):
        data = path.read_bytes().replace(b"\r\n", b"\n")  # the same on a checkout with Windows line ends
        rows = _read(path.name, data)[0]
        files[path.name] = {
            "made_by": sorted(rows["where"].unique()),
            "rows": len(rows),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    return files
