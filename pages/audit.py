"""Audits a victim in the background: thieves without and behind defenses, and one report."""

import streamlit as st

from dcp_core import ui
from dcp_core.audit.background import Audit, audit_of, start, stop
from dcp_core.audit.report import PAGE
from dcp_core.audit.request import CLONE_SIZE, Request
from dcp_core.files import PRECOMPUTED, read_regular
from dcp_core.models import zoo
from dcp_core.results.decision import Needs
from dcp_core.runs import launch
from dcp_core.runs.describe import time_words

ui.frame("Audit", "How well can my model be stolen, at what price, and what helps? One report.")

KEY = "u_"
HOURS = {"6 minutes": 0.1, "1 hour": 1.0, "4 hours": 4.0, "12 hours": 12.0}
CLONE_SIZES = (CLONE_SIZE, 64, 128)  # pixels
SAMPLE = PRECOMPUTED / "audit" / PAGE
TALL = 900  # height of the report's window in pixels


def form() -> tuple[zoo.Card, float, Request | None]:
    """Draw the controls. Returns the victim, the hours, and the request: None if it is not possible; the reason is shown."""
    card = ui.choose_victim(KEY)
    time = st.segmented_control(
        "Time", list(HOURS), default="6 minutes", required=True, key=f"{KEY}time", wrap=True, **ui.IN_URL
    )
    st.caption("More time gives more queries, seeds and defenses. A later audit continues where this one ends.")
    price = st.number_input(
        "Price of 1,000 queries (any currency; 0: unknown)", 0.0, 1e6, 0.0, 0.5, key=f"{KEY}price", **ui.IN_URL
    )
    with st.expander("Your limits, and the thief's pictures", icon=":material/tune:"):
        rise = st.slider(
            "Your own error may rise by at most (percentage points)",
            0.0,
            10.0,
            1.0,
            0.25,
            "%g",
            key=f"{KEY}increase",
            **ui.IN_URL,
        )
        l1_of = ui.choose_l1(f"{KEY}l1_of")
        l1 = st.slider("The mean l1 may be at most", 0.0, 2.0, 0.9, 0.05, key=f"{KEY}l1", **ui.IN_URL)
        pool = st.text_input(
            "Pictures that the thief sends",
            key=f"{KEY}pool",
            placeholder="chosen automatically",
            help="A data set's name, or the path of an .npz file or of a folder of pictures on this machine.",
            **ui.IN_URL,
        )
        sizes = sorted({min(side, card.size) for side in CLONE_SIZES})
        clone_size = sizes[0]
        if len(sizes) > 1:
            clone_size = st.segmented_control(
                "Side of the pictures that the thief's network sees (pixels)",
                sizes,
                default=sizes[0],
                required=True,
                key=f"{KEY}clone_size",
                help="Larger pictures can give a better clone. Twice the side takes four times as long.",
                **ui.IN_URL,
            )
    request = None
    try:
        request = Request.of(
            card.name,
            (pool,) if pool else (),
            needs=Needs(rise, l1, l1_of=l1_of),
            price=price or None,
            clone_size=clone_size,
        )
        if not pool and not request.same_kind:
            st.info(
                f"The thief will send `{ui.plain(request.pool)}`, pictures of another kind than the model's. A stronger "
                "thief has pictures like those of your customers: name a folder of such pictures above.",
                icon=":material/photo_library:",
            )
    except ValueError as error:
        st.error(ui.plain(error), icon=":material/error:")
    return card, HOURS[time], request


def begin(request: Request, hours: float) -> None:
    """Start an audit; an error stays on the page until the next attempt."""
    st.session_state.pop(f"{KEY}trouble", None)
    ui.attempt(lambda: start(request, hours), KEY)


@st.fragment(run_every=1.0)
def control(card: zoo.Card, hours: float, request: Request | None) -> None:
    """The button, and the progress of an audit that is running."""
    now = audit_of(card.name)
    if trouble := st.session_state.get(f"{KEY}trouble"):
        st.error(ui.plain(trouble), icon=":material/error:")
    if now.running:
        st.progress(min(0.99, max(0.0, now.fraction)), ui.plain(now.words))
        st.button("Stop", key=f"{KEY}stop", icon=":material/stop:", on_click=stop, args=(card.name,))
        st.caption("It continues when this page is closed. Its runs are on the page Attack lab.")
    else:
        label = "Continue the audit" if now.report else "Start the audit"
        st.button(
            f"{label}: {time_words(hours * 3600)}",
            key=f"{KEY}start",
            type="primary",
            icon=":material/play_arrow:",
            disabled=request is None or not launch.allowed(),
            on_click=begin,
            args=(request, hours),
        )
        if now.message:
            st.caption(ui.plain(now.message))
    if st.session_state.get(f"{KEY}was") not in (None, now.running):
        st.session_state[f"{KEY}was"] = now.running
        st.rerun()  # the report has changed
    st.session_state[f"{KEY}was"] = now.running


def report(card: zoo.Card, now: Audit) -> None:
    """The latest report of this victim, or else the sample."""
    path = now.report or (SAMPLE if SAMPLE.exists() else None)
    if path is None:
        st.info("There is no report of this model yet.")
        return
    if now.report is None:
        st.markdown(
            f"**A sample report**, of the embedded road-sign model `{ui.EMBEDDED}`. Yours will stand here."
        )
    try:
        content = read_regular(path).decode()
    except (OSError, UnicodeError):
        st.error(f"The report {ui.plain(path)} cannot be read. Run the audit again: it writes a new one.")
        return
    st.download_button(
        "Download the report",
        content,
        file_name=f"audit-{card.name if now.report else ui.EMBEDDED}.html",
        mime="text/html",
        icon=":material/download:",
        key=f"{KEY}download",
        on_click="ignore",
        help="One file that works offline and prints.",
    )
    st.iframe(content, height=TALL, alt="The report, as in the downloaded file")


side, main = st.columns([1, 2.4], gap="medium")
with side:
    ui.say_if_launching_is_off()
    chosen, hours_given, wanted = form()
    control(chosen, hours_given, wanted)
with main, ui.errors_explained():
    report(chosen, audit_of(chosen.name))
