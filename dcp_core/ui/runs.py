"""Buttons and details of a run, for the pages that show runs."""

from functools import partial

import pandas as pd
import streamlit as st

from dcp_core.runs import launch, store
from dcp_core.runs.describe import card_of
from dcp_core.runs.folder import used_bytes
from dcp_core.runs.store import RunView
from dcp_core.ui.page import attempt, plain


def say_if_launching_is_off() -> None:
    """Draw a sentence if this server starts no runs."""
    if not launch.allowed():
        st.info(launch.OFF, icon=":material/block:")


def run_buttons(view: RunView, prefix: str, again: str, what: str) -> None:
    """Draw the buttons that are possible for a run: stop it, continue or repeat it, delete it.

    Args:
        prefix: prefix of the widget keys; also see `attempt`.
        again: label and icon of the button that continues or repeats a run: "Resume :material/play_arrow:".
        what: what is deleted, for the question: "this run, its clone and its result".
    """
    key = view.key
    if view.active:
        stop = partial(launch.stop, view.folder)
        st.button("Stop", key=f"{prefix}stop-{key}", icon=":material/stop:", on_click=attempt, args=(stop, prefix))
    if view.resumable and view.spec is not None and launch.allowed():
        label, icon = again.rsplit(" ", 1)
        resume = partial(launch.launch, [view.spec])
        st.button(label, key=f"{prefix}again-{key}", icon=icon, on_click=attempt, args=(resume, prefix))
    if view.state not in ("running", "stopping") and not view.shipped:
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown(f"Delete {what} ({used_bytes(view.folder) / 1e6:.1f} MB)? It cannot be undone.")
            remove = partial(store.delete, view.folder)
            st.button(
                "Yes, delete it",
                key=f"{prefix}delete-{key}",
                type="primary",
                on_click=attempt,
                args=(remove, prefix),
            )


def run_details(view: RunView) -> None:
    """Draw an expander with the answers to an attack's latest queries, the log and the command of the run."""
    with st.expander("Answers, log, command", icon=":material/visibility:"):
        found = store.sample(view.folder)
        if found is not None and view.spec is not None:
            card = card_of(view.spec.victim)
            classes = card.classes if card else ()
            rows = [
                ", ".join(f"{classes[c] if c < len(classes) else c} {p:.2f}" for c, p in answer)
                for answer in found[1]
            ]
            if rows:
                st.dataframe(pd.DataFrame({"answer (with the defense)": rows}), alt="top classes of each answer")
        st.code(store.log_tail(view.folder) or "no log yet", language=None, wrap_lines=True)
        if view.spec is not None:
            st.code(view.spec.command, language="bash", wrap_lines=True)
        st.caption(f"{plain(view.folder)} · {plain(view.worker or 'no worker yet')}")
