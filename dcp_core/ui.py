"""The one module that imports Streamlit besides the pages: what every page needs, written once.

Widgets get their name in the URL from `key` and `bind="query-params"`, and keep their value from page to page
by `persist_state="session"`; so a view can be shared by copying its address. Two pages never share a name:
on a switch of pages Streamlit 1.67 drops from the address what the page left behind was bound to, also where
the link says it anew.
"""

import dataclasses
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlencode

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import torch

from dcp_core.attacks import Attack, make_attack
from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.defenses.base import Parameter
from dcp_core.defenses.model_based import ModelBased
from dcp_core.defenses.modelguard_s import Learned, StoredAnswers
from dcp_core.evaluation import guides
from dcp_core.files import home
from dcp_core.models import auxiliary, zoo
from dcp_core.results import rows as result_rows
from dcp_core.results.constraints import L1, L1_LIMITS
from dcp_core.results.schema import ResultsError

PAGES = {  # file in pages/ -> title, icon
    "story": ("Story", "auto_stories"),
    "playground": ("Playground", "tune"),
    "tradeoffs": ("Trade-offs", "balance"),
    "attack_lab": ("Attack lab", "science"),
    "quantized": ("Quantized", "memory"),
    "cost": ("Cost", "timer"),
    "decide": ("Decide", "gavel"),
    "paper": ("Paper", "article"),
}
Name = TypeVar("Name", bound=str)
VIEWS = ("full", "class")
EMBEDDED = "signs-resnet8"  # pages begin with it: its pictures need no download
TRADEOFFS = "t_"  # before the names of that page's widgets, see below
IN_URL: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


def frame(title: str, question: str = "") -> None:
    """Page settings, title and sidebar. The first line of every page, because a deep link right after the
    server's start runs the page without `app.py`; for the same reason the list of pages is drawn here."""
    st.set_page_config(page_title=f"{title} · Model stealing", page_icon=":material/shield:", layout="wide")
    asked = st.query_params.get("view")
    st.session_state["view"] = asked if asked in VIEWS else st.session_state.get("view", VIEWS[0])
    torch.set_num_threads(1)  # one picture at a time; the cores belong to background runs
    _spare_the_collector(len(sys.modules))
    with st.sidebar:
        for page, (label, icon) in PAGES.items():
            link(page, label, icon)
        st.divider()
        st.segmented_control(
            "View",
            VIEWS,
            required=True,
            key="view",
            help="'class' hides the expert controls, for teaching.",
            on_change=_view_to_address,
            persist_state="session",
        )
        # Opening it runs the page, because the address may have changed by what only a part of the page saw.
        with st.popover("Share this view", icon=":material/link:", on_change="rerun"):
            st.caption("Everything you set is in the page's address. Copy it from here or from the browser.")
            st.code(_address(), language=None, wrap_lines=True)
    st.title(title, anchor=False)
    if question:
        st.markdown(f"*{question}*")


@lru_cache(maxsize=64)
def _spare_the_collector(modules: int) -> None:
    """Streamlit collects garbage after every run, with the last charts still waiting to be sent: what imports have
    left (a quarter of a million objects) is passed over, anew whenever there are more modules."""
    gc.freeze()


def _view_to_address() -> None:
    st.query_params["view"] = st.session_state["view"]


def experts() -> bool:
    """Whether expert controls are shown (`?view=class` hides them)."""
    return st.session_state.get("view") != "class"


@contextmanager
def errors_explained() -> Iterator[None]:
    """Show our own errors (ValueErrors written for people) as a sentence and stop the page there."""
    try:
        yield
    except ValueError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def attempt(action: Callable[[], object], prefix: str) -> None:
    """Do something for a button of a page: an error is kept as a sentence in the session's `{prefix}trouble`, and
    `{prefix}again` asks for the whole page to be drawn anew, because a button of a fragment redraws the fragment alone."""
    try:
        action()
    except (ValueError, OSError) as error:
        st.session_state[f"{prefix}trouble"] = str(error)
    st.session_state[f"{prefix}again"] = True


def chart(figure: go.Figure, *, key: str, alt: str, data: pd.DataFrame | None = None, select: bool = False) -> Any:
    """Draw a figure with its downloads: PNG by the camera on the chart, HTML (whose camera saves SVG) and CSV.

    Args:
        alt: one sentence with the figure's conclusion.
        data: the numbers drawn.
        select: return the user's box selection.
    """
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "png", "scale": 2, "filename": key}}
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": ("points", "box")} if select else {}
    selection = st.plotly_chart(figure, key=key, alt=alt, config=config, **options)
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "HTML · SVG",
            lambda: _as_html(figure, key),
            file_name=f"{key}.html",
            mime="text/html",
            key=f"{key}-html",
            type="tertiary",
            icon=":material/download:",
            on_click="ignore",
            help="An interactive page that works offline; its camera button saves the figure as SVG. "
            "The camera on the chart here saves PNG.",
        )
        if data is not None:
            csv(data, key)
    return selection if select else None


def csv(data: pd.DataFrame, key: str, label: str = "CSV") -> None:
    """A button that downloads a table."""
    st.download_button(
        label,
        lambda: data.to_csv(index=False),
        file_name=f"{key}.csv",
        mime="text/csv",
        key=f"{key}-csv",
        type="tertiary",
        icon=":material/table:",
        on_click="ignore",
    )


def victims() -> list[str]:
    """The names of the victims, with a warning for each that cannot be read; without any, the page stops."""
    for problem in zoo.problems():
        st.warning(str(problem), icon=":material/report:")
    known = zoo.names()
    if not known:
        st.error(
            "There is no victim on this machine: run  python -m dcp_core train --data signs --network resnet8"
        )
        st.stop()
    return known


def choose_victim(prefix: str = "") -> zoo.Card:
    """A picker of victims, with what the card says below it; `torchvision:NAME` can be typed in."""
    known = victims()
    _take_short_name(f"{prefix}victim", known)
    name = st.selectbox(
        "Victim",
        known,
        known.index(EMBEDDED) if EMBEDDED in known else 0,
        key=f"{prefix}victim",
        format_func=lambda n: zoo.card(n).title if n in known else n,
        accept_new_options=True,
        help=f"Or type {zoo.TORCHVISION} and the name of a classification model of torchvision.",
        **IN_URL,
    )
    with errors_explained():
        card = load_victim(name).card if str(name).startswith(zoo.TORCHVISION) else zoo.card(str(name))
    accuracy = "accuracy unknown" if card.test_accuracy is None else f"**{card.test_accuracy:.2f} %**"
    st.caption(
        f"{card.architecture} · {card.precision} · {len(card.classes)} classes · {accuracy} "
        f"of {card.test_pictures:,} test pictures · {card.parameters:,} parameters"
        + (f" · sha256 `{card.sha256[:10]}`" if card.sha256 else "")
    )
    return card


def _take_short_name(key: str, names: Sequence[str]) -> None:
    """Streamlit's addresses carry an option's title, so links must too, and drop what is none: a short name, from an
    address written by hand, is taken here, but is not in the address that is shared."""
    if st.query_params.get(key) in names:
        st.session_state[key] = st.query_params[key]


def select(
    label: str, titles: Mapping[Name, str], key: str, start: Name | None = None, help: str | None = None
) -> Name:
    """A selectbox of short names that shows their titles."""
    names = list(titles)
    _take_short_name(key, names)
    first = 0 if start is None else names.index(start)
    return st.selectbox(label, names, first, key=key, format_func=titles.__getitem__, help=help, **IN_URL)


def choose_l1(key: str) -> L1:
    """A picker of what a limit on the mean l1 distance holds for, the same on every page; in the address by `key`."""
    return select(
        "The l1 limit holds for",
        L1_LIMITS,
        key,
        help="A defense may move answers to a thief's pictures further than answers to customers' pictures. The paper's "
        "released code limits the mean over the thief's queries.",
    )


def choose_defense(names: Sequence[str] | None = None, prefix: str = "") -> Defense:
    """A picker of defenses and, below it, a control for each parameter that the chosen one declares."""
    titles = {name: DEFENSES[name].title for name in names or DEFENSES}
    return defense_parameters(select("Defense", titles, f"{prefix}defense", "dcp"), prefix)


def defense_parameters(name: str, prefix: str = "") -> Defense:
    """Controls for the declared parameters of one defense, named `defense_parameter` in the URL."""
    with errors_explained():
        return make_defense(name, **_controls(DEFENSES[name], prefix))


def attack_parameters(start: Attack, prefix: str = "") -> Attack:
    """Controls for the declared parameters of one attack, named `attack_parameter` in the URL; they begin at `start`."""
    with errors_explained():
        return make_attack(start.name, **_controls(start, prefix))


def _controls(kind: type[Defense] | Attack, prefix: str) -> dict[str, Any]:
    declared = kind.parameters()
    values = {key: _control(kind, key, each, prefix) for key, each in declared.items() if not each.expert}
    expert = {key: each for key, each in declared.items() if each.expert}
    if expert and experts():
        with st.expander("More parameters", icon=":material/science:"):
            values |= {key: _control(kind, key, each, prefix) for key, each in expert.items()}
    return values


def _control(kind: type[Defense] | Attack, key: str, declared: Parameter, prefix: str) -> Any:
    default, url = getattr(kind, key), f"{prefix}{kind.name}_{key}"
    if declared.choices == (True, False):
        return st.toggle(key.replace("_", " "), default, key=url, help=declared.help, **IN_URL)
    if declared.choices:
        return st.segmented_control(
            key, declared.choices, default=default, required=True, key=url, help=declared.help, **IN_URL
        )
    if declared.optional:
        if st.toggle(f"{declared.symbol} {declared.optional}", default is None, key=f"{url}_auto", **IN_URL):
            return None
        default = declared.high * 0.6
    whole = isinstance(default, int) and not isinstance(default, bool)
    number: Callable[[float], Any] = int if whole else float
    if isinstance(kind, Attack):  # their ranges are too wide for a slider
        return st.number_input(
            f"{key.replace('_', ' ')} ({declared.symbol})",
            number(declared.low),
            number(declared.high),
            number(default),
            number(declared.step),
            format="%d" if whole else "%.4g",
            key=url,
            help=declared.help,
            **IN_URL,
        )
    return st.slider(
        f"{declared.symbol} ({key})",
        number(declared.low),
        number(declared.high),
        number(default),
        number(declared.step),
        format="%d" if whole else "%.4g",
        key=url,
        help=declared.help,
        **IN_URL,
    )


def link(page: str, label: str, icon: str, **state: Any) -> None:
    """A link to another page that carries state in its address."""
    query = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in state.items()}
    st.page_link(f"pages/{page}.py", label=label, icon=f":material/{icon}:", query_params=query or None)


def defense_state(defense: Defense, prefix: str = "") -> dict[str, Any]:
    """The URL parameters that reproduce a defense in `choose_defense` with that prefix.

    In an address Streamlit names an option as the reader sees it, by its title.
    """
    return {f"{prefix}defense": defense.title} | parameter_state(defense, prefix)


def parameter_state(made: Defense | Attack, prefix: str = "") -> dict[str, Any]:
    """The URL parameters that reproduce the controls of a defense's or an attack's parameters."""
    state: dict[str, Any] = {}
    for key, declared in made.parameters().items():
        value, name = getattr(made, key), f"{prefix}{made.name}_{key}"
        if declared.optional:
            state[f"{name}_auto"] = value is None
        if value is not None:
            state[name] = value
    return state


def armed(defense: Defense, victim: str) -> Defense:
    """A defense with the second network or the stored answers that it needs, which all sessions share.

    Raises:
        ValueError: when they are missing; the message has the command that makes a network.
    """
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return learned(defense, victim)
    return dataclasses.replace(defense, network=_second_network(victim, defense.needs, defense.name, defense))


@st.cache_resource(max_entries=8, show_spinner="Loading the second network ...")
def _second_network(victim: str, needs: str, defense: str, _defense: ModelBased) -> torch.nn.Module | None:
    made = auxiliary.arm(_defense, victim)
    assert isinstance(made, ModelBased)
    return made.network


def learned(defense: Defense, victim: str) -> Defense:
    """A defense with the stored answers that it is learned on; as it is if it is not learned.

    Raises:
        ValueError: for a victim without stored answers.
    """
    return defense.armed(_stored_answers(victim)) if isinstance(defense, Learned) else defense


@st.cache_resource(max_entries=8, show_spinner=False)
def _stored_answers(victim: str) -> StoredAnswers:
    return auxiliary.stored_answers(victim)


def guide_of(defense: Defense, victim: str, seed: int = 0) -> torch.Tensor | None:
    """What a defense draws from the victim's test pictures (N, K), for those that look at pictures.

    Raises:
        ValueError: as `evaluation.guides.guide_of_test_set`.
    """
    if not isinstance(defense, ModelBased):
        return None
    place = st.empty()
    words = f"{defense.title} looks at every test picture, once; the result is kept ..."
    guide = guides.guide_of_test_set(victim, defense, seed=seed, progress=lambda done: place.progress(done, words))
    place.empty()
    return guide


@st.cache_resource(max_entries=4, show_spinner="Loading the victim ...")
def load_victim(name: str) -> zoo.Victim:
    """A victim, shared by all sessions: never changed."""
    return zoo.load(name)


@st.cache_resource(max_entries=8, show_spinner="Reading the victim's answers ...")
def test_answers(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean logits and labels of a victim's test set, shared by all sessions."""
    return zoo.test_answers(name)


def all_results() -> tuple[pd.DataFrame, list[ResultsError]]:
    """All result rows and what is wrong with their files; read again when a file changes. Shared: never changed."""
    return _results(_result_files())


def thief_points() -> pd.DataFrame:
    """Result rows with a thief's error, averaged over seeds. Shared by all sessions: never changed."""
    return _thief_points(_result_files())


def _result_files() -> tuple[tuple[str, int], ...]:
    files = [path for folder in (result_rows.SHIPPED, home() / "results") for path in sorted(folder.glob("*"))]
    return tuple((str(path), path.stat().st_mtime_ns) for path in files)


@st.cache_resource(max_entries=2, show_spinner=False)
def _results(files: tuple[tuple[str, int], ...]) -> tuple[pd.DataFrame, list[ResultsError]]:
    return result_rows.load_results()


@st.cache_resource(max_entries=2, show_spinner=False)
def _thief_points(files: tuple[tuple[str, int], ...]) -> pd.DataFrame:
    return result_rows.thief_points(_results(files)[0])


def _address() -> str:
    query = urlencode(st.query_params.to_dict())
    return f"{st.context.url}?{query}" if query else f"{st.context.url}"


def _as_html(figure: go.Figure, name: str) -> str:
    return figure.to_html(
        config={"toImageButtonOptions": {"format": "svg", "filename": name}, "displaylogo": False}
    )
