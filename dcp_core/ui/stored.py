"""Data that pages read from disk or compute only once, for all sessions: victims, answers, guides and result rows."""

import dataclasses

import pandas as pd
import streamlit as st
import torch

from dcp_core.data.datasets import DataError, available, test_picture
from dcp_core.data.sources import SIGNS_TEST
from dcp_core.data.synthetic import signs
from dcp_core.data.tensors import sharpness
from dcp_core.defenses import Defense
from dcp_core.defenses.model_based import ModelBased
from dcp_core.defenses.modelguard_s import Learned, StoredAnswers
from dcp_core.evaluation import guides
from dcp_core.files import home
from dcp_core.models import auxiliary, zoo
from dcp_core.results import rows as result_rows
from dcp_core.results.schema import ResultsError
from dcp_core.ui.page import link_here

CANCELLED = "cancelled"  # in the address of a link: the defense whose guide is not to be computed
LOOKED = 512  # number of test pictures among which clear ones are searched


@st.cache_resource(max_entries=4, show_spinner="Loading the victim ...")
def load_victim(name: str) -> zoo.Victim:
    """A victim. All sessions share it, so it must not be changed."""
    return zoo.load(name)


@st.cache_resource(max_entries=8, show_spinner="Reading the victim's answers ...")
def test_answers(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean logits (N, K) and labels (N,) of a victim's test set. All sessions share them."""
    return zoo.test_answers(name)


@st.cache_resource(max_entries=8, show_spinner="Looking for clear pictures ...")
def clear_pictures(dataset: str, size: int) -> torch.Tensor | None:
    """Test pictures of a data set that a person recognises easily, bool (N,): the clearest eighth of the first ones.

    None if the pictures cannot be read on this machine.
    """
    looked = min(size, LOOKED)
    try:
        if dataset == "signs":  # drawn one by one they take minutes
            pictures = signs(looked, SIGNS_TEST)[0]
        elif available(dataset):
            pictures = torch.stack([test_picture(dataset, number) for number in range(looked)])
        else:
            return None
    except DataError:
        return None
    clear = torch.zeros(size, dtype=torch.bool)
    clear[sharpness(pictures).topk(max(1, looked // 8)).indices] = True
    return clear


def armed(defense: Defense, victim: str) -> Defense:
    """A defense with the second network or the stored answers that it needs. All sessions share the network.

    Raises:
        ValueError: if they are missing. The message has the command that trains the network.
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
    """A defense with the stored answers from which its codebook is computed; a defense without a codebook is unchanged.

    Raises:
        ValueError: for a victim without stored answers.
    """
    return defense.armed(_stored_answers(victim)) if isinstance(defense, Learned) else defense


@st.cache_resource(max_entries=8, show_spinner=False)
def _stored_answers(victim: str) -> StoredAnswers:
    return auxiliary.stored_answers(victim)


def guide_of(defense: Defense, victim: str, seed: int = 0) -> torch.Tensor | None:
    """The guide (N, K) of a model-based defense for the victim's test set; None for other defenses. Shows the progress.

    Raises:
        ValueError: as `evaluation.guides.guide_of_test_set`.
    """
    if not isinstance(defense, ModelBased):
        return None
    cancelled = f"cancelled-{victim}-{defense.name}"
    if st.query_params.get(CANCELLED) == defense.name:
        del st.query_params[CANCELLED]
        st.session_state[cancelled] = True
    place = st.empty()
    if st.session_state.get(cancelled):
        with place.container():
            st.info(f"Cancelled: {defense.title} needs the guide of every test picture.", icon=":material/cancel:")
            st.button("Compute it", key=f"again-{defense.name}", on_click=_set, args=(cancelled, False))
        st.stop()
    with place.container():
        bar = st.empty()
        button = st.empty()

    def tell(done: float) -> None:
        if not done_before:  # a stored guide needs no button
            with button:
                link_here("Cancel", "cancel", **{CANCELLED: defense.name})
        done_before.append(done)
        bar.progress(done, f"{defense.title} computes its guide for every test picture, once; {done:.0%} done ...")

    done_before: list[float] = []
    guide = guides.guide_of_test_set(victim, defense, seed=seed, progress=tell)
    place.empty()
    return guide


def _set(key: str, value: object) -> None:
    st.session_state[key] = value


def all_results() -> tuple[pd.DataFrame, list[ResultsError]]:
    """All result rows, and the problems of their files. Files are read again if they change.

    All sessions share the rows, so they must not be changed.
    """
    return _results(_result_files())


def thief_points() -> pd.DataFrame:
    """Result rows with a thief's error, averaged over seeds. All sessions share them, so they must not be changed."""
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
