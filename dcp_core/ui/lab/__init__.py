"""Parts of the page Attack lab: the table of runs, the form for new runs, the example, and the card of a run."""

from dcp_core.ui.lab.card import show_run
from dcp_core.ui.lab.demo import demo
from dcp_core.ui.lab.form import new_runs
from dcp_core.ui.lab.state import LAB, again, announce, style, take_next, usual_axis
from dcp_core.ui.lab.table import run_table

__all__ = [
    "LAB",
    "again",
    "announce",
    "demo",
    "new_runs",
    "run_table",
    "show_run",
    "style",
    "take_next",
    "usual_axis",
]
