"""Every number knows where it comes from: result rows (`schema.py`) and where they are kept.

Rows live in CSV files: the shipped ones in `precomputed/results`, a user's own in `home()/results`.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dcp_core.files import PRECOMPUTED, home, write_atomic
from dcp_core.results.schema import AVERAGED, COLUMNS, CONDITIONS, ResultsError, check

SHIPPED = PRECOMPUTED / "results"
MANIFEST = "manifest.json"
SETTING = [
    "thief",
    "attack",
    "queries_from",
    "budget",
    "epochs",
    "clone",
    "victim",
    "precision",
]
IN_COLUMNS = {"epochs", "treatment", "repeats"}  # attack parameters that other columns of a row tell


def load_results(*folders: Path) -> tuple[pd.DataFrame, list[ResultsError]]:
    """All results of the folders, `precomputed/results` and `home()/results` without any, and what is wrong there.

    A row with `max_defender_increase` is a bound, as the paper's Table II gives them: its `adversary_error` is the
    largest of all points that stay within that increase and `max_l1`; where the point lies is not known.

    Returns:
        A frame with `id` ("precomputed/file.csv:12", where the row is) and all of `COLUMNS` in their dtypes; and
        an error for every bad cell (its row is left out), file that is unreadable or has an unknown column (left
        out), and file that is not as the folder's manifest says. A folder that does not exist has no results.
    """
    tables, problems = [], []
    for folder in folders or (SHIPPED, home() / "results"):
        problems += _deviations(folder)
        for path in sorted(folder.glob("*.csv")):
            try:
                tables.append(_read(f"{folder.parent.name}/{path.name}", path))
            except ResultsError as error:
                problems.append(error)
    rows, bad_cells = check(pd.concat(tables) if tables else pd.DataFrame())
    return rows, problems + bad_cells


def write_results(path: Path, rows: pd.DataFrame, *, append: bool = False) -> None:
    """Write rows with columns of `COLUMNS` (an `id` is ignored) to a CSV file, in one step; or add them to it.

    One writer a file: of two that append at once, one loses its rows.

    Raises:
        ResultsError: if a row breaks the schema, or the file to append to does. Nothing is written then.
    """
    csv = rows.drop(columns="id", errors="ignore").to_csv(index=False)
    tables = [_read("new rows", io.StringIO(csv))]
    if append and path.exists():
        tables.insert(0, _read(path.name, path))
    checked, problems = check(pd.concat(tables))
    if problems:
        raise ResultsError("\n".join(map(str, problems)))
    text = checked.drop(columns="id").dropna(axis=1, how="all").to_csv(index=False, lineterminator="\n")
    write_atomic(path, lambda file: file.write(text.encode()))


def keys_in(path: Path) -> set[str]:
    """Keys of the runs whose rows are in a CSV file; none if there is no such file.

    Raises:
        ResultsError: for a file that is not one of results.
    """
    return set(_read(path.name, path).get("key", ())) if path.exists() else set()


def write_manifest(folder: Path = SHIPPED) -> None:
    """Renew the readable list of a folder's files: what made each, how many rows it has, its sha256."""
    files = {}
    for path in sorted(folder.glob("*.csv")):
        rows = _read(path.name, path)
        files[path.name] = {"made_by": sorted(set(rows["where"])), "rows": len(rows), "sha256": _sha256(path)}
    text = json.dumps(files, indent=2) + "\n"
    write_atomic(folder / MANIFEST, lambda file: file.write(text.encode()))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Thief's results averaged over runs that differ only by their seed; of a run made twice, the last counts.

    Returns:
        One row a set of `CONDITIONS`: means of `AVERAGED` (NaN where a run lacks the number), `adversary_error_std`
        (NaN for one run), `runs`, the runs' `id`s joined by spaces, `where` and `reason` of the first, and `by_seed`,
        which `seeds_of` reads.
    """
    named: dict[str, Any] = {name: (name, "mean") for name in AVERAGED}
    named |= {"adversary_error_std": ("adversary_error", "std"), "runs": ("id", "size"), "id": ("id", " ".join)}
    named |= {name: (name, "first") for name in ("where", "reason")}
    named["by_seed"] = ("by_seed", lambda cells: f"{{{', '.join(filter(None, cells))}}}")
    run = [*(name for name in CONDITIONS if name != "unreliable"), "seed"]
    again = rows.duplicated(run, keep="last") & rows["seed"].notna()
    pairs = zip(rows["seed"], rows["adversary_error"], strict=True)
    rows = rows.assign(by_seed=["" if pd.isna(seed) else f'"{seed}": {error}' for seed, error in pairs])
    groups = rows[~again].groupby(CONDITIONS, dropna=False, sort=False)
    points = groups.agg(**named)
    points[AVERAGED] = points[AVERAGED].where(groups[AVERAGED].count().eq(groups.size(), axis=0))
    return points.reset_index()


def seeds_of(point: pd.Series) -> pd.DataFrame:
    """The runs behind a point of `thief_points`: columns `seed` and `adversary_error` (percent), one row a seed; no row
    where they are not known."""
    known = point.get("by_seed")
    errors = json.loads(known) if isinstance(known, str) else {}
    return pd.DataFrame({"seed": list(errors), "adversary_error": list(errors.values())}, dtype=float)


def thief_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that tell a thief's error, averaged `over_seeds`."""
    return over_seeds(rows.dropna(subset=["adversary_error"]))


def settings(points: pd.DataFrame, besides: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Points by what was attacked and how, so that those of one setting differ only by the defense (and `besides`).

    Returns:
        From the setting's name, made of what tells it from the others (of everything, if there is but one), to its
        points; the setting with most points first.
    """
    columns = [name for name in SETTING if name not in besides]
    telling = [name for name in columns if len(points[name].unique()) > 1] or columns
    named = {}
    for _, alike in points.groupby(columns, dropna=False, sort=False):
        first = alike.iloc[0]
        words = [_words(name, first[name]) for name in telling if pd.notna(first[name])]
        for differing, group in alike.groupby(differing_parameters(alike), sort=False):
            named[" · ".join([*words, *([differing] if differing else [])])] = group
    return dict(sorted(named.items(), key=lambda item: -len(item[1])))


def differing_parameters(rows: pd.DataFrame) -> pd.Series:
    """For each row, its attack parameters that differ between the rows of the same attack: "batch 64, lr 0.1".

    Parameters with a column of their own (`IN_COLUMNS`) are left out. Empty where nothing differs.
    """
    given = [json.loads(text) if isinstance(text, str) else {} for text in rows["attack_parameters"]]
    values: dict[tuple[str, str], set[str]] = {}
    for attack, parameters in zip(rows["attack"], given, strict=True):
        for name, value in parameters.items():
            values.setdefault((str(attack), name), set()).add(repr(value))
    words = [
        ", ".join(
            f"{name} {value}"
            for name, value in parameters.items()
            if name not in IN_COLUMNS and len(values[str(attack), name]) > 1
        )
        for attack, parameters in zip(rows["attack"], given, strict=True)
    ]
    return pd.Series(words, rows.index, dtype="object")


def _words(column: str, value: Any) -> str:
    return (
        f"{value:,} {'queries' if column == 'budget' else column}"
        if column in ("budget", "epochs")
        else str(value)
    )


def paper_table1() -> pd.DataFrame:
    """Table I: columns defense, and fast_inference, no_auxiliary_model, low_perturbation (bool).

    It judges methods and has no numbers, so it is not made of result rows.
    """
    return pd.read_csv(PRECOMPUTED / "paper_table1.csv")


def _read(name: str, source: Path | io.StringIO) -> pd.DataFrame:
    """A CSV file as strings, each row indexed by name and line.

    Raises:
        ResultsError: for a file that cannot be read, or has a column that the schema does not know.
    """
    try:
        text = pd.read_csv(source, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise ResultsError(f"{name}: not a readable CSV file: {error}") from error
    if unknown := sorted(set(text.columns) - set(COLUMNS)):
        raise ResultsError(f"{name}: unknown column '{unknown[0]}'; known: {', '.join(COLUMNS)}")
    return text.set_axis([f"{name}:{line + 2}" for line in range(len(text))])


def _deviations(folder: Path) -> list[ResultsError]:
    """Files that are not as the folder's manifest says, if it has one."""
    path = folder / MANIFEST
    if not path.exists():
        return []
    try:
        listed = {name: file["sha256"] for name, file in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return [ResultsError(f"{path.name}: not a list of files as write_manifest makes it")]
    found = {file.name: _sha256(file) for file in folder.glob("*.csv")}
    return [
        ResultsError(f"{name}: not as {MANIFEST} lists it; if it should be, renew the list (write_manifest)")
        for name in sorted(listed.keys() | found.keys())
        if listed.get(name) != found.get(name)
    ]


def _sha256(path: Path) -> str:
    """Of the text with Unix line ends, so that a checkout on Windows has the same."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
