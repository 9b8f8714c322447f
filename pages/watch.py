"""The queries of the prediction API's clients, and which clients look like an attack."""

import pandas as pd
import streamlit as st

from dcp_core import ui
from dcp_core.api.watch import read_rows
from dcp_core.evaluation.prada import FEWEST

ui.frame("Watch", "Who asks the prediction API, and does it look like an attack?")

st.markdown(
    "The prediction API (`dcp serve`) counts what each client asks. PRADA compares a client's pictures with each other: "
    "the distances of ordinary queries are about normally distributed, and those of pictures that were made for an "
    "attack are not. W is the statistic of Shapiro and Wilk, 1 for a normal distribution. Pictures of another kind make "
    "the victim uncertain: many uncertain answers are an alarm too. The answers stay the same; "
    "`--watch delay` and `--watch refuse` slow down or refuse clients with an alarm."
)


@st.fragment(run_every=5)
def clients() -> None:
    """The table, read again every five seconds."""
    rows = read_rows()
    if not rows:
        st.info(
            "No client yet. Start the prediction API on this machine with `dcp serve`, and send it a picture. "
            "It updates these numbers every five seconds.",
            icon=":material/visibility:",
        )
        return
    table = pd.DataFrame(rows)
    alarms = table.loc[table["alarm"], "client"].tolist()
    if alarms:
        names = ", ".join(ui.plain(name) for name in alarms)
        st.warning(f"These clients look like an attack: {names}.", icon=":material/report:")
    st.dataframe(
        table[["client", "alarm", "prada_w", "uncertain_share", "pictures", "today", "last"]],
        hide_index=True,
        column_config={
            "client": "Client",
            "alarm": st.column_config.CheckboxColumn("Alarm", help="W is low, or many answers are uncertain."),
            "prada_w": st.column_config.NumberColumn(
                "W of PRADA", format="%.3f", help=f"Low for an attack. Empty before {FEWEST} distances are known."
            ),
            "uncertain_share": st.column_config.NumberColumn(
                "Uncertain answers",
                format="percent",
                help="Largest posterior below `--watch-tau`, before the defense.",
            ),
            "pictures": st.column_config.NumberColumn("Pictures", help="Since the server started."),
            "today": st.column_config.NumberColumn(
                "Today", help="Pictures since midnight UTC; the quota counts these."
            ),
            "last": st.column_config.TextColumn("Last query (UTC)"),
        },
    )


clients()
