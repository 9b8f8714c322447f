"""Every figure, as a pure function from tables to a Plotly figure: no torch, no Streamlit."""

from dcp_core.plots.answers import (
    all_defenses,
    answer_bars,
    answer_table,
    class_map,
    describe_answer,
    function_plot,
)

__all__ = [
    "all_defenses",
    "answer_bars",
    "answer_table",
    "class_map",
    "describe_answer",
    "function_plot",
]
