"""Read, write and average result rows (`schema.py`). Each row states how its numbers were obtained.

Rows are stored in CSV files: included ones in `precomputed/results`, the user's own in `home()/results`.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dcp_core.attacks import ATTACKS
from dcp_core.attacks.adaptive import ORACLE, OWN, SHADOWS, WIDE, thief_name
from dcp_core.attacks.base import AS_IS
from dcp_core.data.datasets import pool_words
from dcp_core.defenses import DEFENSES
from dcp_core.defenses.base import ALWAYS_THERE
from dcp_core.files import PRECOMPUTED, home, read_regular, write_atomic
from dcp_core.results.schema import AVERAGED, COLUMNS, CONDITIONS, ResultsError, check

SHIPPED = PRECOMPUTED / "results"
MANIFEST = "manifest.json"
SETTING = [
    "attack",
    "budget",
    "queries_from",
    "thief",
    "epochs",
    "clone",
    "victim",
    "precision",
]
THIEVES = {
    AS_IS: "trusts the answers",
    "top-1": "uses the top class alone",
    "average": "sends each picture several times and averages",
    "average (augmented)": "sends changed copies of each picture and averages",
    **{
        thief_name(
            treatment, prior
        ): f"{'bound, no thief: ' * (prior == ORACLE)}recovers the answers ({words}{start})"
        for treatment, words in (("bayes", "Bayes"), ("inverse", "inverse"), ("ddae", "D-DAE"))
        for prior, start in (
            (WIDE, ""),
            (OWN, ", own clone"),
            (SHADOWS, ", shadow models"),
            (ORACLE, ", clean answers"),
        )
    },
}
"""Values of the column `thief`, in words."""
IN_COLUMNS = {
    "epochs",
    "treatment",
    "prior",
    "rounds",
    "repeats",
}  # attack parameters that are also in other columns of a row


def load_results(*folders: Path) -> tuple[pd.DataFrame, list[ResultsError]]:
    """All result rows of the folders, and a list of problems. Default: `precomputed/results` and `home()/results`.

    A row with `max_defender_increase` is a bound, as in Table II of the paper: its `adversary_error` is the largest of all
    points that stay within that increase and `max_l1`. The exact position of that point is unknown.

    Returns:
        A frame with `id` (file and line, "precomputed/file.csv:12") and all of `COLUMNS` in their dtypes. And one error for
        each invalid cell (its row is left out), for each file that is unreadable or has an unknown column (it is left
        out), and for each file that differs from the folder's manifest. A folder that does not exist has no rows.
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
    """Write rows with columns of `COLUMNS` to a CSV file, atomically. The column `id` is not written.

    Only one process may append to a file at a time; if two do, the rows of one are lost.

    Args:
        append: keep the rows that are already in the file.

    Raises:
        ResultsError: if a row, or the file to append to, violates the schema. Nothing is written then.
        OSError: if the file cannot be written.
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
    """Keys of the runs with rows in a CSV file. Empty if there is no such file.

    Raises:
        ResultsError: if the file is not a file of result rows.
    """
    return set(_read(path.name, path).get("key", ())) if path.exists() else set()


def write_manifest(folder: Path = SHIPPED) -> None:
    """Write the manifest of a folder: for each CSV file the commands that made it, the number of rows and the sha256."""
    files = {}
    for path in sorted(folder.glob("*.csv")):
        rows = _read(path.name, path)
        files[path.name] = {"made_by": sorted(set(rows["where"])), "rows": len(rows), "sha256": _sha256(path)}
    text = json.dumps(files, indent=2) + "\n"
    write_atomic(folder / MANIFEST, lambda file: file.write(text.encode()))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Result rows of attacks, averaged over runs that differ only in their seed. Of two equal runs, the last is used.

    Returns:
        One row for each set of `CONDITIONS`: means of `AVERAGED` (NaN if the number is missing in a run);
        `adversary_error_std`, the sample standard deviation over seeds (NaN for one run); `runs`, their number; their `id`s
        joined by spaces; `where` and `reason` of the first; and `by_seed`, which `seeds_of` reads.
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
    """The single runs of a point of `thief_points`: columns `seed` and `adversary_error` (percent), one row for each seed.
    Empty if they are unknown."""
    known = point.get("by_seed")
    errors = json.loads(known) if isinstance(known, str) else {}
    return pd.DataFrame({"seed": list(errors), "adversary_error": list(errors.values())}, dtype=float)


def thief_points(rows: pd.DataFrame) -> pd.DataFrame:
    """All result rows that have a thief's error, averaged by `over_seeds`."""
    return over_seeds(rows.dropna(subset=["adversary_error"]))


def settings(points: pd.DataFrame, besides: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Group points by setting: victim and attack. Points of one setting differ only in the defense (and in `besides`).

    Args:
        points: points of `thief_points`.
        besides: columns of `SETTING` that may differ within a group.

    Returns:
        Points by the name of their setting, the setting with most points first. A name has the attack and the values that
        differ between the settings (all values, if there is only one setting): "KnockoffNets · 2,000 queries".
    """
    columns = [name for name in SETTING if name not in besides]
    distinguishing = [name for name in columns if len(points[name].unique()) > 1] or columns
    if "victim" in distinguishing and "precision" in distinguishing:
        distinguishing.remove("precision")  # a victim has only one
    distinguishing = ["attack", *(name for name in distinguishing if name != "attack")]
    named = {}
    for _, same in points.groupby(columns, dropna=False, sort=False):
        first = same.iloc[0]
        words = [words_of(name, first) for name in distinguishing if pd.notna(first[name])]
        for differing, group in same.groupby(differing_parameters(same), sort=False):
            named[" · ".join([*words, *([differing] if differing else [])])] = group
    return dict(sorted(named.items(), key=lambda item: -len(item[1])))


def differing_parameters(rows: pd.DataFrame) -> pd.Series:
    """For each row, the attack parameters that differ between rows of the same attack, as a text: "batch 64, lr 0.1".

    Parameters of `IN_COLUMNS` are left out. Empty if no parameter differs.
    """
    given = list(parameters_of(rows))
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


def parameters_of(rows: pd.DataFrame) -> pd.Series:
    """The attack parameters of each row, as dicts; empty where unknown. A parameter that a row does not have has its earlier
    value (`Parameter.before`)."""
    texts = zip(rows["attack"], rows["attack_parameters"], strict=True)
    given = [_earlier(attack) | json.loads(text) if isinstance(text, str) else {} for attack, text in texts]
    return pd.Series(given, rows.index, dtype="object")


def _earlier(attack: str) -> dict[str, Any]:
    """The values that parameters of an attack had before they were declared."""
    declared = ATTACKS[attack].parameters() if attack in ATTACKS else {}
    return {name: each.before for name, each in declared.items() if each.before is not ALWAYS_THERE}


def words_of(column: str, point: pd.Series) -> str:
    """The value of a column of a point, in words."""
    value = point[column]
    match column:
        case "defense":
            return DEFENSES[value].short if value in DEFENSES else str(value)
        case "attack":
            return ATTACKS[value].short if value in ATTACKS else str(value)
        case "budget":
            return f"{value:,} queries"
        case "queries_from":
            return pool_words(str(point.get("dataset")), str(value))
        case "thief":
            return THIEVES.get(value, str(value))
        case "epochs":
            return f"{value:,} training epochs"
        case "clone" | "victim":
            return f"{column} {value}"
        case "precision":
            return f"victim in {value}"
    return str(value)


def paper_table1() -> pd.DataFrame:
    """Table I of the paper: columns defense, and fast_inference, no_auxiliary_model, low_perturbation (bool).

    The table has properties of methods and no numbers. Therefore it is not stored as result rows.
    """
    return pd.read_csv(PRECOMPUTED / "paper_table1.csv")


def _read(name: str, source: Path | io.StringIO) -> pd.DataFrame:
    """Read a CSV file as strings. The index of each row is "name:line".

    Raises:
        ResultsError: if the file cannot be read, or has a column that is not in the schema.
    """
    try:
        given = io.BytesIO(read_regular(source)) if isinstance(source, Path) else source
        text = pd.read_csv(given, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise ResultsError(f"{name}: not a readable CSV file: {error}") from error
    if unknown := sorted(set(text.columns) - set(COLUMNS)):
        raise ResultsError(f"{name}: unknown column '{unknown[0]}'; known: {', '.join(COLUMNS)}")
    return text.set_axis([f"{name}:{line + 2}" for line in range(len(text))])


def _deviations(folder: Path) -> list[ResultsError]:
    """One error for each file that differs from the folder's manifest. Empty if the folder has no manifest."""
    path = folder / MANIFEST
    if not path.exists():
        return []
    try:
        listed = {name: file["sha256"] for name, file in json.loads(path.read_text("utf-8")).items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return [ResultsError(f"{path.name}: not a list of files; write it again with write_manifest")]
    found = {file.name: _sha256(file) for file in folder.glob("*.csv")}
    return [
        ResultsError(
            f"{name}: differs from its entry in {MANIFEST}; if the change is intended, run write_manifest again"
        )
        for name in sorted(listed.keys() | found.keys())
        if listed.get(name) != found.get(name)
    ]


def _sha256(path: Path) -> str:
    """sha256 of a text file with Unix line endings, so that it is the same in a checkout on Windows."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
