"""Attacks that run in the background: launch, watch, stop, resume and compare them."""

from typing import get_args

import streamlit as st

from dcp_core import plots, ui
from dcp_core.runs import launch, store
from dcp_core.runs.describe import card_of, clearest_pair, courses_of, name_of, table_of
from dcp_core.runs.folder import root, used_bytes
from dcp_core.runs.outcome import sentence_of
from dcp_core.runs.store import RunView, State
from dcp_core.ui import lab

ui.frame("Attack lab", "How well can a victim be stolen?")

LINES = 6  # most settings in the comparison


def choose_runs(views: list[RunView]) -> list[str]:
    """Let the user choose the runs to show. They are in the URL, so that a comparison can be shared."""
    named = {view.key: ("included · " if view.shipped else "") + name_of(view) for view in views}
    if "a_runs" not in st.session_state:
        st.session_state["a_runs"] = runs_in_address(named) or first_runs(views)
    kept = [key for key in st.session_state["a_runs"] if key in named]  # others were deleted
    if kept != st.session_state["a_runs"]:
        st.session_state["a_runs"] = kept
    return st.multiselect(
        "Runs shown",
        list(named),
        key="a_runs",
        format_func=lambda key: named.get(key, key),
        on_change=lambda: st.session_state.pop("a_missing", None),
        **ui.IN_URL,
    )


def say_missing() -> None:
    """Say which runs of the address are not on this machine."""
    if missing := st.session_state.get("a_missing"):
        names = ", ".join(f"**{ui.plain(name)}**" for name in missing)
        st.info(f"This link names runs that are not on this machine: {names}.", icon=":material/link_off:")


def runs_in_address(named: dict[str, str]) -> list[str]:
    """Keys of the runs that the URL names. Names of runs that are not on this machine are stored in `a_missing`.

    The URL has the name of a run, whose last word is the beginning of its key, or the key itself.
    """
    asked = {name: name.split(" ")[-1] for name in st.query_params.get_all("a_runs")}
    found = {name: [key for key in named if word and key.startswith(word)] for name, word in asked.items()}
    st.session_state["a_missing"] = [name for name, keys in found.items() if not keys]
    return [key for keys in found.values() for key in keys[:1]]


def first_runs(views: list[RunView]) -> list[str]:
    """The runs shown first: active runs of this machine, or else its newest ones, or else an included pair."""
    own = [view for view in views if not view.shipped]
    active = [view.key for view in own if view.active][:4]
    return active or [view.key for view in own][:2] or clearest_pair(views)


def in_order(views: list[RunView]) -> list[RunView]:
    """The runs of this machine, newest first, then the included ones: the pair that is shown first, then the others by what
    they are."""
    pair = clearest_pair([view for view in views if view.shipped])
    own = [view for view in views if not view.shipped]
    rest = [view for view in views if view.shipped and view.key not in pair]
    return own + [view for key in pair for view in views if view.key == key] + sorted(rest, key=name_of)


def filters(views: list[RunView]) -> list[RunView]:
    """Let the user filter the table's runs by state and by words."""
    states = st.multiselect("State", get_args(State), key="a_state", **ui.IN_URL)
    text = st.text_input(
        "Search (beginning of a word)", key="a_text", placeholder="dcp, textures, dfme ...", **ui.IN_URL
    )
    if not states and not text:
        return views
    found = table_of(views, states, text or "")
    left = set(found["key"]) if len(found) else set()
    return [view for view in views if view.key in left]


def live(listed: list[str], shown: list[str], across: str, score: str) -> None:
    """Table, curves and cards. They are redrawn every second while a run is active."""
    launch.start_workers()  # replaces workers that were killed
    views = {key: store.view(store.find(key)) for key in dict.fromkeys([*listed, *shown])}
    chosen = [views[key] for key in shown]
    left, right = st.columns([1.6, 1], gap="medium")
    with left, st.container(key="a-table"):
        if listed:
            lab.run_table([views[key] for key in listed], shown)
        else:
            st.caption("No run matches the filter.")
    with right:
        st.markdown(f"**{ui.plain(sentence_of(chosen))}**")
        curves(chosen, across, score)
    for start in range(0, len(chosen), 2):
        for column, view in zip(st.columns(2, gap="medium"), chosen[start : start + 2], strict=False):
            with column:
                lab.show_run(view)
    before, now = st.session_state.get("a_were_active", {}), {key: view.active for key, view in views.items()}
    st.session_state["a_were_active"] = now
    if any(
        before.get(key, active) != active for key, active in now.items()
    ):  # not at once after `set_next`: see there
        st.session_state["a_again"] = True
    lab.again()


def curves(views: list[RunView], across: str, score: str) -> None:
    """Curves of the clone's error or fidelity in the chosen runs."""
    points, victims = courses_of(views)
    ui.chart(
        plots.run_curves(points, victims, across, score),
        key="thefts",
        alt=plots.describe_run_curves(points),
        data=points,
    )


def compare(views: list[RunView]) -> None:
    """Compare runs with and without a defense: the runs shown, other results on the same data, and the paper's."""
    rows, problems = ui.all_results()
    for problem in problems:
        st.warning(ui.plain(problem), icon=":material/report:")
    keys = {view.key for view in views}
    cards = [card_of(view.spec.victim) for view in views if view.spec is not None]
    data = {card.dataset for card in cards if card is not None} or {"signs"}
    here = plots.compared(rows[rows["dataset"].isin(data)], keys, LINES)
    st.subheader("With and without a defense", anchor=False)
    if here.empty:
        st.caption("There are no results on this data set yet.")
        return
    if common := plots.in_common(list(here["setting"].unique())):
        st.caption(ui.plain(f"All lines: {common}."))
    ui.chart(plots.pairs(here), key="pairs", alt=plots.describe_pairs(here), data=here)
    st.caption(
        "The runs shown above come first, then other results on the same data set. Filled marks: measured with this "
        "software; open marks: from the paper; faint marks: a single seed. The runs on one line differ only in the "
        "defense."
    )


if trouble := st.session_state.pop("a_trouble", None):
    st.error(ui.plain(trouble), icon=":material/error:")
lab.take_next()
lab.style()
lab.announce()
ui.say_if_launching_is_off()
everything = in_order([*store.views(), *store.shipped()])
with st.container(horizontal=True, vertical_alignment="center", key="a-bar"):
    lab.new_runs()
    with st.popover("Choose runs", icon=":material/filter_list:"):
        keys = choose_runs(everything)
        listed = filters(everything)
    lab.demo()
say_missing()
chosen = [view for view in everything if view.key in keys]
with st.container(horizontal=True, key="a-axes"):
    score = st.segmented_control(
        "Vertical axis",
        list(plots.runs.SCORES),
        default="error",
        required=True,
        key="a_score",
        format_func=plots.runs.SCORES.__getitem__,
        label_visibility="collapsed",
        **ui.IN_URL,
    )
    axis = st.segmented_control(
        "Horizontal axis",
        list(plots.runs.ACROSS),
        default=lab.usual_axis(view.spec for view in chosen if view.spec is not None),
        required=True,
        key="a_across",
        format_func=plots.runs.ACROSS.__getitem__,
        label_visibility="collapsed",
        help="KnockoffNets makes all queries before it trains, so its curve over queries is a vertical line.",
        **ui.IN_URL,
    )
busy = any(view.active for view in everything)
with ui.errors_explained():
    st.fragment(live, run_every=1.0 if busy else None)(
        [view.key for view in listed], [view.key for view in chosen], axis, score
    )
compare(chosen)
used = used_bytes(root()) / 1e9
with ui.errors_explained():
    st.caption(f"Runs use {used:.2f} GB of at most {store.limit_gb():g} GB (`DCP_RUNS_GB`) in `{root()}`.")
