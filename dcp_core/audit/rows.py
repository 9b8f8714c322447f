"""The result rows of an audit's runs, from this machine and from those that came with the package."""

from typing import Any

import pandas as pd

from dcp_core.results.rows import load_results
from dcp_core.results.schema import check
from dcp_core.runs.experiment import FEWER
from dcp_core.runs.folder import FolderError, folder_of, result
from dcp_core.runs.spec import RunSpec


def finished(runs: list[RunSpec]) -> dict[str, dict[str, Any]]:
    """The row of each run that is done, by the run's key, in the order of the runs.

    A result of this machine comes before a known row. A damaged result does not count. Rows that are marked as
    unreliable only for too few seeds lose the mark, because an audit counts its own seeds.
    """
    known = (
        load_results()[0].dropna(subset=["key"]).drop_duplicates("key", keep="last").set_index("key", drop=False)
    )
    rows = {}
    for spec in runs:
        try:
            own = result(folder_of(spec))
        except FolderError:
            continue
        if own is not None:
            rows[spec.key] = own["rows"][0]
        elif spec.key in known.index:
            row = known.loc[spec.key].drop("id").dropna().to_dict()
            if str(row.get("reason", "")).endswith(FEWER):
                row = {name: value for name, value in row.items() if name not in ("reason", "unreliable")}
            rows[spec.key] = row
    return rows


def table(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Rows of `finished` as `load_results` gives them."""
    text = pd.DataFrame(rows.values(), index=list(rows))
    return check(text.astype(object).where(text.notna(), "").astype(str))[0]
