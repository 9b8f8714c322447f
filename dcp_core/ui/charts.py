"""Charts and tables with their downloads."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dcp_core.plots.style import enlarged
from dcp_core.ui.page import LARGE, presenting


def chart(figure: go.Figure, *, key: str, alt: str, data: pd.DataFrame | None = None, select: bool = False) -> Any:
    """Draw a figure with downloads: PNG (camera button of the chart), HTML (its camera button saves SVG) and CSV.

    Args:
        key: key of the chart, and name of the downloaded files.
        alt: alt text: one sentence with the conclusion of the figure.
        data: the numbers in the figure, for CSV.
        select: whether the user can select points.

    Returns:
        The selection if `select`, else None.
    """
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "png", "scale": 2, "filename": key}}
    if presenting():
        figure = enlarged(figure, LARGE)
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": ("points", "box")} if select else {}
    selection = st.plotly_chart(figure, key=key, alt=alt, config=config, **options)
    downloads(figure, key=key, data=data)
    return selection if select else None


def downloads(figure: go.Figure, *, key: str, data: pd.DataFrame | None = None) -> None:
    """Draw the buttons that download a figure and its numbers; arguments as `chart`."""
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "HTML · SVG",
            lambda: _as_html(figure, key),
            file_name=f"{key}.html",
            mime="text/html",
            key=f"{key}-html",
            type="tertiary",
            icon=":material/download:",
            on_click="ignore",
            help="An interactive HTML page that works offline. Its camera button saves the figure as SVG; the camera button "
            "of a chart on this page saves PNG.",
        )
        if data is not None:
            csv(data, key)


def csv(data: pd.DataFrame, key: str, label: str = "CSV") -> None:
    """Draw a button that downloads a table as CSV."""
    st.download_button(
        label,
        lambda: data.to_csv(index=False),
        file_name=f"{key}.csv",
        mime="text/csv",
        key=f"{key}-csv",
        type="tertiary",
        icon=":material/table:",
        on_click="ignore",
    )


def _as_html(figure: go.Figure, name: str) -> str:
    return figure.to_html(
        auto_play=False, config={"toImageButtonOptions": {"format": "svg", "filename": name}, "displaylogo": False}
    )
