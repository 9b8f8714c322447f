"""Attacks that run in the background: launch, watch, stop, resume and compare them."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import streamlit as st

from dcp_core import plots, ui
from dcp_core.attacks import ATTACKS
from dcp_core.data.datasets import DATASETS, available, pools_for, thief_knowledge
from dcp_core.models import zoo
from dcp_core.models.architectures import CLONES
from dcp_core.models.pretrained import FROZEN, weights_file
from dcp_core.runs import launch, store
from dcp_core.runs.describe import card_of, clearest_pair, courses_of, defense_words, name_of, table_of, time_words
from dcp_core.runs.folder import root, used_bytes
from dcp_core.runs.plans import with_strengths
from dcp_core.runs.spec import LEAST_SIDE, USUAL_SIDE, RunSpec
from dcp_core.runs.store import RunView
from dcp_core.runs.waiting import waiting_time

ui.frame("Attack lab", "How well can it be stolen?")

LAB = "a_"
DEMO_THIEF: dict[str, Any] = {
    "victim": ui.EMBEDDED,
    "pool": "signs_pool_small",
    "attack_parameters": {"recipe": "strong", "epochs": 9, "batch": 64, "lr": 0.2},
    "budget": 4000,
    "clone": "fast_32_64_64",
}
DEMO = [RunSpec(**DEMO_THIEF), RunSpec(**DEMO_THIEF, defense="dcp", defense_parameters={"beta": 1.0})]
LINES = 12  # most settings in the comparison
ICONS = {
    "queued": ":material/hourglass_empty:",
    "running": ":material/play_circle:",
    "stopping": ":material/pending:",
    "interrupted": ":material/pause_circle:",
    "failed": ":material/error:",
    "done": ":material/check_circle:",
    "unreadable": ":material/broken_image:",
}


def start(specs: list[RunSpec]) -> None:
    """Launch the runs that are not included with this software, and show all of them."""

    def go() -> None:
        launch.launch(spec for spec in specs if store.find(spec.key).parent != store.SHIPPED)
        set_next({"a_runs": [spec.key for spec in specs], "a_across": usual_axis(specs)})

    ui.attempt(go, LAB)


def usual_axis(specs: Iterable[RunSpec]) -> str:
    """The horizontal axis that suits the runs: queries for data-free attacks, otherwise work done.

    KnockoffNets makes all queries before it trains, so its curve over queries would be a vertical line.
    """
    return "queries" if any(spec.pool is None for spec in specs) else "work"


def set_next(state: dict[str, Any]) -> None:
    """Set controls in the next run of the page. If they were set now, a fragment that reruns could restore old values."""
    st.session_state["a_set"] = state
    st.session_state["a_again"] = True


@st.fragment(run_every=1.0)
def demo() -> None:
    """An example that starts with one click: a small attack on the embedded victim, undefended and with DCP."""
    if DEMO[0].victim not in zoo.names():
        return
    here = [store.view(store.find(spec.key)) for spec in DEMO]
    done = all(view.state == "done" for view in here)
    begun = all(view.state == "done" or view.active for view in here)
    with st.container(border=True):
        st.markdown(
            "**Example:** attack the embedded road-sign victim twice, once without a defense and once with DCP."
        )
        st.button(
            "Show both runs" if begun else "Launch both runs",
            key="a_demo",
            type="primary",
            icon=":material/visibility:" if begun else ":material/rocket_launch:",
            disabled=not (done or launch.allowed()),
            on_click=start,
            args=(DEMO,),
        )
        about = (
            "both runs are finished"
            if done
            else "both runs are running or queued"
            if begun
            else ui.plain(waiting_time(DEMO))
        )
        st.caption(
            f"The thief sends {DEMO[0].budget:,} pictures of road signs. Defense: {defense_words(DEMO[1].make_defense())}. "
            f"Duration: {about}"
        )
        st.caption(
            "With this defense, the owner's error stays the same, but the mean l1 distance of the answers is about "
            "1.6. Each run has one seed and is scored on 10,000 test pictures. With one seed, a difference may be "
            "due to chance."
        )
    again()


def form() -> None:
    """The form for new runs."""
    st.subheader("New runs", anchor=False)
    card = ui.choose_victim(LAB)
    attack_name = ui.select("Attack", {name: kind.title for name, kind in ATTACKS.items()}, "a_attack")
    pool = choose_pool(card) if ATTACKS[attack_name].needs_pool else None
    budget = st.number_input(
        "Query budget (number of pictures sent)",
        1,
        100_000_000,
        DEMO[0].budget,
        1000,
        key="a_budget",
        **ui.IN_URL,
    )
    usual = CLONES.index(ATTACKS[attack_name].usual_clone)
    clone = st.selectbox("Network of the clone", CLONES, usual, key="a_clone", **ui.IN_URL)
    if clone == FROZEN:
        with ui.errors_explained():
            weights_file()  # says how to get them
        st.caption(
            "Pretrained: only the last layers (the head) are trained, in 500 steps. The settings of the training "
            "have no effect."
        )
    clone_size = 0
    if card.size > USUAL_SIDE and clone != FROZEN:
        clone_size = st.number_input(
            "Side of the pictures that the clone sees",
            LEAST_SIDE,
            card.size,
            USUAL_SIDE,
            8,
            key="a_clone_size",
            help="The victim still sees its own size. Large pictures take much longer.",
            **ui.IN_URL,
        )
        clone_size = 0 if clone_size == USUAL_SIDE else int(clone_size)
    with st.expander("Settings of the attack", icon=":material/psychology:"):
        first = DEMO[0] if attack_name == DEMO[0].attack else None
        attack = ui.attack_parameters(first.make_attack() if first else ATTACKS[attack_name](), LAB)
    defense = ui.choose_defense(prefix=LAB)
    strengths: list[float] = []
    if defense.strength:
        strengths = st.multiselect(
            "More strengths (one run for each)", [x for x in defense.grid if x], key="a_strengths", **ui.IN_URL
        )
    undefended = st.toggle("Also attack the undefended victim", True, key="a_pair", wrap=True, **ui.IN_URL)
    seed = st.number_input("Seed", 0, 10_000, 0, key="a_seed", **ui.IN_URL) if ui.experts() else 0
    with ui.errors_explained():
        thief = (int(budget), pool, clone, int(seed), clone_size)
        specs = [
            RunSpec(card.name, attack_name, dataclasses.asdict(attack), each.name, each.values(), *thief)
            for each in with_strengths(defense, strengths, undefended=undefended)
        ]
    launch_box(specs)


def choose_pool(card: zoo.Card) -> str:
    """Let the user choose the thief's knowledge, and a query pool that fits it."""
    knowledge = st.segmented_control(
        "The thief's knowledge",
        ["knowledgeable", "limited"],
        default="knowledgeable",
        required=True,
        key="a_knowledge",
        help="knowledgeable: the thief has pictures similar to the victim's training pictures. limited: the thief has "
        "other pictures.",
        **ui.IN_URL,
    )
    return st.selectbox(
        "Query pool (pictures that the thief sends)",
        pools_for(card.dataset, card.size, knowledge),
        key=f"a_pool_{knowledge}",
        format_func=lambda n: (
            (DATASETS[n].title if n in DATASETS else n) + ("" if available(n) else " (not here)")
        ),
        accept_new_options=True,
        help="You can also type the path of an .npz file or a folder of pictures on this machine.",
        **ui.IN_URL,
    )


@st.fragment(run_every=1.0)
def launch_box(specs: list[RunSpec]) -> None:
    """The estimated duration, and the button that launches the runs."""
    left = [spec for spec in specs if store.view(store.find(spec.key)).state != "done"]
    done = len(specs) - len(left)
    st.caption(ui.plain(waiting_time(left)) if left else "All of these runs are finished. Nothing will run again.")
    if done and left:
        st.caption(f"{done} of {len(specs)} runs are finished and will not run again.")
    label = "Show" if done == len(specs) else "Launch"
    count = f"{len(specs)} runs" if len(specs) > 1 else "the run"
    off = label == "Launch" and not launch.allowed()
    st.button(f"{label} {count}", key="a_launch", type="primary", disabled=off, on_click=start, args=(specs,))
    again()


def again() -> None:
    """Redraw the whole page after a button in one part of it was pressed."""
    if st.session_state.pop("a_again", False):
        st.rerun()


def choose_runs(views: list[RunView]) -> list[str]:
    """Let the user choose the runs to show. They are in the URL, so that a comparison can be shared."""
    named = {view.key: ("included · " if view.shipped else "") + name_of(view) for view in views}
    if "a_runs" not in st.session_state:
        st.session_state["a_runs"] = runs_in_address(named) or first_runs(views)
    kept = [key for key in st.session_state["a_runs"] if key in named]  # others were deleted
    if kept != st.session_state["a_runs"]:
        st.session_state["a_runs"] = kept
    chosen = st.multiselect(
        "Runs shown",
        list(named),
        key="a_runs",
        format_func=lambda key: named.get(key, key),
        on_change=lambda: st.session_state.pop("a_missing", None),
        **ui.IN_URL,
    )
    if missing := st.session_state.get("a_missing"):
        names = ", ".join(f"**{ui.plain(name)}**" for name in missing)
        st.info(f"This link names runs that are not on this machine: {names}.", icon=":material/link_off:")
    return chosen


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


def live(shown: list[str], across: str) -> None:
    """Curves and cards of the chosen runs. They are redrawn every second while one of the runs is active."""
    launch.start_workers()  # replaces workers that were killed
    views = [store.view(store.find(key)) for key in shown]
    curves(views, across)
    for view in views:
        show_run(view)
    before, now = st.session_state.get("a_were_active", {}), {view.key: view.active for view in views}
    st.session_state["a_were_active"] = now
    if any(
        before.get(key, active) != active for key, active in now.items()
    ):  # not at once after `set_next`: see there
        st.session_state["a_again"] = True
    again()


def curves(views: list[RunView], across: str) -> None:
    """Curves of the clone's error and fidelity in the chosen runs."""
    points, victims = courses_of(views)
    ui.chart(
        plots.run_curves(points, victims, across),
        key="thefts",
        alt=plots.describe_run_curves(points),
        data=points,
    )


def show_run(view: RunView) -> None:
    """One run: its state and result, its buttons and details."""
    with st.container(border=True, key=f"run-{view.key}"):
        st.markdown(f"{ICONS[view.state]} **{view.state}** · {ui.plain(name_of(view))}")
        spec = view.spec
        if spec is None:
            st.caption(ui.plain(view.message))
        elif view.state == "done" and view.result is not None:
            row = view.result["rows"][0]
            st.markdown(
                f"clone error **{row['adversary_error']:.2f} %** · fidelity {row['fidelity']:.2f} % · owner's error "
                f"{row['victim_error']:.2f} → {row['defender_error']:.2f} %, mean l1 {row['l1']:.3f} · "
                f"{row['n_test']:,} test pictures"
            )
        else:
            left = f"{spec.budget - view.queries:,} queries left"
            eta = f" · {time_words(view.eta)} to go" if view.eta is not None else ""
            quiet = (
                f" · no message from its process for {time_words(view.silence)}"
                if view.state == "running" and view.silence > 10
                else ""
            )
            st.progress(
                min(0.99, max(0.0, view.fraction)),  # full only when it is done
                f"{ui.plain((view.active and view.phase) or view.state)} · {left}{eta}{quiet}",
            )
            if view.message:
                st.caption(ui.plain(view.message))
        with st.container(horizontal=True, gap="small"):
            ui.run_buttons(view, LAB, "Resume :material/play_arrow:", "this run, its clone and its result")
            if spec is not None:
                st.button("Duplicate", key=f"copy-{view.key}", icon=":material/content_copy:", on_click=duplicate,
                          args=(spec,), help="Copy this run's settings to the form.")  # fmt: skip
        ui.run_details(view)


def duplicate(spec: RunSpec) -> None:
    """Fill the form with a run."""
    state = ui.parameter_state(spec.make_attack(), LAB) | ui.parameter_state(spec.make_defense(), LAB)
    names = ("victim", "attack", "defense", "clone", "budget", "seed")
    state |= {f"{LAB}{name}": getattr(spec, name) for name in names}
    if spec.pool is not None:
        card = card_of(spec.victim)
        knows = thief_knowledge(card.dataset if card else "", spec.pool)
        state |= {"a_knowledge": knows, f"a_pool_{knows}": spec.pool}
    set_next(state)


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
    ui.chart(plots.pairs(here), key="pairs", alt=plots.describe_pairs(here), data=here)
    st.caption(
        "The runs shown above come first, then other results on the same data set. Filled marks: measured with this "
        "software; open marks: from the paper; faint marks: a single seed. The runs on one line differ only in the "
        "defense."
    )


def table(views: list[RunView]) -> None:
    """The table of all runs, with a filter."""
    st.subheader("All runs", anchor=False)
    first, second = st.columns([1, 2])
    states = first.multiselect("State", list(ICONS), key="a_state", **ui.IN_URL)
    text = second.text_input(
        "Search (beginning of a word)", key="a_text", placeholder="dcp, textures, dfme ...", **ui.IN_URL
    )
    frame = table_of(views, states, text or "")
    if frame.empty:
        st.caption("No run matches the filter." if views else "No run yet.")
    else:
        picked = st.dataframe(
            frame,
            hide_index=True,
            on_select="rerun",
            selection_mode="multi-row",
            key="a_table",
            alt=f"{len(frame)} runs",
        )
        keys = [frame["key"].iloc[i] for i in picked["selection"]["rows"] if i < len(frame)]
        with st.container(horizontal=True):
            st.button(
                f"Show {len(keys)} selected",
                key="a_show",
                disabled=not keys,
                on_click=set_next,
                args=({"a_runs": keys},),
            )
            ui.csv(frame, "runs", "CSV of these runs")
    used = used_bytes(root()) / 1e9
    with ui.errors_explained():
        st.caption(f"Runs use {used:.2f} GB of at most {store.limit_gb():g} GB (`DCP_RUNS_GB`) in `{root()}`.")


if trouble := st.session_state.pop("a_trouble", None):
    st.error(ui.plain(trouble), icon=":material/error:")
st.session_state.update(st.session_state.pop("a_set", {}))
everything = [*store.views(), *store.shipped()]
main, side = st.columns([2.3, 1], gap="medium")
with main:
    keys = choose_runs(everything)
    chosen = [view for view in everything if view.key in keys]
    if chosen:
        axis = st.segmented_control(
            "Horizontal axis",
            list(plots.runs.ACROSS),
            default=usual_axis(view.spec for view in chosen if view.spec is not None),
            required=True,
            key="a_across",
            format_func=plots.runs.ACROSS.__getitem__,
            label_visibility="collapsed",
            help="KnockoffNets makes all queries before it trains, so its curve over queries is a vertical line.",
            **ui.IN_URL,
        )
        busy = any(view.active for view in chosen)
        with ui.errors_explained():
            st.fragment(live, run_every=1.0 if busy else None)(keys, axis)
    compare(chosen)
    table(everything)
with side:
    ui.say_if_launching_is_off()
    demo()
    form()
