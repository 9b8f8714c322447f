"""All figures: pure functions from tables to Plotly figures, without torch and Streamlit."""

from dcp_core.plots.answers import (
    all_defenses,
    answer_bars,
    answer_table,
    class_map,
    class_values,
    describe_answer,
    function_plot,
)
from dcp_core.plots.curves import (
    describe_l1_distribution,
    describe_strength_curves,
    l1_distribution,
    strength_curves,
)
from dcp_core.plots.overview import accuracy_bars, describe_accuracies, describe_learning, learning_curves
from dcp_core.plots.runs import compared, describe_pairs, describe_run_curves, in_common, pairs, run_curves
from dcp_core.plots.tables import (
    cost_dots,
    describe_cost,
    describe_table2,
    describe_table2_grid,
    table2_bars,
    table2_gaps,
    table2_grid,
)
from dcp_core.plots.thief import describe_thief_scatter, thief_scatter

__all__ = [
    "accuracy_bars",
    "all_defenses",
    "answer_bars",
    "answer_table",
    "class_map",
    "class_values",
    "compared",
    "cost_dots",
    "describe_accuracies",
    "describe_answer",
    "describe_cost",
    "describe_l1_distribution",
    "describe_learning",
    "describe_pairs",
    "describe_run_curves",
    "describe_strength_curves",
    "describe_table2",
    "describe_table2_grid",
    "describe_thief_scatter",
    "function_plot",
    "in_common",
    "l1_distribution",
    "learning_curves",
    "pairs",
    "run_curves",
    "strength_curves",
    "table2_bars",
    "table2_gaps",
    "table2_grid",
    "thief_scatter",
]
