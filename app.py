"""The dashboard's list of pages. Each page is complete alone: see `dcp_core/ui.py`, `frame`."""

import streamlit as st

st.navigation(
    [
        st.Page("pages/story.py", title="Story", icon=":material/auto_stories:", default=True),
        st.Page("pages/playground.py", title="Playground", icon=":material/tune:"),
        st.Page("pages/tradeoffs.py", title="Trade-offs", icon=":material/balance:"),
        st.Page("pages/paper.py", title="Paper", icon=":material/article:"),
    ]
).run()
