"""An example that starts with one click: a small attack on the embedded victim, undefended and behind a defense."""

from typing import Any, cast

import streamlit as st

from dcp_core.models import zoo
from dcp_core.runs import launch, store
from dcp_core.runs.describe import STAGES, defense_facts, stage_of, time_words
from dcp_core.runs.outcome import UNSCORED, sentence_of
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.store import RunView
from dcp_core.runs.waiting import waiting_time
from dcp_core.ui.controls import EMBEDDED
from dcp_core.ui.lab.state import again, start
from dcp_core.ui.page import plain

THIEF: dict[str, Any] = {
    "victim": EMBEDDED,
    "pool": "signs_pool_small",
    "attack_parameters": {"recipe": "strong", "epochs": 10, "batch": 64, "lr": 0.2},
    "budget": 1500,
    "clone": "fast_32_64_64",
}
DEMO = [RunSpec(**THIEF), RunSpec(**THIEF, defense="dcp", defense_parameters={"beta": 1.0})]


@st.fragment(run_every=1.0)
def demo() -> None:
    """Draw the example: its button, its progress, and its result in a sentence."""
    if DEMO[0].victim not in zoo.names():
        return
    views = cast(list[RunView[RunSpec]], [store.view(store.find(spec.key)) for spec in DEMO])
    done = all(view.state == "done" for view in views)
    begun = all(view.state == "done" or view.active for view in views)
    with st.container(horizontal=True, vertical_alignment="center", key="a-demo"):
        st.button(
            "Show the example" if begun else "Try it: steal the example twice",
            key="a_demo",
            icon=":material/visibility:" if begun else ":material/rocket_launch:",
            disabled=not (begun or launch.allowed()),
            on_click=start,
            args=(DEMO,),
            help="Launches two runs: an attack on the embedded road-sign victim, without a defense and with one. This "
            "defense leaves the owner's error as it is, but moves answers by a mean l1 of about 1.6. Each run has one seed: "
            "a difference may be due to chance.",
        )
        if begun and not done:
            share = sum(view.fraction for view in views) / len(views)
            st.progress(min(0.99, share), plain(_where(views)))
        elif done:
            st.caption(plain(sentence_of(views)))
        else:
            st.caption(
                f"{DEMO[0].budget:,} pictures of road signs; undefended, and behind "
                f"{defense_facts(DEMO[1].make_defense())}. Duration: {plain(waiting_time(DEMO))}"
            )
    again()


def _where(views: list[RunView[RunSpec]]) -> str:
    """The progress of the example, as a text."""
    words = []
    for name, view in zip(("undefended", "defended"), views, strict=True):
        stage = stage_of(view)
        words.append(f"{name}: {STAGES[stage] if view.state == 'running' and stage >= 0 else view.state}")
    left = [view.eta for view in views if view.eta is not None]
    words += [f"{time_words(max(left))} to go"] if left else []
    said = sentence_of(views)
    return " · ".join(words) + ("" if said == UNSCORED else f" · {said}")
