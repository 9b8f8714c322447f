"""The dashboard: its pages, the first of them the home page. Each page is complete alone, see `ui.frame`."""

import streamlit as st

from dcp_core.ui import PAGES

st.navigation(
    [
        st.Page(f"pages/{name}.py", title=title, default=name == "story")  # an icon would come from the network
        for name, (title, _) in PAGES.items()
    ],
    position="hidden",
).run()
