"""Controls that choose one measured thief by its attack, training recipe, queries, pictures and use of the answers."""

import pandas as pd
import streamlit as st

from dcp_core.results.constraints import strongest_first
from dcp_core.results.facts import FACTS, as_text, values_of
from dcp_core.results.rows import settings
from dcp_core.ui.controls import IN_URL, select


def choose_thief(points: pd.DataFrame, axis: str = "") -> pd.DataFrame:
    """Draw a control for each fact that differs between measured thieves, and return the points of the chosen thief.

    Each control offers what is left by those before it. At first, and for another victim, a strong thief and the facts with
    most points are chosen, and the strongest of the thieves that share them.

    Args:
        points: measured points of `rows.thief_points`.
        axis: a fact that the points may differ in, because a chart shows it.
    """
    of = ",".join(sorted(points["victim"].unique()))
    anew = st.session_state.setdefault("thief_of", of) != of
    st.session_state["thief_of"] = of
    with st.container(horizontal=True, gap="medium"):
        for fact, label in FACTS.items():
            values = {} if fact == axis or points.empty else values_of(points, fact)
            if len(values) < 2:
                continue
            key, first = f"thief_{fact}", next(iter(values))
            if anew or st.session_state.get(key, first) not in values:
                st.session_state[key] = first
            chosen = st.segmented_control(
                label,
                sorted(values, key=int) if fact == "budget" else list(values),
                default=None if key in st.session_state else first,
                required=True,
                key=key,
                format_func=lambda value, words=values: words.get(value, value),
                wrap=True,
                **IN_URL,
            )
            points = points[as_text(points, fact) == chosen]
    groups = settings(points, ["budget"] if axis == "budget" else [])
    if len(groups) < 2:
        return points
    return groups[select("Which of them", {name: name for name in strongest_first(groups)}, "thief_details")]
