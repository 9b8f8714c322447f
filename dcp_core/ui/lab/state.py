"""State that the parts of the page Attack lab change together, and actions on several runs."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dcp_core.runs import launch, store
from dcp_core.runs.describe import facts_of
from dcp_core.runs.spec import RunSpec
from dcp_core.ui.page import attempt, plain
from dcp_core.ui.scroll import scroll_to

LAB = "a_"
"""Prefix of the keys of all widgets of the page."""


def style() -> None:
    """Apply the style of this page's parts."""
    st.html(f"<style>{(Path(__file__).with_name('lab.css')).read_text(encoding='utf-8')}</style>")


def set_next(state: dict[str, Any]) -> None:
    """Set controls in the next run of the page. If they were set now, a fragment that reruns could restore old values."""
    st.session_state["a_set"] = st.session_state.get("a_set", {}) | state
    st.session_state["a_again"] = True


def take_next() -> None:
    """Apply `set_next`. The page must call this before it draws a control."""
    st.session_state.update(st.session_state.pop("a_set", {}))


def again() -> None:
    """Redraw the whole page after a button in one part of it was pressed."""
    if st.session_state.pop("a_again", False):
        st.rerun()


def usual_axis(specs: Iterable[RunSpec]) -> str:
    """The horizontal axis that suits the runs: queries if all attacks are data-free, otherwise work done.

    KnockoffNets makes all queries before it trains, so its curve over queries would be a vertical line.
    """
    pools = [spec.pool for spec in specs]
    return "queries" if pools and not any(pools) else "work"


def start(specs: Sequence[RunSpec]) -> None:
    """Launch the runs that are not included with this software, show all of them, and say so."""

    def go() -> None:
        new = [spec for spec in specs if store.find(spec.key).parent != store.SHIPPED]
        launch.launch(new)
        views = [store.view(store.find(spec.key)) for spec in specs]
        begun = [view for view in views if view.active]
        said = (
            f"Launched {len(begun)} run{'s' * (len(begun) > 1)}: " + "; ".join(facts_of(view) for view in begun)
            if begun
            else "These runs are finished already. They are shown now."
        )
        set_next(
            {"a_runs": [spec.key for spec in specs], "a_across": usual_axis(specs), "a_new": False, "a_said": said}
        )

    attempt(go, LAB)


def announce() -> None:
    """Say what was launched and scroll to the table, or scroll to a form that `duplicate` has filled; once."""
    said = st.session_state.pop("a_said", None)
    if said:
        st.session_state["a_turn"] = st.session_state.get("a_turn", 0) + 1
        st.toast(plain(said), icon=":material/rocket_launch:", duration="long")
    scroll_to("a-table", st.session_state.get("a_turn", 0))
    scroll_to("a-bar", st.session_state.get("a_copies", 0))


def all_of(
    action: Callable[[Path], object], keys: Sequence[str], first: Callable[[Path], object] | None = None
) -> None:
    """Do the same to the folders of several runs.

    Args:
        first: done to all folders before the action is done to any.
    """
    folders = [store.find(key) for key in keys]
    attempt(lambda: [each(folder) for each in (first, action) if each for folder in folders], LAB)
