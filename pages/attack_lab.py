"""Attacks that run in the background: launch, watch, stop, resume and compare them."""

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd
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
from dcp_core.runs.spec import RunSpec
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
LINES = 12  # settings compared at once
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
    """Launch the runs that are in no store, and show all."""

    def go() -> None:
        launch.launch(spec for spec in specs if store.find(spec.key).parent != store.SHIPPED)
        set_next({"a_runs": [spec.key for spec in specs], "a_across": usual_axis(specs)})

    ui.attempt(go, LAB)


def usual_axis(specs: Iterable[RunSpec]) -> str:
    """What a theft moves along: data-free ones their queries; KnockoffNets asks first and trains afterwards."""
    return "queries" if any(spec.pool is None for spec in specs) else "work"


def set_next(state: dict[str, Any]) -> None:
    """Set controls in the next run of the page: set now, a part that refreshes itself could bring their old values back."""
    st.session_state["a_set"] = state
    st.session_state["a_again"] = True


@st.fragment(run_every=1.0)
def demo() -> None:
    """One click: a small theft of the embedded victim, undefended and behind DCP."""
    if DEMO[0].victim not in zoo.names():
        return
    here = [store.view(store.find(spec.key)) for spec in DEMO]
    done = all(view.state == "done" for view in here)
    begun = all(view.state == "done" or view.active for view in here)
    with st.container(border=True):
        st.markdown("**Example:** attack the embedded road-sign victim twice, undefended and behind DCP.")
        st.button(
            "Show the pair" if begun else "Launch the pair",
            key="a_demo",
            type="primary",
            icon=":material/visibility:" if begun else ":material/rocket_launch:",
            on_click=start,
            args=(DEMO,),
        )
        about = (
            "both are finished"
            if done
            else "both are running or queued"
            if begun
            else ui.plain(waiting_time(DEMO))
        )
        st.caption(
            f"{DEMO[0].budget:,} queries of the same kind of pictures, {defense_words(DEMO[1].make_defense())}; {about}"
        )
        st.caption(
            "At β = 1 the owner's error stays what it was, and answers move by a mean l1 near 1.6. One seed, judged "
            "on 10,000 test pictures: an example, no proof."
        )
    again()


def form() -> None:
    """What to launch."""
    st.subheader("New runs", anchor=False)
    card = ui.choose_victim(LAB)
    attack_name = ui.select("Attack", {name: kind.title for name, kind in ATTACKS.items()}, "a_attack")
    pool = choose_pool(card) if ATTACKS[attack_name].needs_pool else None
    budget = st.number_input(
        "Query budget (number of pictures asked)",
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
            "Pretrained: only a head is trained, in 500 steps. `recipe`, `epochs`, `batch`, `lr`, `flip` and `rotations` "
            "have no effect."
        )
    with st.expander("Settings of the attack", icon=":material/psychology:"):
        first = DEMO[0] if attack_name == DEMO[0].attack else None
        attack = ui.attack_parameters(first.make_attack() if first else ATTACKS[attack_name](), LAB)
    defense = ui.choose_defense(prefix=LAB)
    strengths: list[float] = []
    if defense.strength:
        strengths = st.multiselect(
            "More strengths (one run for each)", [x for x in defense.grid if x], key="a_strengths", **ui.IN_URL
        )
    undefended = st.toggle("Also attack the undefended victim", True, key="a_pair", **ui.IN_URL)
    seed = st.number_input("Seed", 0, 10_000, 0, key="a_seed", **ui.IN_URL) if ui.experts() else 0
    with ui.errors_explained():
        thief = (int(budget), pool, clone, int(seed))
        specs = [
            RunSpec(card.name, attack_name, dataclasses.asdict(attack), each.name, each.values(), *thief)
            for each in with_strengths(defense, strengths, undefended=undefended)
        ]
    launch_box(specs)


def choose_pool(card: zoo.Card) -> str:
    """The thief's knowledge, and a data set that goes with it."""
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
        "Pictures that the thief asks about",
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
    """The time it takes, and the button."""
    left = [spec for spec in specs if store.view(store.find(spec.key)).state != "done"]
    done = len(specs) - len(left)
    st.caption(ui.plain(waiting_time(left)) if left else "All of these runs are finished. Nothing will run again.")
    if done and left:
        st.caption(f"{done} of {len(specs)} runs are finished and will not run again.")
    label = "Show" if done == len(specs) else "Launch"
    count = f"{len(specs)} runs" if len(specs) > 1 else "the run"
    st.button(f"{label} {count}", key="a_launch", type="primary", on_click=start, args=(specs,))
    again()


def again() -> None:
    """Redraw the whole page after a button in one part of it was pressed."""
    if st.session_state.pop("a_again", False):
        st.rerun()


def choose_runs(views: list[RunView]) -> list[str]:
    """Which runs are shown; in the address, so that a comparison can be shared."""
    named = {view.key: ("shipped · " if view.shipped else "") + name_of(view) for view in views}
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
    """Keys of the runs that the page was opened with; those that are not here are noted in `a_missing`.

    An address has a run's name, whose last word is the beginning of its key, or the key itself.
    """
    asked = {name: name.split(" ")[-1] for name in st.query_params.get_all("a_runs")}
    found = {name: [key for key in named if word and key.startswith(word)] for name, word in asked.items()}
    st.session_state["a_missing"] = [name for name, keys in found.items() if not keys]
    return [key for keys in found.values() for key in keys[:1]]


def first_runs(views: list[RunView]) -> list[str]:
    """What is shown at first: this machine's runs, those under way before others; else a shipped pair."""
    own = [view for view in views if not view.shipped]
    active = [view.key for view in own if view.active][:4]
    return active or [view.key for view in own][:2] or clearest_pair(views)


def live(shown: list[str], across: str) -> None:
    """Curves and cards of the chosen runs; drawn again every second while one of them works."""
    launch.start_workers()  # should one have been killed, its queue goes on
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
    """Clone error and fidelity of the chosen runs."""
    points, victims = courses_of(views)
    ui.chart(
        plots.run_curves(points, victims, across),
        key="thefts",
        alt=plots.describe_run_curves(points),
        data=points,
    )


def show_run(view: RunView) -> None:
    """One run: where it is, what can be done with it."""
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
        buttons(view)
        details(view)


def buttons(view: RunView) -> None:
    """Stop, resume, duplicate, delete; of a shipped run, duplicate."""
    key = view.key
    with st.container(horizontal=True, gap="small"):
        if view.active:
            stop = partial(launch.stop, view.folder)
            st.button("Stop", key=f"stop-{key}", icon=":material/stop:", on_click=ui.attempt, args=(stop, LAB))
        if view.resumable and view.spec is not None:
            resume = partial(launch.launch, [view.spec])
            st.button(
                "Resume",
                key=f"resume-{key}",
                icon=":material/play_arrow:",
                on_click=ui.attempt,
                args=(resume, LAB),
            )
        if view.spec is not None:
            st.button("Duplicate", key=f"copy-{key}", icon=":material/content_copy:", on_click=duplicate,
                      args=(view.spec,), help="Copy this run's settings to the form.")  # fmt: skip
        if view.state not in ("running", "stopping") and not view.shipped:
            with st.popover("Delete", icon=":material/delete:"):
                size = used_bytes(view.folder) / 1e6
                st.markdown(f"Delete this run, its clone and its result ({size:.1f} MB)? It cannot be undone.")
                remove = partial(store.delete, view.folder)
                st.button(
                    "Yes, delete it", key=f"delete-{key}", type="primary", on_click=ui.attempt, args=(remove, LAB)
                )


def details(view: RunView) -> None:
    """Pictures it asked about, the log, the command."""
    with st.expander("Pictures, log, command", icon=":material/visibility:"):
        found = store.sample(view.folder)
        if found is not None and view.spec is not None:
            strip, answers = found
            st.image(
                strip.resize((strip.width * 2, strip.height * 2), resample=0),
                caption="pictures of the latest queries",
                alt="pictures",
            )
            card = card_of(view.spec.victim)
            classes = card.classes if card else ()
            rows = [
                ", ".join(f"{classes[c] if c < len(classes) else c} {p:.2f}" for c, p in answer)
                for answer in answers
            ]
            if rows:
                st.dataframe(
                    pd.DataFrame({"the victim's (defended) answer": rows}), alt="top classes of each answer"
                )
        st.code(store.log_tail(view.folder) or "no log yet", language=None, wrap_lines=True)
        if view.spec is not None:
            st.code(view.spec.command, language="bash", wrap_lines=True)
        st.caption(f"{ui.plain(view.folder)} · {ui.plain(view.worker or 'no worker yet')}")


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
    """Defended beside undefended: the runs shown, what else was measured, and the paper's."""
    rows, problems = ui.all_results()
    for problem in problems:
        st.warning(ui.plain(problem), icon=":material/report:")
    keys = {view.key for view in views}
    cards = [card_of(view.spec.victim) for view in views if view.spec is not None]
    data = {card.dataset for card in cards if card is not None} or {"signs"}
    here = plots.compared(rows[rows["dataset"].isin(data)], keys, LINES)
    st.subheader("Defended beside undefended", anchor=False)
    if here.empty:
        st.caption("Nothing has been measured on this data yet.")
        return
    ui.chart(plots.pairs(here), key="pairs", alt=plots.describe_pairs(here), data=here)
    st.caption(
        "The runs shown above come first, then other results on the same data. Filled: measured by this code; open: "
        "from the paper; faint: a single seed. All runs on one line differ only in the defense."
    )


def table(views: list[RunView]) -> None:
    """All runs, filtered."""
    st.subheader("All runs", anchor=False)
    first, second = st.columns([1, 2])
    states = first.multiselect("State", list(ICONS), key="a_state", **ui.IN_URL)
    text = second.text_input(
        "A word begins with", key="a_text", placeholder="dcp, textures, dfme ...", **ui.IN_URL
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
            "across",
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
    demo()
    form()
