"""Scroll to a part of the page, once (a Streamlit component, version 2)."""

from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer


def scroll_to(part: str, turn: int) -> None:
    """Scroll to a part of the page when `turn` has changed. Call it in every run, so that other elements keep their places.

    Args:
        part: key of a container or widget.
        turn: any number; the page stays where it is if this is the number of the run before.
    """
    with st.container(key=f"scroll-{part}"):
        _component()(key=f"scroll-to-{part}", data={"to": f".st-key-{part}", "turn": str(turn)})


@cache
def _component() -> ComponentRenderer:
    script = Path(__file__).with_name("scroll.js").read_text(encoding="utf-8")
    return st.components.v2.component("dcp_scroll", html="<i></i>", js=script)
