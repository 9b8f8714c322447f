"""Charts that follow the page's sliders while they are dragged (a Streamlit component, version 2).

Streamlit tells Python a slider's value when it is released. Until then the picture looks up what the server has computed in
advance, `dcp_core.evaluation.parameter_sweep`: the browser has no formula. The sliders stay Streamlit's own, so keyboard,
touch, screen readers, the address and the Back button work as for every other control.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from dcp_core.ui.charts import chart, downloads
from dcp_core.ui.controls import IN_URL
from dcp_core.ui.live.panels import rounded

FOLDER = Path(__file__).parent
HTML = '<div class="live"><p class="unseen announcement" role="status"></p><div class="panels"></div></div>'


@cache
def _component() -> ComponentRenderer:
    """The component; its files are read once."""
    styles, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("live.css", "live.js"))
    return st.components.v2.component("dcp_live", html=HTML, css=styles, js=script)


def switch(prefix: str = "") -> bool:
    """Draw the switch of the live pictures; without them, charts change when a slider is released (`?live=false`)."""
    return st.toggle(
        "Draw while dragging",
        True,
        key=f"{prefix}live",
        help="Off: ordinary charts, which change when a slider is released, and whose camera button saves PNG.",
        **IN_URL,
    )


def live(
    panels: Sequence[dict[str, Any]],
    sliders: Mapping[str, tuple[float, Sequence[float]]],
    *,
    key: str,
    announcement: str,
) -> None:
    """Draw panels that follow sliders.

    Args:
        panels: made by the functions of `ui.live.panels`.
        sliders: key of a slider -> its value now, and the increasing values of the tables' rows.
        key: key of the component.
        announcement: text that screen readers read out when the chart has changed.
    """
    known = {name: {"now": now, "values": rounded(values)} for name, (now, values) in sliders.items()}
    outside = any(not values[0] <= now <= values[-1] for now, values in sliders.values())
    _component()(
        key=key, data={"sliders": known, "panels": list(panels), "announcement": announcement, "outside": outside}
    )


def live_chart(
    panels: Sequence[dict[str, Any]],
    sliders: Mapping[str, tuple[float, Sequence[float]]],
    *,
    key: str,
    alt: str,
    figure: go.Figure,
    data: pd.DataFrame,
    follow: bool,
) -> None:
    """Draw panels with the downloads of a figure that shows the same; without `follow`, that figure.

    The other arguments are those of `live` and `ui.chart`.
    """
    if not follow:
        chart(figure, key=key, alt=alt, data=data)
        return
    live(panels, sliders, key=f"{key}-live", announcement=alt)
    downloads(figure, key=key, data=data)
