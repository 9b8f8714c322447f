"""The card of a run: its stage or result, the latest pictures that it sent, and its buttons."""

import streamlit as st

from dcp_core.runs import store
from dcp_core.runs.describe import STAGES, card_of, facts_of, stage_of, time_words
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.store import RunView
from dcp_core.ui.lab.form import duplicate
from dcp_core.ui.lab.state import LAB
from dcp_core.ui.lab.table import state_words
from dcp_core.ui.page import plain
from dcp_core.ui.runs import run_buttons, run_details

ICONS = {
    "queued": ":material/hourglass_empty:",
    "running": ":material/play_circle:",
    "stopping": ":material/pending:",
    "interrupted": ":material/pause_circle:",
    "failed": ":material/error:",
    "done": ":material/check_circle:",
    "unreadable": ":material/broken_image:",
}
QUIET = 10  # seconds without a message after which the card says so


def show_run(view: RunView[RunSpec]) -> None:
    """Draw the card of a run."""
    with st.container(border=True, key=f"run-{view.key}"):
        spec = view.spec
        included = " · included" if view.shipped else ""
        st.markdown(f"{ICONS[view.state]} **{view.state}** · {plain(facts_of(view))}{included}")
        if spec is None:
            st.caption(plain(view.message))
        else:
            st.caption(f"{plain(spec.victim)} · clone {plain(spec.clone)} · seed {spec.seed} · {view.key[:4]}")
            if view.result is not None:
                _result(view)
            else:
                _progress(view, spec)
            _pictures(view, spec)
        with st.container(horizontal=True, gap="small"):
            run_buttons(view, LAB, "Resume :material/play_arrow:", "this run, its clone and its result")
            if spec is not None:
                st.button("Duplicate", key=f"copy-{view.key}", icon=":material/content_copy:", on_click=duplicate,
                          args=(spec,), help="Copy this run's settings to the form.")  # fmt: skip
        run_details(view)


def _result(view: RunView[RunSpec]) -> None:
    assert view.result is not None
    row = view.result["rows"][0]
    st.markdown(
        f"clone error **{row['adversary_error']:.2f} %** · fidelity {row['fidelity']:.2f} % · owner's error "
        f"{row['victim_error']:.2f} → {row['defender_error']:.2f} %, mean l1 {row['l1']:.3f} · "
        f"{row['n_test']:,} test pictures"
    )


def _progress(view: RunView[RunSpec], spec: RunSpec) -> None:
    """The stages, with the present one marked, and a bar."""
    if view.active:
        now = stage_of(view)
        steps = (
            f":blue-badge[**{name}**]" if stage == now else f":{'green' if stage < now else 'gray'}-badge[{name}]"
            for stage, name in enumerate(STAGES)
        )
        st.markdown(" → ".join(steps))
    words = [
        (view.phase if view.active else "") or state_words(view),
        f"{spec.budget - view.queries:,} queries left",
    ]
    words += [f"{time_words(view.eta)} to go"] if view.eta is not None else []
    if view.state == "running" and view.silence > QUIET:
        words.append(f"no message from its process for {time_words(view.silence)}")
    st.progress(min(0.99, max(0.0, view.fraction)), plain(" · ".join(words)))  # full only when it is done
    if view.message:
        st.caption(plain(view.message))


def _pictures(view: RunView[RunSpec], spec: RunSpec) -> None:
    """The latest pictures that were sent to the victim, and the top classes of its answers."""
    found = store.sample(view.folder)
    if found is None:
        return
    strip, answers = found
    card = card_of(spec.victim)
    classes = card.classes if card else ()
    tops = [
        f"{classes[best] if best < len(classes) else best} {share:.0%}"
        for answer in answers
        for best, share in answer[:1]
    ]
    st.image(
        strip.resize((strip.width * 2, strip.height * 2), resample=0),
        caption=plain(f"Asked: {', '.join(tops)}") if tops else "pictures of the latest queries",
        alt="pictures of the latest queries, side by side",
    )
