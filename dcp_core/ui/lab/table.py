"""The table of runs, with their state and what they are, and the buttons for the selected ones."""

import hashlib
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dcp_core.plots.runs import dashes_of, swatch
from dcp_core.runs import launch, store
from dcp_core.runs.describe import STAGES, attack_parts, defense_facts, stage_of, table_of
from dcp_core.runs.folder import used_bytes
from dcp_core.runs.outcome import score_of
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.store import RunView
from dcp_core.ui.charts import csv
from dcp_core.ui.lab.state import all_of, set_next
from dcp_core.ui.page import LARGE, presenting

EYE = {True: ":material/visibility:", False: ":material/visibility_off:"}
ROWS, ROW = 11, 36  # number of rows that are seen without scrolling, and their height in pixels
FINE = ("victim", "seed")  # columns for which a projector has no room


def state_words(view: RunView[RunSpec]) -> str:
    """The state of a run, and the stage of a running one."""
    if view.state == "interrupted" and view.message.startswith("stopped"):
        return "stopped"
    stage = stage_of(view)
    return STAGES[stage] if view.state == "running" and stage >= 0 else view.state


def frame_of(views: Sequence[RunView[RunSpec]], shown: Sequence[str]) -> pd.DataFrame:
    """The content of the table, one row for each run.

    Args:
        shown: keys of the runs that are drawn, in the chart's order.

    Returns:
        Columns `shown` (an eye), `line` (as drawn in the chart), `error` of the clone (percent, NaN before the first score),
        `defense`, `attack` (in words), `victim`, `seed`, `state` (with the percentage done, of a running one) and `key`.
    """
    scores = {view.key: score_of(view) for view in views}
    drawn = [view for key in shown for view in views if view.key == key and scores[key] is not None]
    dashes = dashes_of([(view.key, view.spec.defense) for view in drawn if view.spec])
    rows = []
    for view in views:
        spec, score = view.spec, scores[view.key]
        rows.append(
            {
                "shown": EYE[view.key in shown],
                "line": swatch(spec.defense, dashes.get(view.key, "solid")) if spec else None,
                "error": score.error if score else None,
                "defense": _defense(spec) if spec else "",
                "attack": _attack(view),
                "victim": spec.victim if spec else "",
                "seed": spec.seed if spec else None,
                "state": f"{state_words(view)} {min(99, round(100 * view.fraction))} %"
                if view.state == "running"
                else state_words(view),
                "key": view.key,
            }
        )
    return pd.DataFrame(rows)


def _defense(spec: RunSpec) -> str:
    return "undefended" if spec.defense == "none" else defense_facts(spec.make_defense())


def _attack(view: RunView[RunSpec]) -> str:
    """An attack in words, the pictures last, because a narrow column cuts the end; the key if there is no attack."""
    spec = view.spec
    if spec is None:
        return view.key
    name, asked, use = attack_parts(spec, pool=False)
    return ", ".join(filter(None, (name, use, asked.removesuffix(" pictures"))))


def run_table(views: Sequence[RunView[RunSpec]], shown: Sequence[str]) -> None:
    """Draw the table of runs, and the buttons for the selected ones."""
    frame = frame_of(views, shown)
    keys = list(frame["key"])

    def toggle() -> None:
        row = st.session_state["a_eye"]["row"]
        set_next(
            {"a_runs": [key for key in shown if key != keys[row]] if keys[row] in shown else [*shown, keys[row]]}
        )

    large = LARGE / 16 if presenting() else 1

    def wide(pixels: int) -> int:
        return round(pixels * large)

    # Another set of rows is another table, so that a selection never moves to another run.
    rows = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:8]
    picked = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"a_table-{rows}",
        alt=f"{len(frame)} runs",
        placeholder="",
        row_height=wide(ROW),
        height=wide(ROW * min(len(frame), ROWS) + 40),
        column_order=[name for name in frame if name != "key" and not (presenting() and name in FINE)],
        column_config={
            "shown": st.column_config.ButtonColumn(
                "",
                width=wide(38),
                type="tertiary",
                key="a_eye",
                on_click=toggle,
                help="Draw this run in the chart, or hide it.",
            ),
            "line": st.column_config.ImageColumn("", width=wide(40), help="Its line in the chart."),
            "error": st.column_config.NumberColumn(
                "Error", width=wide(60), format="%.1f %%", help="Error of the clone."
            ),
            "defense": st.column_config.TextColumn("Defense", width=wide(92)),
            "attack": st.column_config.TextColumn("Attack and its pictures", width=wide(214)),
            "victim": st.column_config.TextColumn("Victim", width=wide(124)),
            "seed": st.column_config.NumberColumn("Seed", width=wide(50), format="%d"),
            "state": st.column_config.TextColumn("State", width=wide(92)),
        },
    )
    chosen = [keys[row] for row in picked["selection"]["rows"] if row < len(keys)]
    _buttons([view for view in views if view.key in chosen])
    csv(table_of(list(views), [], ""), "runs", "CSV of these runs")


def _buttons(chosen: Sequence[RunView[RunSpec]]) -> None:
    """Buttons for the selected runs; a hint if none is selected."""
    if not chosen:
        st.caption("Click an eye to draw or hide a run. Tick rows to stop, delete or compare several.")
        return
    active = [view.key for view in chosen if view.active]
    gone = [view for view in chosen if view.state not in ("running", "stopping") and not view.shipped]
    with st.container(horizontal=True, gap="small"):
        keys = [view.key for view in chosen]
        st.button(
            f"Show only these {len(chosen)}",
            key="a_show",
            icon=":material/visibility:",
            on_click=set_next,
            args=({"a_runs": keys},),
        )
        if active:
            st.button(
                f"Stop {len(active)}",
                key="a_stop",
                icon=":material/stop:",
                on_click=all_of,
                args=(launch.stop, active, launch.request_stop),
            )
        if gone:
            with st.popover(f"Delete {len(gone)}", icon=":material/delete:"):
                size = sum(used_bytes(view.folder) for view in gone) / 1e6
                st.markdown(f"Delete these runs, their clones and results ({size:.1f} MB)? It cannot be undone.")
                st.button(
                    "Yes, delete them",
                    key="a_delete",
                    type="primary",
                    on_click=all_of,
                    args=(store.delete, [view.key for view in gone]),
                )
