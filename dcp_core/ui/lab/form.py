"""The form for new runs, which opens in a popover."""

import dataclasses
from typing import Any

import streamlit as st

from dcp_core.attacks import ATTACKS
from dcp_core.data.datasets import DATASETS, Knowledge, available, pools_for, thief_knowledge
from dcp_core.models import zoo
from dcp_core.models.architectures import CLONES
from dcp_core.models.pretrained import FROZEN, weights_file
from dcp_core.runs import launch, store
from dcp_core.runs.describe import card_of
from dcp_core.runs.outlook import outlook, usual_budget
from dcp_core.runs.plans import with_strengths
from dcp_core.runs.spec import LEAST_SIDE, USUAL_SIDE, RunSpec
from dcp_core.runs.waiting import waiting_time
from dcp_core.ui.controls import (
    IN_URL,
    attack_parameters,
    choose_defense,
    choose_victim,
    parameter_state,
    select,
)
from dcp_core.ui.lab.demo import DEMO
from dcp_core.ui.lab.state import LAB, again, set_next, start
from dcp_core.ui.page import errors_explained, experts, plain
from dcp_core.ui.stored import thief_points

OPENING = ("victim", "attack", "defense", "budget", "knowledge", "clone", "seed", "strengths", "pair")
"""Controls whose presence in the address opens the form at once."""


def new_runs() -> None:
    """Draw the button that opens the form. The form is open at first if the address has a part of it, and no runs."""
    if "a_new" not in st.session_state:
        asked = any(f"{LAB}{name}" in st.query_params for name in OPENING)
        st.session_state["a_new"] = asked and "a_runs" not in st.query_params
    box = st.popover("New attack", key="a_new", type="primary", icon=":material/add:", on_change="rerun")
    with box, st.container(key="a-form"):
        with st.container(key="a-fields"):
            specs = _form()
        st.fragment(_launch, run_every=1.0 if box.open else None)(specs)


def _form() -> list[RunSpec]:
    """The controls of the form, and the runs that they describe."""
    left, right = st.columns(2, gap="medium")
    with left:
        attack_name = select("Attack", {name: kind.title for name, kind in ATTACKS.items()}, "a_attack")
        card = choose_victim(LAB)
        pool = _choose_pool(card) if ATTACKS[attack_name].needs_pool else None
        budget = _choose_budget(attack_name)
        about = st.container()
    with right:
        defense = choose_defense(prefix=LAB)
        strengths: list[float] = []
        if defense.strength:
            strengths = st.multiselect(
                "More strengths (one run for each)", [x for x in defense.grid if x], key="a_strengths", **IN_URL
            )
        undefended = st.toggle("Also attack the undefended victim", True, key="a_pair", wrap=True, **IN_URL)
        with st.expander("Clone and settings of the attack", icon=":material/psychology:"):
            clone, clone_size = _choose_clone(attack_name, card)
            first = DEMO[0] if attack_name == DEMO[0].attack else None
            attack = attack_parameters(first.make_attack() if first else ATTACKS[attack_name](), LAB)
            seed = st.number_input("Seed", 0, 10_000, 0, key="a_seed", **IN_URL) if experts() else 0
    with errors_explained():
        thief = (int(budget), pool, clone, int(seed), clone_size)
        specs = [
            RunSpec(card.name, attack_name, dataclasses.asdict(attack), each.name, each.values(), *thief)
            for each in with_strengths(defense, strengths, undefended=undefended)
        ]
    with about:
        _say_outlook(specs[0])
    return specs


def _choose_budget(attack: str) -> int:
    """Let the user choose the number of queries. Another attack brings another usual number."""
    usual = usual_budget(thief_points(), attack)
    if st.session_state.get("a_budget_of", attack) != attack:
        st.session_state["a_budget"] = usual
    st.session_state["a_budget_of"] = attack
    return st.number_input(
        "Query budget (number of pictures sent)", 1, 100_000_000, usual, 1000, key="a_budget", **IN_URL
    )


def _say_outlook(spec: RunSpec) -> None:
    """Show what clones earlier runs achieved with similar query budgets."""
    found = outlook(thief_points(), spec)
    if found.hopeless:
        st.warning(plain(found.words), icon=":material/trending_flat:")
    elif found.words:
        st.caption(plain(found.words))


def _choose_clone(attack: str, card: zoo.Card) -> tuple[str, int]:
    """The architecture of the clone, and the side of the pictures that it sees, 0 for the usual one."""
    clone = st.selectbox(
        "Network of the clone", CLONES, CLONES.index(ATTACKS[attack].usual_clone), key="a_clone", **IN_URL
    )
    if clone == FROZEN:
        with errors_explained():
            weights_file()  # says how to get them
        st.caption(
            "Pretrained: only the last layers (the head) are trained, in 500 steps. The settings of the training "
            "have no effect."
        )
    if card.size <= USUAL_SIDE or clone == FROZEN:
        return clone, 0
    size = st.number_input(
        "Side of the pictures that the clone sees",
        LEAST_SIDE,
        card.size,
        USUAL_SIDE,
        8,
        key="a_clone_size",
        help="The victim still sees its own size. Large pictures take much longer.",
        **IN_URL,
    )
    return clone, 0 if size == USUAL_SIDE else int(size)


def _choose_pool(card: zoo.Card) -> str:
    """Let the user choose the thief's knowledge, and a query pool that fits it.

    For a victim of unknown training pictures, no stored data set is known to be similar.
    """
    knowledge: Knowledge = "limited"
    if card.dataset in DATASETS:
        knowledge = st.segmented_control(
            "The thief's knowledge",
            ["knowledgeable", "limited"],
            default="knowledgeable",
            required=True,
            key="a_knowledge",
            help="knowledgeable: the thief has pictures similar to the victim's training pictures. limited: the thief has "
            "other pictures.",
            **IN_URL,
        )
    pool = st.selectbox(
        "Query pool (pictures that the thief sends)",
        pools_for(card.dataset, card.size, knowledge),
        key=f"a_pool_{knowledge}",
        format_func=lambda n: (
            (DATASETS[n].title if n in DATASETS else n) + ("" if available(n) else " (not here)")
        ),
        accept_new_options=True,
        help="You can also type the path of an .npz file or a folder of pictures on this machine.",
        **IN_URL,
    )
    if card.dataset not in DATASETS and pool in DATASETS:
        st.caption(
            "These pictures are probably of another kind than the victim's. For a stronger thief, type the path of a folder "
            "with pictures like those of your customers."
        )
    return pool


def _launch(specs: list[RunSpec]) -> None:
    """The estimated duration, and the button that launches the runs."""
    left = [spec for spec in specs if store.view(store.find(spec.key)).state != "done"]
    done = len(specs) - len(left)
    said = f"{done} of {len(specs)} runs are finished and will not run again. " if done and left else ""
    said += waiting_time(left) if left else "All of these runs are finished. Nothing will run again."
    label = "Show" if done == len(specs) else "Launch"
    count = f"{len(specs)} runs" if len(specs) > 1 else "the run"
    with st.container(horizontal=True, vertical_alignment="center"):
        off = bool(left) and not launch.allowed()
        st.button(f"{label} {count}", key="a_launch", type="primary", disabled=off, on_click=start, args=(specs,))
        st.caption(plain(said))
    again()


def duplicate(spec: RunSpec) -> None:
    """Fill the form with a run, open it, and scroll to it."""
    state: dict[str, Any] = parameter_state(spec.make_attack(), LAB) | parameter_state(spec.make_defense(), LAB)
    names = ("victim", "attack", "defense", "clone", "budget", "seed")
    state |= {f"{LAB}{name}": getattr(spec, name) for name in names}
    state |= {"a_budget_of": spec.attack, "a_strengths": [], "a_pair": False, "a_new": True}
    state |= {"a_copies": st.session_state.get("a_copies", 0) + 1}
    if spec.clone_size:
        state["a_clone_size"] = spec.clone_size
    if spec.pool is not None:
        card = card_of(spec.victim)
        knows = thief_knowledge(card.dataset if card else "", spec.pool)
        state |= {"a_knowledge": knows, f"a_pool_{knows}": spec.pool}
    set_next(state)
