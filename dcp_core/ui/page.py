"""The frame of a page: settings, bar with the pages, links between pages, and messages for errors."""

import gc
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import segno
import streamlit as st
import torch
from streamlit.components.v2.types import ComponentRenderer

from dcp_core.files import explained

PAGES = {  # file in pages/ -> title, icon
    "story": ("Story", "auto_stories"),
    "playground": ("Playground", "tune"),
    "tradeoffs": ("Trade-offs", "balance"),
    "attack_lab": ("Attack lab", "science"),
    "quantized": ("Quantized", "memory"),
    "cost": ("Cost", "timer"),
    "decide": ("Decide", "gavel"),
    "audit": ("Audit", "fact_check"),
    "paper": ("Paper", "article"),
    "own": ("Your classifier", "add_circle"),
    "watch": ("Watch", "visibility"),
}
ICON = Path(__file__).parent.with_name("icon.png")  # a symbol of Streamlit's would come from the network
VIEWS = ("full", "class", "present")
VIEW_HELP = (
    "The address of what you see. The view 'class' hides the expert controls. The view 'present' is for a projector: large "
    "type, no downloads; the arrow keys go to the next and previous step of the story, F fills the screen."
)
QR = 280  # side of the QR code in pixels
LARGE = 22  # size of text in the view 'present', in pixels
SKIP = '<a href="#content">Skip to the content</a>'
SKIP_STYLE = """
a { position: absolute; left: -999px; top: 4px; padding: 8px 16px; border-radius: 8px; z-index: 2000;
    font: 16px var(--st-font); white-space: nowrap; color: var(--st-background-color); background: var(--st-text-color); }
a:focus { left: 0; }
"""
MARKUP = re.compile(r"[\\`*\[\]<>$~|#]|\b_|_\b")  # a `_` within a word is none
MOST_TEXT = 1000  # characters of foreign text that are shown


def frame(title: str, question: str = "") -> None:
    """Draw page settings, the bar with the pages, and the title. Every page must call this first.

    A link to a page right after the start of the server runs the page without `app.py`. Therefore the list of pages is
    drawn here, and not there.
    """
    st.set_page_config(page_title=f"{title} · Model stealing", page_icon=ICON, layout="wide")
    _drop_infinite_numbers()
    st.session_state["frame_page"] = next((page for page, (label, _) in PAGES.items() if label == title), "story")
    asked = st.query_params.get("view")
    st.session_state["view"] = asked if asked in VIEWS else st.session_state.get("view", VIEWS[0])
    torch.set_num_threads(1)  # pages compute little; the other cores are for background runs
    _spare_the_collector(len(sys.modules))
    large = _file("present.css") if presenting() else ""
    st.html(f"<style>{_file('frame.css')}{large}{_mark_here(title)}</style>")
    with st.container(key="frame-skip"):
        _skip_link()(key="frame-skip-link", data={"place": _place(title), "presenting": presenting()})
    with st.container(horizontal=True, vertical_alignment="center", key="frame-bar"):
        with st.container(horizontal=True, key="frame-pages"):
            for page, (label, icon) in PAGES.items():
                link(page, label, icon)
        st.segmented_control(
            "View",
            VIEWS,
            required=True,
            key="view",
            on_change=_view_to_address,
            persist_state="session",
            label_visibility="collapsed",
            width="content",
        )
        # Opening the popover reruns the page, because a rerun of a fragment may have changed the URL.
        share = st.popover("Share", icon=":material/link:", on_change="rerun", help=VIEW_HELP, width="content")
        if share.open:
            with share:
                st.caption("The page's address contains all your settings. Copy it from here or from the browser.")
                st.code(_address(), language=None, wrap_lines=True)
                _code_of(_address())
    with st.container(horizontal=True, key="frame-title"):
        st.title(title, anchor=False, width="content")
        if question:
            st.markdown(f"*{question}*", width="content")


def _place(title: str) -> int:
    """The place of a page in the bar, from 0; -1 if the bar does not have it."""
    titles = [label for label, _ in PAGES.values()]
    return titles.index(title) if title in titles else -1


def _mark_here(title: str) -> str:
    """A style that underlines the present page in the bar."""
    return f".st-key-frame-pages > :nth-child({_place(title) + 1}) a {{ box-shadow: inset 0 -2px #e1542b; }}"


@cache
def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _skip_link() -> ComponentRenderer:
    """A component with a link to the page's content, and the roles of the page's parts."""
    return st.components.v2.component("dcp_frame", html=SKIP, css=SKIP_STYLE, js=_file("frame.js"))


def _drop_infinite_numbers() -> None:
    """Remove `inf`, `nan` and `1e999` from the address: Streamlit 1.67 fails to convert them to whole numbers."""
    wrong = [key for key in st.query_params if any(map(_is_infinite, st.query_params.get_all(key)))]
    for key in wrong:
        del st.query_params[key]
    if wrong:
        st.rerun()  # the widgets of this run would still get the values


def _is_infinite(text: str) -> bool:
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _spare_the_collector(modules: int) -> None:
    """Exclude the objects of imported modules from garbage collection, once for each number of imported modules.

    Streamlit collects garbage after every run, before the last charts are sent. Imports leave about 250,000 objects, and
    checking them delays the charts.
    """
    gc.freeze()


def _view_to_address() -> None:
    st.query_params.pop("view", None)
    st.query_params.update(_view_state())


def _view_state() -> dict[str, str]:
    """The URL parameter of the chosen view; none for the default."""
    view = st.session_state.get("view", VIEWS[0])
    return {} if view == VIEWS[0] else {"view": view}


def experts() -> bool:
    """Whether expert controls are shown: only in the full view."""
    return st.session_state.get("view", VIEWS[0]) == VIEWS[0]


def presenting() -> bool:
    """Whether the page is shown to a class on a projector (`?view=present`)."""
    return st.session_state.get("view") == "present"


def link(page: str, label: str, icon: str, **state: Any) -> None:
    """Draw a link to another page that carries the chosen view.

    Args:
        page: file name in `pages/`, without `.py`.
        state: URL parameters of the link.
    """
    state = _view_state() | state
    query = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in state.items()}
    st.page_link(f"pages/{page}.py", label=label, icon=f":material/{icon}:", query_params=query or None)


def link_here(label: str, icon: str, **state: str) -> None:
    """Draw a link to the present page that adds to its address. A click stops the run of the page, also of a fragment: a
    button in a fragment is heard only after the fragment's present run."""
    asked = [(key, value) for key in st.query_params for value in st.query_params.get_all(key) if key not in state]
    page = f"pages/{st.session_state['frame_page']}.py"
    st.page_link(page, label=label, icon=f":material/{icon}:", query_params=[*asked, *state.items()])


def _address() -> str:
    query = urlencode(st.query_params.to_dict())
    return f"{st.context.url}?{query}" if query else f"{st.context.url}"


def _code_of(address: str) -> None:
    """The address as a QR code, for the phones of a class."""
    try:
        drawn = segno.make(address, error="l", micro=False).svg_inline(border=3, light="white", omitsize=True)
    except segno.DataOverflowError:
        st.caption("This address is too long for a QR code.")
        return
    st.image(drawn, alt="QR code of this address", width=QR * (LARGE if presenting() else 16) // 16)
    if urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1"):
        st.caption(
            "A phone cannot open this address, because it means the device itself. Open this page by the name or IP address "
            "that this machine has in the network."
        )


def plain(text: object) -> str:
    """Text from an address, a file or an error message, so that Markdown shows it as it is: on one line, without
    pictures, links, formulas or other markup. At most `MOST_TEXT` characters."""
    line = " ".join(str(text).split())
    line = line if len(line) <= MOST_TEXT else line[:MOST_TEXT] + " ..."
    return MARKUP.sub(r"\\\g<0>", line)


@contextmanager
def errors_explained() -> Iterator[None]:
    """Show a ValueError as a message and stop the page. This project's ValueErrors have messages for users."""
    try:
        yield
    except ValueError as error:
        st.error(plain(error), icon=":material/error:")
        st.stop()


def attempt(action: Callable[[], object], prefix: str) -> None:
    """Run the action of a button. The message of an error is stored in the session state as `{prefix}trouble`.

    `{prefix}again` is set to True, which asks for a rerun of the whole page: a button in a fragment reruns only the
    fragment.
    """
    try:
        action()
    except ValueError as error:
        st.session_state[f"{prefix}trouble"] = str(error)
    except OSError as error:
        st.session_state[f"{prefix}trouble"] = explained(error, "try again")
    st.session_state[f"{prefix}again"] = True
