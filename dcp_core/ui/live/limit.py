"""The limit of a chart, which is dragged on the plot itself, and follows its slider (a Streamlit component, version 2)."""

from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

HTML = '<i hidden aria-hidden="true"><b title="Drag to change the limit. The slider does the same."></b></i>'
STYLE = """
i { position: absolute; width: 3px; margin-left: -1.5px; z-index: 5; font-style: normal; background: #2f8fd8;
    pointer-events: none; }  /* marks below it can be clicked */
i[hidden] { display: none; }
b { position: absolute; top: 100%; left: 50%; translate: -50%; padding: 2px 12px; border-radius: 8px; white-space: nowrap;
    pointer-events: auto; cursor: ew-resize; touch-action: none;
    font: 600 .875rem var(--st-font); color: var(--st-background-color); background: var(--st-text-color); }
"""


@cache
def _component() -> ComponentRenderer:
    script = Path(__file__).with_name("limit.js").read_text(encoding="utf-8")
    return st.components.v2.component("dcp_limit", html=HTML, css=STYLE, js=script)


def limit_on_plot(chart: str, slider: str, low: float, high: float, step: float) -> None:
    """Draw the handle of a chart's limit. Call it before the chart.

    Args:
        chart: key of a Plotly chart whose last shape is the allowed region.
        slider: key of the limit's slider, which is set when the handle is released.
        low, high, step: range and step of that slider.
    """
    key = f"{chart}_limit"

    def released() -> None:
        st.session_state[slider] = float(st.session_state[key]["limit"])

    with st.container(key=f"{key}_place"):
        _component()(
            key=key,
            data={"chart": chart, "slider": slider, "low": low, "high": high, "step": step},
            on_limit_change=released,
        )
